//! Which file a MODEL argument means.

use anyhow::bail;
use fourfold_quantize::gguf::Gguf;
use std::path::Path;

/// Opens the model that was named.
pub fn open(path: Option<&Path>) -> anyhow::Result<Gguf> {
    match path {
        Some(path) => Ok(Gguf::open(path)?),
        None => bail!(
            "no model was named and this build has none of its own: give the path of a .gguf file"
        ),
    }
}
