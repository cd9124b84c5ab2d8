//! GGUF to GGUF: decode rows, encode them as another type, write them where they belong, on all cores at once.
//!
//! Tensors are cut into chunks of a quarter of a megabyte, and every thread takes the next chunk of the file when it is done
//! with one. So all threads are busy to the end, reading and writing run through the files in order, and memory stays
//! at a row and an output chunk per thread whatever the size of the model.

mod plan;

pub use plan::{Plan, Planned};

use crate::block;
use crate::gguf::{self, TensorView, Writer};
use crate::imatrix;
use crate::parallel;
use crate::recipe;

/// Why a model could not be requantized.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages describe the variants")]
pub enum Error {
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error(transparent)]
    Imatrix(#[from] imatrix::Error),
    #[error(transparent)]
    Recipe(#[from] recipe::Error),
    #[error("tensor {tensor:?}: {error}")]
    Block {
        tensor: String,
        error: block::Mismatch,
    },
    #[error(
        "tensor {tensor:?} holds {value} at row {row}, column {column}; a model with such weights is damaged"
    )]
    NotFinite {
        tensor: String,
        row: u64,
        column: u64,
        value: f32,
    },
    #[error("tensor {tensor:?} has rows of {columns} elements; {most} is the limit")]
    RowTooLong {
        tensor: String,
        columns: u64,
        most: u64,
    },
    #[error("stopped on request")]
    Cancelled,
}

type Result<T> = std::result::Result<T, Error>;

/// A row is decoded as a whole, so its length decides how much memory a thread needs: 64 MiB at most.
const MAX_COLUMNS: u64 = 1 << 24;
/// Small enough to stay in the second-level cache and to hold the file's lock, which writers share, only briefly: of 1 MiB,
/// files were written at two thirds of the speed.
const CHUNK_BYTES: u64 = 1 << 18;
/// Pages of the source are given back in pieces of this size: each time interrupts the other threads.
const RELEASE_BYTES: u64 = 1 << 24;

/// One run from file to file.
pub struct Requantize<'a> {
    /// What becomes of each tensor.
    pub plan: &'a Plan<'a>,
    /// How many threads to use.
    pub threads: usize,
    /// Told how many more bytes have been written.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Asked now and then whether to stop.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Some rows of one tensor.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    tensor: usize,
    first_row: u64,
    rows: u64,
}

impl Requantize<'_> {
    /// Writes every tensor of the plan. The writer must have been begun with [`Plan::layout`].
    pub fn run(&self, writer: &Writer) -> Result<()> {
        parallel::for_each(self.threads, &self.chunks(), |chunk, scratch| {
            if (self.cancelled)() {
                return Err(Error::Cancelled);
            }
            let bytes = self.chunk(*chunk, scratch, writer)?;
            (self.progress)(bytes);
            Ok(())
        })
    }

    /// The work in the order of the output file.
    fn chunks(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for (tensor, planned) in self.plan.tensors().iter().enumerate() {
            let rows = planned.rows();
            let step = (CHUNK_BYTES / (planned.bytes / rows).max(1)).clamp(1, rows);
            let mut first_row = 0;
            while first_row < rows {
                let rows = step.min(rows - first_row);
                chunks.push(Chunk {
                    tensor,
                    first_row,
                    rows,
                });
                first_row += rows;
            }
        }
        chunks
    }

    /// Does one chunk and returns how many bytes it wrote.
    fn chunk(&self, chunk: Chunk, scratch: &mut Scratch, writer: &Writer) -> Result<u64> {
        let planned = &self.plan.tensors()[chunk.tensor];
        let source = planned.source;
        let rows = planned.rows();
        let source_row = source.bytes.len() as u64 / rows;
        let target_row = planned.bytes / rows;
        let range = chunk.first_row * source_row..(chunk.first_row + chunk.rows) * source_row;
        let bytes = &source.bytes[range.start as usize..range.end as usize];
        let at = chunk.first_row * target_row;
        let target: &[u8] = if planned.choice.dtype == source.dtype {
            bytes
        } else {
            scratch.out.resize((chunk.rows * target_row) as usize, 0);
            self.encode(chunk, source, bytes, scratch)?;
            &scratch.out
        };
        writer.write_at(chunk.tensor, at, target)?;
        let written = target.len() as u64;
        // The pieces that end in this chunk; the threads are within a few chunks of each other.
        let piece = range.start / RELEASE_BYTES * RELEASE_BYTES;
        if range.end - piece >= RELEASE_BYTES || range.end == source.bytes.len() as u64 {
            let done = &source.bytes[piece as usize..range.end as usize];
            self.plan.gguf().release(done);
        }
        Ok(written)
    }

    fn encode(
        &self,
        chunk: Chunk,
        source: TensorView<'_>,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let planned = &self.plan.tensors()[chunk.tensor];
        let columns = source.dims[0] as usize;
        let importance = match self.plan.imatrix() {
            Some(imatrix) => imatrix.importance(source.name, source.dims)?,
            None => None,
        };
        let rows_of_matrix = source.dims.get(1).copied().unwrap_or(1);
        let matrices = source.dims.get(2).copied().unwrap_or(1);
        let mismatch = |error| Error::Block {
            tensor: source.name.to_owned(),
            error,
        };
        scratch.row.resize(columns, 0.0);
        let source_rows = bytes.chunks_exact(bytes.len() / chunk.rows as usize);
        let target_rows = scratch
            .out
            .chunks_exact_mut((planned.bytes / planned.rows()) as usize);
        for (row, (from, to)) in (chunk.first_row..).zip(source_rows.zip(target_rows)) {
            block::decode_rows(source.dtype, from, &mut scratch.row).map_err(mismatch)?;
            require_finite(source.name, row, &scratch.row)?;
            let matrix = (row / rows_of_matrix % matrices) as usize;
            let importance = importance.map(|all| &all[matrix * columns..][..columns]);
            block::encode_rows(planned.choice.dtype, columns, &scratch.row, importance, to)
                .map_err(mismatch)?;
        }
        Ok(())
    }
}

/// What a thread keeps from chunk to chunk.
#[derive(Default)]
struct Scratch {
    row: Vec<f32>,
    out: Vec<u8>,
}

fn require_finite(tensor: &str, row: u64, values: &[f32]) -> Result<()> {
    let Some(column) = block::float::first_not_finite(values) else {
        return Ok(());
    };
    Err(Error::NotFinite {
        tensor: tensor.to_owned(),
        row,
        column: column as u64,
        value: values[column],
    })
}
