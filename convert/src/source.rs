//! Where the rows of a GGUF tensor come from, and how they are read.

use std::ops::Range;
use std::path::Path;

use fourfold_quantize::block;
use fourfold_quantize::dtype::DType;

use crate::Result;
use crate::checkpoint::Tensor;
use crate::experts::{CODES, repack, to_f32, turn};
use crate::names::Pick;
use crate::safetensors::SourceType;

/// The origin of one GGUF tensor.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// Its name in GGUF.
    pub name: String,
    /// Dimensions, slowest first; the last is the length of a row.
    pub shape: Vec<u64>,
    /// What its rows are made from.
    pub source: Source<'a>,
}

/// What the rows of a GGUF tensor are made from.
#[derive(Debug)]
pub enum Source<'a> {
    /// Numbers that are already row by row, perhaps with gaps.
    Strided(Strided<'a>),
    /// MXFP4 experts, output-major.
    Blocks {
        /// Codes, `[expert, row, block, 16]`.
        blocks: Tensor<'a>,
        /// One scale for each block.
        scales: Tensor<'a>,
        /// Which rows of the checkpoint's matrix.
        pick: Pick,
    },
    /// Un-quantized experts as transformers keeps them: `[expert, input, output]`.
    InputMajor {
        /// The numbers.
        tensor: Tensor<'a>,
        /// Which outputs.
        pick: Pick,
    },
}

/// Rows at regular distances, from one tensor or from one of each expert.
#[derive(Debug)]
pub struct Strided<'a> {
    /// One, or one of each expert.
    pub tensors: Vec<Tensor<'a>>,
    /// Rows of the result in each tensor.
    pub rows_each: u64,
    /// Numbers in a row of the tensor.
    pub width: u64,
    /// First row, and rows from one to the next.
    pub rows: (u64, u64),
    /// First number, and numbers from one to the next.
    pub columns: (u64, u64),
}

impl Matrix<'_> {
    /// Numbers in a row.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.shape.iter().rev().skip(1).product()
    }

    /// Numbers in all.
    pub fn weights(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Norms, biases, sinks and the router: they are small, and every program expects them in F32.
    pub fn stays_f32(&self) -> bool {
        self.shape.len() < 2
            || !self.name.ends_with(".weight")
            || self.name.ends_with("ffn_gate_inp.weight")
    }

    /// Dimensions in GGML's order, fastest first.
    pub fn dims(&self) -> Vec<u64> {
        self.shape.iter().rev().copied().collect()
    }

    /// The type that holds these numbers without changing any.
    pub fn own_type(&self) -> DType {
        match &self.source {
            Source::Blocks { .. } => DType::MXFP4,
            Source::Strided(Strided { tensors, .. }) => float_type(tensors[0].dtype),
            Source::InputMajor { tensor, .. } => float_type(tensor.dtype),
        }
    }

    /// How many rows may be read at once: not more than one expert has, where its rows lie in another order.
    pub fn rows_at_once(&self) -> u64 {
        match &self.source {
            Source::InputMajor { .. } => self.shape[self.shape.len() - 2],
            _ => self.rows(),
        }
    }

    /// Where the rows from `row` on lie, for reading a file from front to back.
    pub fn place(&self, row: u64) -> (usize, u64) {
        let (tensor, fraction) = match &self.source {
            Source::Strided(strided) => {
                let (tensor, row) = strided.locate(row);
                let byte = row * strided.width * tensor.dtype.bytes();
                return (tensor.place.0, tensor.place.1 + byte);
            }
            Source::Blocks { blocks, .. } => (blocks, row as f64 / self.rows() as f64),
            Source::InputMajor { tensor, .. } => (tensor, row as f64 / self.rows() as f64),
        };
        let byte = fraction * tensor.bytes.len() as f64;
        (tensor.place.0, tensor.place.1 + byte as u64)
    }

    /// The file and name to blame for a bad number.
    pub fn blame(&self) -> (&Path, &str) {
        let tensor = match &self.source {
            Source::Strided(strided) => &strided.tensors[0],
            Source::Blocks { scales, .. } => scales,
            Source::InputMajor { tensor, .. } => tensor,
        };
        (tensor.path, tensor.name)
    }

    /// Rows as numbers; `out` has room for them.
    pub fn read(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        if matches!(self.source, Source::Blocks { .. }) {
            let mut packed = vec![0; out.len() / 32 * DType::MXFP4.block_bytes()];
            self.copy(rows, &mut packed)?;
            block::decode_rows(DType::MXFP4, &packed, out)?;
        } else {
            self.read_columns(rows.start, self.columns() as usize, out);
        }
        Ok(())
    }

    /// The first `columns` numbers of each of the rows from `row` on, as many as `out` has room for.
    fn read_columns(&self, row: u64, columns: usize, out: &mut [f32]) {
        match &self.source {
            Source::Blocks { .. } => {}
            Source::Strided(strided) => {
                for (row, values) in (row..).zip(out.chunks_mut(columns)) {
                    strided.read(row, values);
                }
            }
            Source::InputMajor { tensor, pick } => {
                let rows_each = self.shape[self.shape.len() - 2];
                let (expert, row) = (row / rows_each, row % rows_each);
                let width = rows_each * pick.step();
                let size = (self.columns() * width * tensor.dtype.bytes()) as usize;
                let source = &tensor.bytes[expert as usize * size..][..size];
                let first = (row * pick.step() + pick.first()) as usize;
                let picked = (first, pick.step() as usize);
                turn(tensor.dtype, source, width as usize, picked, columns, out);
            }
        }
    }

    /// Whether an un-quantized expert matrix holds what MXFP4 can hold, judged by the first block of a few rows of a
    /// few experts. A matrix that was trained on fails at its first block; reading all of it would take as long as
    /// converting it, and the conversion counts what it changes anyway.
    pub fn is_mxfp4_in_disguise(&self) -> Result<bool> {
        const BLOCK: usize = 32;
        let (experts, rows) = (self.shape[0], self.shape[1]);
        if !self.columns().is_multiple_of(BLOCK as u64) {
            return Ok(false);
        }
        let mut values = [0.0; 8 * BLOCK];
        let values = &mut values[..BLOCK * rows.min(8) as usize];
        let mut decoded = values.to_vec();
        let mut packed = vec![0; values.len() / BLOCK * DType::MXFP4.block_bytes()];
        for expert in (0..experts).step_by(experts.div_ceil(4) as usize) {
            self.read_columns(expert * rows, BLOCK, values);
            block::encode_rows(DType::MXFP4, BLOCK, values, None, &mut packed)?;
            block::decode_rows(DType::MXFP4, &packed, &mut decoded)?;
            if values != decoded {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows in the tensor's own type, unchanged; `out` has room for them.
    pub fn copy(&self, rows: Range<u64>, out: &mut [u8]) -> Result<()> {
        let columns = self.columns() as usize;
        match &self.source {
            Source::Strided(strided) => {
                let size = strided.tensors[0].dtype.bytes() as usize;
                for (row, bytes) in rows.zip(out.chunks_mut(columns * size)) {
                    strided.copy(row, bytes);
                }
            }
            Source::Blocks {
                blocks,
                scales,
                pick,
            } => {
                let per_row = columns / 32;
                let row_bytes = per_row * DType::MXFP4.block_bytes();
                for (row, packed) in rows.zip(out.chunks_mut(row_bytes)) {
                    let from = (row * pick.step() + pick.first()) as usize * per_row;
                    let codes = &blocks.bytes[from * CODES..][..per_row * CODES];
                    repack(codes, &scales.bytes[from..][..per_row], packed);
                }
            }
            Source::InputMajor { .. } => {
                // Numbers of 16 bits survive the way through 32 unchanged, so nothing is special about this one.
                let mut values = vec![0.0; (rows.end - rows.start) as usize * columns];
                self.read(rows, &mut values)?;
                block::encode_rows(self.own_type(), columns, &values, None, out)?;
            }
        }
        Ok(())
    }
}

fn float_type(dtype: SourceType) -> DType {
    match dtype {
        SourceType::BF16 => DType::BF16,
        SourceType::F16 => DType::F16,
        SourceType::F32 => DType::F32,
        SourceType::U8 => DType::I8,
    }
}

impl<'a> Strided<'a> {
    fn locate(&self, row: u64) -> (&Tensor<'a>, u64) {
        let tensor = &self.tensors[(row / self.rows_each) as usize];
        (tensor, self.rows.0 + row % self.rows_each * self.rows.1)
    }

    fn read(&self, row: u64, out: &mut [f32]) {
        let (tensor, row) = self.locate(row);
        let size = tensor.dtype.bytes() as usize;
        let bytes = &tensor.bytes[(row * self.width) as usize * size..];
        let (first, step) = (self.columns.0 as usize, self.columns.1 as usize);
        if step == 1 {
            to_f32(
                tensor.dtype,
                &bytes[first * size..][..out.len() * size],
                out,
            );
            return;
        }
        for (column, value) in out.iter_mut().enumerate() {
            let at = (first + column * step) * size;
            to_f32(
                tensor.dtype,
                &bytes[at..at + size],
                std::slice::from_mut(value),
            );
        }
    }

    fn copy(&self, row: u64, out: &mut [u8]) {
        let (tensor, row) = self.locate(row);
        let size = tensor.dtype.bytes() as usize;
        let bytes = &tensor.bytes[(row * self.width) as usize * size..];
        let (first, step) = (self.columns.0 as usize, self.columns.1 as usize);
        if step == 1 {
            out.copy_from_slice(&bytes[first * size..][..out.len()]);
            return;
        }
        for (column, number) in out.chunks_mut(size).enumerate() {
            let at = (first + column * step) * size;
            number.copy_from_slice(&bytes[at..at + size]);
        }
    }
}
