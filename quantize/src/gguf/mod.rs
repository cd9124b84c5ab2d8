//! The GGUF container: reading from a map, writing, splitting.
//!
//! A file is a header, metadata (keys with typed values), one record per tensor, and then the tensors' bytes.
//! [`Gguf`] maps a file, or every part of a split one, and lends its tensors out without copying them;
//! [`Writer`] lays a new file out and takes the tensors' bytes from many threads at once.
//! A file from somewhere else is hostile until checked: every way one can lie has its own [`Fault`].

mod error;
mod foreign;
pub mod keys;
mod layout;
mod metadata;
mod ollama;
mod parse;
mod read;
pub mod split;
mod value;
pub mod vocabulary;
mod write;

pub use error::{Error, Fault, Place, Result};
pub use foreign::TensorType;
pub use layout::{Layout, MAX_DIMS, MAX_NAME_BYTES};
pub use metadata::Metadata;
pub use read::{Gguf, TensorInfo, TensorView};
pub use value::{Array, Scalar, Strings, Value, ValueType};
pub use write::{WriteOptions, Writer};

/// What tensors' offsets are multiples of when `general.alignment` does not say otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// `size` rounded up to a multiple of `alignment`, a power of two; `None` if that overflows.
pub(crate) fn align_up(size: u64, alignment: u64) -> Option<u64> {
    Some(size.checked_add(alignment - 1)? & !(alignment - 1))
}
