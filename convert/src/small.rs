//! The small files of a checkpoint, which are read whole: none may be so large that this would hurt.

use std::io;
use std::path::Path;

use fourfold_quantize::file;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// tokenizer.json of gpt-oss has 28 MB.
pub const MAX_TOKENIZER: u64 = 64 << 20;
/// The others have some kilobytes, the index of a checkpoint with a tensor for each expert a few megabytes. Parsed, the
/// densest JSON takes forty times its own size.
const MAX_OTHER: u64 = 16 << 20;

/// What a JSON file says.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read_json_up_to(path, MAX_OTHER)
}

/// As [`read_json`], for a file of at most `most` bytes.
pub fn read_json_up_to<T: DeserializeOwned>(path: &Path, most: u64) -> Result<T> {
    let text = file::read(path, most).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(Error::json(path))
}

/// What a text file says.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = file::read(path, MAX_OTHER).map_err(Error::io(path))?;
    String::from_utf8(bytes)
        .map_err(|error| Error::io(path)(io::Error::new(io::ErrorKind::InvalidData, error)))
}
