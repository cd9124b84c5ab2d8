//! Text that a command is given: a file, or standard input where the file is called -.

use anyhow::{Context, anyhow, bail};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More text than this is longer than any context, and rather the wrong file: 131,072 tokens of at most 128 bytes are 16 MiB.
pub const MOST_BYTES: u64 = 64 << 20;

/// The bytes of an input.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    match is_pipe(path) {
        true => limited(Ok(std::io::stdin()), &name(path)),
        false => limited(File::open(path), &name(path)),
    }
}

/// The same as text.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    to_text(read(path)?, &name(path))
}

/// The text in a file, whatever it is called: where standard input is somebody's keyboard or the prompt.
pub fn read_text_file(path: &Path) -> anyhow::Result<String> {
    let name = format!("{path:?}");
    to_text(limited(File::open(path), &name)?, &name)
}

fn limited(source: io::Result<impl Read>, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .and_then(|source| source.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!(
            "{name} is longer than {} MiB: give a part of it",
            MOST_BYTES >> 20
        );
    }
    Ok(bytes)
}

/// What messages call an input.
pub fn name(path: &Path) -> String {
    match is_pipe(path) {
        true => "standard input".into(),
        false => format!("{path:?}"),
    }
}

/// Whether the path stands for standard input.
pub fn is_pipe(path: &Path) -> bool {
    path == Path::new("-")
}

/// The text in these bytes, without the byte order mark that some editors put before it: JSON knows none, and to a model it
/// would be a letter.
fn to_text(bytes: Vec<u8>, name: &str) -> anyhow::Result<String> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        anyhow!("{name} is no UTF-8 text: byte {position} starts no character")
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_order_mark_is_left_out() {
        let text = |bytes: &[u8]| to_text(bytes.to_vec(), "x").unwrap();
        assert_eq!(text(b"\xEF\xBB\xBF{}"), "{}");
        assert_eq!(
            text("\u{feff}\u{feff}a\u{feff}".as_bytes()),
            "\u{feff}a\u{feff}"
        );
    }

    #[test]
    fn binary_files_are_refused_with_the_place() {
        let error = to_text(vec![b'a', 0xC3, 0x28], "\"x.bin\"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"x.bin\" is no UTF-8 text: byte 1 starts no character"
        );
    }
}
