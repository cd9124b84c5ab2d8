//! Where a file that is being written will stand, and what may not stand there already.

use std::path::{Path, PathBuf};

use super::error::{Error, Fault, Result};
use super::split;
use crate::file;

/// The names of the parts of a file that is to have this name; its own, if there is one part.
pub fn names(path: &Path, count: u64) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.to_owned()];
    }
    let prefix = match split::parse(path) {
        Some((prefix, ..)) => prefix,
        None => path.with_extension(""),
    };
    (1..=count)
        .map(|number| split::part_path(&prefix, number, count))
        .collect()
}

/// Where a file of this name will be put. What stands there already may be a file at most, and that only if files may be
/// replaced.
pub fn resolve(target: PathBuf, overwrite: bool) -> Result<PathBuf> {
    let place = file::destination(&target);
    let place = place.map_err(|obstacle| Error::new(&target, Fault::Obstacle(obstacle)))?;
    if !overwrite && place.symlink_metadata().is_ok() {
        return Err(Error::new(target, Fault::Exists));
    }
    Ok(place)
}

/// What a file is called until it is whole.
pub fn temporary(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".partial");
    PathBuf::from(path)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn refusal(target: &Path) -> String {
        let faults = [false, true].map(|overwrite| resolve(target.to_owned(), overwrite));
        let [first, forced] = faults.map(|outcome| outcome.unwrap_err().to_string());
        // Not one that advises to allow overwriting, which does not help.
        assert_eq!(first, forced);
        first
    }

    #[test]
    fn only_files_are_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let [to_pipe, to_folder, dangling] = ["a", "b", "c"].map(|name| folder.path().join(name));
        symlink(&pipe, &to_pipe).unwrap();
        symlink(folder.path(), &to_folder).unwrap();
        symlink("absent", &dangling).unwrap();
        assert!(refusal(&pipe).contains("not a regular file"));
        assert!(refusal(&to_pipe).contains("not a regular file"));
        assert!(refusal(folder.path()).contains("is a directory"));
        assert!(refusal(&to_folder).contains("is a directory"));
        assert!(refusal(&dangling).contains("link to nothing"));
    }

    #[test]
    fn a_link_to_a_file_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real.gguf");
        let link = folder.path().join("link.gguf");
        assert_eq!(resolve(link.clone(), true).unwrap(), link);
        fs::write(&real, b"old").unwrap();
        symlink("real.gguf", &link).unwrap();
        assert_eq!(resolve(link.clone(), true).unwrap(), real);
        let error = resolve(link, false).unwrap_err();
        assert!(matches!(error.fault(), Fault::Exists), "{error}");
    }
}
