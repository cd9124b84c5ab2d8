//! Tensor types that occur in files but that this program does not compute with: enough to list them and say what they are.

use crate::dtype::DType;

/// A tensor type as a file names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Its number in the file.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    /// Elements in one block.
    pub block_len: u64,
    /// Bytes of one block.
    pub block_bytes: u64,
    /// The same type as one that can be computed with, if it can.
    pub dtype: Option<DType>,
}

/// What Ollama's files of August 2025 call type 4: MXFP4 with the two nibbles of neighbours in one byte,
/// where type 39 pairs the first half of a block with the second.
pub(super) const OLLAMA_MXFP4: u32 = 4;

/// `(id, name, elements, bytes)` of a block of each type that exists and has no [`DType`].
const FOREIGN: &[(u32, &str, u64, u64)] = &[
    (OLLAMA_MXFP4, "MXFP4 (Ollama)", 32, 17),
    (9, "Q8_1", 32, 36),
    (15, "Q8_K", 256, 292),
    (19, "IQ1_S", 256, 50),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

impl TensorType {
    /// The type with this number, or a hint why there is none.
    pub fn from_id(id: u32) -> Result<TensorType, &'static str> {
        if let Some(dtype) = DType::from_id(id) {
            return Ok(TensorType::from(dtype));
        }
        if let Some(&(id, name, block_len, block_bytes)) = FOREIGN.iter().find(|row| row.0 == id) {
            return Ok(TensorType {
                id,
                name,
                block_len,
                block_bytes,
                dtype: None,
            });
        }
        Err(match id {
            5 | 31..=33 | 36..=38 => {
                " any more: it was removed from the format, so convert the model again"
            }
            43..64 => "; the file may be from a program newer than this one",
            _ => "; the file is damaged",
        })
    }

    /// What to do about a type that cannot be computed with.
    pub fn advice(self) -> &'static str {
        match self.id {
            OLLAMA_MXFP4 => {
                ": Ollama gave out such files before October 2025; `ollama pull` the model again, or use its GGUF file from Hugging Face"
            }
            _ => "; use the model in another quantization",
        }
    }

    /// Bytes of a tensor with these dimensions; `None` if it does not hold whole blocks or they overflow.
    pub(super) fn byte_size(self, dims: &[u64]) -> Option<u64> {
        let columns = dims.first().copied().unwrap_or(1);
        if !columns.is_multiple_of(self.block_len) {
            return None;
        }
        let row = (columns / self.block_len).checked_mul(self.block_bytes)?;
        dims.iter()
            .skip(1)
            .try_fold(row, |size, &dim| size.checked_mul(dim))
    }
}

impl From<DType> for TensorType {
    fn from(dtype: DType) -> Self {
        let row = dtype.row();
        TensorType {
            id: row.id,
            name: row.name,
            block_len: row.block_len as u64,
            block_bytes: row.block_bytes as u64,
            dtype: Some(dtype),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_has_two_types() {
        for row in FOREIGN {
            assert_eq!(DType::from_id(row.0), None, "{}", row.1);
            assert_eq!(FOREIGN.iter().filter(|other| other.0 == row.0).count(), 1);
        }
    }

    #[test]
    fn sizes_count_whole_blocks() {
        let mxfp4 = TensorType::from(DType::MXFP4);
        assert_eq!(mxfp4.byte_size(&[2880, 2880, 32]), Some(1530 * 2880 * 32));
        assert_eq!(mxfp4.byte_size(&[2881, 2]), None);
        assert_eq!(TensorType::from(DType::F32).byte_size(&[]), Some(4));
        assert_eq!(mxfp4.byte_size(&[32, u64::MAX, 2]), None);
    }
}
