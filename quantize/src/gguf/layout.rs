//! What a file will hold, before any of it is written: metadata, tensors, their sizes.

use super::error::{Error, Fault, Result};
use super::foreign::TensorType;
use super::metadata::Metadata;
use super::{DEFAULT_ALIGNMENT, align_up};
use crate::dtype::DType;
use std::collections::HashSet;

/// How many dimensions a tensor can have.
pub const MAX_DIMS: usize = 4;
/// How long a tensor's name can be: ggml keeps 64 bytes, one of them a terminator.
pub const MAX_NAME_BYTES: usize = 63;

/// The metadata and tensors of a file to be written.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Declared>,
    names: HashSet<String>,
}

/// One tensor of a file to be written.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<u64>,
    pub size: u64,
}

impl Layout {
    /// A file with this metadata and no tensors yet. The writer sets `general.alignment` and the keys of split files
    /// itself, so they are taken out.
    pub fn new(mut metadata: Metadata) -> Self {
        for key in [
            "general.alignment",
            "split.no",
            "split.count",
            "split.tensors.count",
        ] {
            metadata.remove(key);
        }
        Layout {
            metadata,
            tensors: Vec::new(),
            names: HashSet::new(),
        }
    }

    /// Declares the next tensor, with its dimensions in GGML's order (fastest first), and gives it a number.
    pub fn add_tensor(&mut self, name: &str, dtype: DType, dims: &[u64]) -> Result<usize> {
        let size = checked_tensor(name, dtype, dims).map_err(|fault| Error::new("", fault))?;
        if !self.names.insert(name.to_owned()) {
            let name = name.to_owned();
            return Err(Error::new("", Fault::DuplicateTensor { name }));
        }
        self.tensors.push(Declared {
            name: name.to_owned(),
            dtype,
            dims: dims.to_vec(),
            size,
        });
        Ok(self.tensors.len() - 1)
    }

    /// Bytes of one tensor.
    pub fn tensor_bytes(&self, index: usize) -> u64 {
        self.tensors[index].size
    }

    /// Bytes of all tensors, each padded to the default alignment: the size of the file without its metadata.
    pub fn data_bytes(&self) -> u64 {
        self.tensors
            .iter()
            .map(|tensor| align_up(tensor.size, DEFAULT_ALIGNMENT).unwrap_or(u64::MAX))
            .fold(0, u64::saturating_add)
    }
}

fn checked_tensor(name: &str, dtype: DType, dims: &[u64]) -> std::result::Result<u64, Fault> {
    if name.is_empty() {
        return Err(Fault::EmptyTensorName { index: 0 });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Fault::TensorNameTooLong {
            name: name.to_owned(),
            length: name.len() as u64,
            most: MAX_NAME_BYTES as u64,
        });
    }
    if dims.len() > MAX_DIMS {
        return Err(Fault::TooManyDims {
            name: name.to_owned(),
            count: dims.len() as u32,
            most: MAX_DIMS as u32,
        });
    }
    tensor_size(name, dtype.into(), dims)
}

/// Bytes of a tensor, after checking that its dimensions make sense.
pub(super) fn tensor_size(
    name: &str,
    tensor_type: TensorType,
    dims: &[u64],
) -> std::result::Result<u64, Fault> {
    if dims.contains(&0) {
        return Err(Fault::ZeroDim {
            name: name.to_owned(),
            dims: dims.to_vec(),
        });
    }
    let columns = dims.first().copied().unwrap_or(1);
    if !columns.is_multiple_of(tensor_type.block_len) {
        return Err(Fault::PartialBlock {
            name: name.to_owned(),
            columns,
            block: tensor_type.block_len,
            type_name: tensor_type.name,
        });
    }
    // 63 bits, as in ggml, where counts are signed; both the elements and the bytes must fit.
    let elements = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
    let size = tensor_type.byte_size(dims);
    match (elements, size) {
        (Some(elements), Some(size)) if elements <= i64::MAX as u64 && size <= i64::MAX as u64 => {
            Ok(size)
        }
        _ => Err(Fault::DimsOverflow {
            name: name.to_owned(),
            dims: dims.to_vec(),
        }),
    }
}
