//! What a layer calls: products with matrices in any tensor type, the experts' feed-forward, and vector operations for the rest.
//!
//! Inputs are quantized to eight bits once ([`Kernels::quantize`]) and serve several products. Results have the same bits whatever the
//! number of threads and of tokens computed together; those of matrix products also whatever the instruction set, while norms, the router and
//! attention add up lanes in an order that depends on their number.

// Tiles of registers are arrays that are walked side by side, by row group and by token; iterators would hide which is which.
#![allow(clippy::needless_range_loop)]

mod activations;
mod along;
pub mod attention;
pub mod ceilings;
mod dispatch;
mod float;
pub mod isa;
pub mod math;
mod matmul;
mod moe;
mod norm;
pub mod page;
mod panel;
mod powers;
mod router;
mod single;
#[cfg(test)]
mod tests;
mod weight;

use crate::threads::Pool;
pub use activations::Activations;
use dispatch::Chosen;
use fourfold_quantize::block::decode_rows;
use fourfold_quantize::dtype::DType;
use isa::Task;
pub use matmul::Product;
pub use moe::{Experts, Scratch};
pub use router::Router;

/// What can be wrong with a request to this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment asks for an instruction set that is not there.
    #[error(
        "FOURFOLD_ISA is `{wanted}`, but this CPU offers {available}: unset it or choose one of these"
    )]
    Isa {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// A matrix cannot be multiplied with.
    #[error(
        "a matrix of {rows} rows of {columns} columns in {} does not take {bytes} bytes: rows hold whole blocks of {} columns in {} bytes",
        .dtype.name(), .dtype.block_len(), .dtype.block_bytes()
    )]
    Size {
        /// Its type.
        dtype: DType,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// Its bytes.
        bytes: usize,
    },
    /// A matrix has rows that are too long.
    #[error("a matrix of {0} columns cannot be multiplied with: rows have at most {LONGEST_ROW}")]
    Columns(usize),
    /// A matrix is of a type that holds no weights.
    #[error("a matrix in {} cannot be multiplied with: weights are in a float or quantized type", .0.name())]
    Type(DType),
}

/// Most columns of a matrix: the distances between sixteen rows fit into an `i32`, whatever the type.
const LONGEST_ROW: usize = 1 << 24;

/// A matrix of weights where it lies in the file.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    columns: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// Checks that the type holds weights and that the size fits.
    pub fn new(dtype: DType, rows: usize, columns: usize, bytes: &'a [u8]) -> Result<Self, Error> {
        if !dtype.is_float() && !is_quantized(dtype) {
            return Err(Error::Type(dtype));
        }
        if columns > LONGEST_ROW {
            return Err(Error::Columns(columns));
        }
        let size = dtype
            .row_bytes(columns)
            .and_then(|row| row.checked_mul(rows));
        if size != Some(bytes.len()) || columns == 0 {
            return Err(Error::Size {
                dtype,
                rows,
                columns,
                bytes: bytes.len(),
            });
        }
        Ok(Self {
            dtype,
            rows,
            columns,
            bytes,
        })
    }

    /// Its type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Its rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Its columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Its bytes, row after row.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// One row as f32.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let row = self.slice(row, 1);
        // Cannot fail for what `new` let through; were it so, NaN would show it.
        if decode_rows(row.dtype, row.bytes, out).is_err() {
            out.fill(f32::NAN);
        }
    }

    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows.max(1)
    }

    /// Rows `first` to `first + count`.
    pub fn slice(&self, first: usize, count: usize) -> Matrix<'a> {
        let stride = self.row_bytes();
        Matrix {
            rows: count,
            bytes: &self.bytes[first * stride..(first + count) * stride],
            ..*self
        }
    }
}

fn is_quantized(dtype: DType) -> bool {
    struct Known;
    impl weight::Visitor for Known {
        type Out = ();
        fn visit<W: weight::Weight>(self) {}
    }
    weight::with(dtype, Known).is_some()
}

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    isa: Chosen,
    exact: bool,
}

impl Kernels {
    /// The kernels for the best instruction set of this CPU, or the one that the environment variable `FOURFOLD_ISA` names.
    pub fn detect() -> Result<Self, Error> {
        Ok(Self {
            isa: Chosen::detect()?,
            exact: false,
        })
    }

    /// Every set of kernels that this CPU can run, fastest first.
    pub fn available() -> Vec<Self> {
        let kernels = |isa| Self { isa, exact: false };
        Chosen::available().into_iter().map(kernels).collect()
    }

    /// The same in reference arithmetic: f32 inputs, weights of any type decoded to f32.
    pub fn exact(self) -> Self {
        Self {
            exact: true,
            ..self
        }
    }

    /// The name of the instruction set.
    pub fn isa(&self) -> &'static str {
        self.isa.name()
    }

    /// Runs a function of vectors with this instruction set, on this thread.
    pub fn call<T: Task>(&self, task: T) -> T::Out {
        self.isa.call(task)
    }

    /// Takes `tokens` rows of `columns` values as the input of products.
    pub fn quantize(
        &self,
        pool: &Pool,
        x: &[f32],
        tokens: usize,
        columns: usize,
        activations: &mut Activations,
    ) {
        assert_eq!(x.len(), tokens * columns, "tokens x columns values");
        if self.exact {
            activations.keep_values(true);
        }
        activations.fill(self.isa, pool, x, columns);
    }
}
