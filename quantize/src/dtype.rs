//! One row per tensor type: the number it has in a file, its name, and the size of its block.

/// A tensor type that this program can read, and write unless [`DType::can_be_written`] says otherwise. Weights are in all but
/// the integer types and F64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(
    missing_docs,
    non_camel_case_types,
    reason = "the names are the types' own"
)]
pub enum DType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ3_XXS,
    IQ3_S,
    MXFP4,
    NVFP4,
    /// Integer tensors are carried and listed, never computed with.
    I8,
    I16,
    I32,
    I64,
    F64,
}

/// What [`DType::TABLE`] says about one type.
pub struct Row {
    /// The type.
    pub dtype: DType,
    /// Its number in a GGUF tensor record.
    pub id: u32,
    /// Its name, as llama.cpp spells it, in upper case.
    pub name: &'static str,
    /// Elements in one block; the length of a row is a multiple of it.
    pub block_len: usize,
    /// Bytes of one block.
    pub block_bytes: usize,
}

impl DType {
    /// Every type, in the order of the enum.
    pub const TABLE: &[Row] = &[
        row(DType::F32, 0, "F32", 1, 4),
        row(DType::F16, 1, "F16", 1, 2),
        row(DType::BF16, 30, "BF16", 1, 2),
        row(DType::Q8_0, 8, "Q8_0", 32, 34),
        row(DType::Q4_0, 2, "Q4_0", 32, 18),
        row(DType::Q4_1, 3, "Q4_1", 32, 20),
        row(DType::Q5_0, 6, "Q5_0", 32, 22),
        row(DType::Q5_1, 7, "Q5_1", 32, 24),
        row(DType::Q2_K, 10, "Q2_K", 256, 84),
        row(DType::Q3_K, 11, "Q3_K", 256, 110),
        row(DType::Q4_K, 12, "Q4_K", 256, 144),
        row(DType::Q5_K, 13, "Q5_K", 256, 176),
        row(DType::Q6_K, 14, "Q6_K", 256, 210),
        row(DType::IQ4_NL, 20, "IQ4_NL", 32, 18),
        row(DType::IQ4_XS, 23, "IQ4_XS", 256, 136),
        row(DType::IQ2_XXS, 16, "IQ2_XXS", 256, 66),
        row(DType::IQ2_XS, 17, "IQ2_XS", 256, 74),
        row(DType::IQ2_S, 22, "IQ2_S", 256, 82),
        row(DType::IQ3_XXS, 18, "IQ3_XXS", 256, 98),
        row(DType::IQ3_S, 21, "IQ3_S", 256, 110),
        row(DType::MXFP4, 39, "MXFP4", 32, 17),
        row(DType::NVFP4, 40, "NVFP4", 64, 36),
        row(DType::I8, 24, "I8", 1, 1),
        row(DType::I16, 25, "I16", 1, 2),
        row(DType::I32, 26, "I32", 1, 4),
        row(DType::I64, 27, "I64", 1, 8),
        row(DType::F64, 28, "F64", 1, 8),
    ];

    /// This type's row of the table.
    pub fn row(self) -> &'static Row {
        &Self::TABLE[self as usize]
    }

    /// Its name in upper case.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Elements in one block.
    pub fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// The type with this number in a file, if this program knows it.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::TABLE
            .iter()
            .find(|row| row.id == id)
            .map(|row| row.dtype)
    }

    /// The type of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE
            .iter()
            .find(|row| row.name.eq_ignore_ascii_case(name))
            .map(|row| row.dtype)
    }

    /// Whether its elements are single floats that weights are kept in.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }

    /// Whether weights are kept in it. The others are carried from file to file but not converted, F64 among them: ggml has no kernels for it.
    pub fn holds_weights(self) -> bool {
        use DType::{F64, I8, I16, I32, I64};
        !matches!(self, I8 | I16 | I32 | I64 | F64)
    }

    /// Whether weights can be turned into it. IQ2 and IQ3 are only read, as `block::grid` explains.
    pub fn can_be_written(self) -> bool {
        use DType::{IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
        self.holds_weights() && !matches!(self, IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S)
    }

    /// Bytes of a row of `columns` elements; `None` if the row does not hold whole blocks or the size overflows.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let row = self.row();
        columns
            .is_multiple_of(row.block_len)
            .then(|| (columns / row.block_len).checked_mul(row.block_bytes))?
    }
}

const fn row(
    dtype: DType,
    id: u32,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
) -> Row {
    Row {
        dtype,
        id,
        name,
        block_len,
        block_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_enum_order_and_without_doubles() {
        for (index, row) in DType::TABLE.iter().enumerate() {
            assert_eq!(row.dtype as usize, index, "{}", row.name);
            assert_eq!(DType::from_id(row.id), Some(row.dtype));
            assert_eq!(DType::from_name(&row.name.to_lowercase()), Some(row.dtype));
        }
    }

    #[test]
    fn a_row_must_hold_whole_blocks() {
        assert_eq!(DType::MXFP4.row_bytes(2880), Some(1530));
        assert_eq!(DType::Q4_K.row_bytes(2880), None);
    }
}
