//! Everything that can be wrong with a checkpoint, as one sentence each.

use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint cannot be converted. The text names the file, the tensor or the field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message of each variant documents it")]
pub enum Error {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },

    #[error("{}: is not the JSON that was expected: {error}", path.display())]
    Json {
        path: PathBuf,
        error: serde_json::Error,
    },

    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },

    #[error("{}: this is {what}, which cannot be converted; {instead}", path.display())]
    Unsupported {
        path: PathBuf,
        what: String,
        instead: String,
    },

    #[error("{}: tensor {tensor:?} {message}", path.display())]
    Tensor {
        path: PathBuf,
        tensor: String,
        message: String,
    },

    #[error("{}: tensor {tensor:?} is missing; {advice}", path.display())]
    MissingTensor {
        path: PathBuf,
        tensor: String,
        advice: String,
    },

    #[error("interrupted")]
    Cancelled,

    #[error(transparent)]
    Recipe(#[from] fourfold_quantize::recipe::Error),

    #[error(transparent)]
    Blocks(#[from] fourfold_quantize::block::Mismatch),

    #[error(transparent)]
    Gguf(#[from] fourfold_quantize::gguf::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            path: path.to_owned(),
            error,
        }
    }

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| Self::Json {
            path: path.to_owned(),
            error,
        }
    }

    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, message: impl Into<String>) -> Self {
        Self::Tensor {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn unsupported(
        path: &Path,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            what: what.into(),
            instead: instead.into(),
        }
    }
}
