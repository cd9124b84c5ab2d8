//! The names of the parts of a split model: `NAME-00001-of-00003.gguf`.
//!
//! The other parts are found only by replacing the end of the first part's name, so nothing that stands in a file can
//! make a part come from another folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The end of the name of part `number`, counted from 1.
pub fn suffix(number: u64, count: u64) -> String {
    format!("-{number:05}-of-{count:05}.gguf")
}

/// The path of part `number` of a model whose parts are `PREFIX-….gguf`.
pub fn part_path(prefix: &Path, number: u64, count: u64) -> PathBuf {
    let mut path = OsString::from(prefix);
    path.push(suffix(number, count));
    PathBuf::from(path)
}

/// A path taken apart into prefix, part number (from 1) and count, if it is named like a part.
pub fn parse(path: &Path) -> Option<(PathBuf, u64, u64)> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| -> Option<u64> {
        let plain = text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok())?
    };
    let (number, count) = (digits(number)?, digits(count)?);
    if prefix.is_empty() || number == 0 || number > count {
        return None;
    }
    Some((path.with_file_name(prefix), number, count))
}

/// The names of the parts of a file that is to have this name; its own, if there is one part.
pub fn names(path: &Path, count: u64) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.to_owned()];
    }
    let prefix = match parse(path) {
        Some((prefix, ..)) => prefix,
        None => path.with_extension(""),
    };
    (1..=count)
        .map(|number| part_path(&prefix, number, count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        let path = Path::new("models/gpt-oss-00002-of-00003.gguf");
        let (prefix, number, count) = parse(path).unwrap();
        assert_eq!(
            (&*prefix, number, count),
            (Path::new("models/gpt-oss"), 2, 3)
        );
        assert_eq!(part_path(&prefix, number, count), path);
        for other in [
            "gpt-oss.gguf",
            "a-00000-of-00003.gguf",
            "a-00004-of-00003.gguf",
            "a-1-of-3.gguf",
            "a-+0001-of-00003.gguf",
            "-00001-of-00002.gguf",
            "a-00001-of-00003.bin",
        ] {
            assert_eq!(parse(Path::new(other)), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn parts_never_leave_the_folder_of_the_first(
            name in "[./\\\\a-]{0,12}",
            number in 1u64..4,
        ) {
            let path = PathBuf::from(format!("folder/{name}{}", suffix(number, 3)));
            if let Some((prefix, _, count)) = parse(&path) {
                let part = part_path(&prefix, 3, count);
                prop_assert_eq!(part.parent(), path.parent());
            }
        }
    }
}
