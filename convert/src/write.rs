//! Carrying a plan out: rows are read, changed and written by all threads, from the front of each file to its back.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fourfold_quantize::block;
use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::{Layout, WriteOptions, Writer};
use rayon::prelude::*;

use crate::plan::{Plan, Planned};
use crate::source::Source;
use crate::{Error, Result};

/// Bytes written at once: few system calls, and still in the second-level cache when they are written.
const CHUNK: u64 = 1 << 20;
/// Numbers decoded before they are encoded: they stay in the second-level cache.
const VALUES: usize = 64 << 10;

/// Receives the number of bytes written since its last call.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The file, or the parts of a split one.
    pub paths: Vec<PathBuf>,
    /// Files of an interrupted run that were removed.
    pub leftovers: Vec<PathBuf>,
    /// Of un-quantized expert weights that became MXFP4: how many there were, and how many changed their value.
    pub requantized: (u64, u64),
}

/// Some rows of one tensor.
struct Chunk<'p, 'a> {
    index: usize,
    planned: &'p Planned<'a>,
    rows: Range<u64>,
}

impl Plan<'_> {
    /// Writes the file. `cancelled` is asked between chunks; once it says yes, nothing stays on the disk.
    pub fn write(
        &self,
        path: &Path,
        options: &WriteOptions,
        progress: Progress,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Report> {
        let mut layout = Layout::new(self.metadata.clone());
        for planned in &self.tensors {
            layout.add_tensor(&planned.matrix.name, planned.dtype, &planned.matrix.dims())?;
        }
        let writer = Writer::begin(layout, path, options)?;
        let leftovers = writer.leftovers().map(Path::to_owned).collect();
        let (total, changed) = (AtomicU64::new(0), AtomicU64::new(0));
        // One after the other from a shared list, so that the files are read from front to back.
        self.chunks().into_iter().par_bridge().try_for_each_init(
            Buffers::default,
            |buffers, chunk| -> Result<()> {
                if cancelled() {
                    return Err(Error::Cancelled);
                }
                let lost = buffers.fill(&chunk)?;
                let row_bytes = chunk.planned.row_bytes();
                writer.write_at(chunk.index, chunk.rows.start * row_bytes, &buffers.bytes)?;
                total.fetch_add(lost.0, Ordering::Relaxed);
                changed.fetch_add(lost.1, Ordering::Relaxed);
                progress(buffers.bytes.len() as u64);
                Ok(())
            },
        )?;
        Ok(Report {
            paths: writer.finish()?,
            leftovers,
            requantized: (total.into_inner(), changed.into_inner()),
        })
    }

    fn chunks(&self) -> Vec<Chunk<'_, '_>> {
        let mut chunks = Vec::new();
        for (index, planned) in self.tensors.iter().enumerate() {
            let matrix = &planned.matrix;
            let at_once = matrix.rows_at_once();
            let per_chunk = (CHUNK / planned.row_bytes().max(1)).clamp(1, at_once);
            let mut start = 0;
            while start < matrix.rows() {
                // Never over the border of a unit that must be read as one.
                let border = (start / at_once + 1) * at_once;
                let end = (start + per_chunk).min(border).min(matrix.rows());
                let rows = start..end;
                chunks.push(Chunk {
                    index,
                    planned,
                    rows,
                });
                start = end;
            }
        }
        chunks.sort_by_key(|chunk| chunk.planned.matrix.place(chunk.rows.start));
        chunks
    }
}

/// What one thread needs again and again.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    values: Vec<f32>,
    decoded: Vec<f32>,
}

impl Buffers {
    /// Makes the chunk's bytes. Returns how many expert weights were rounded to MXFP4, and how many changed by it.
    fn fill(&mut self, chunk: &Chunk) -> Result<(u64, u64)> {
        let Planned { matrix, dtype } = chunk.planned;
        let row_bytes = chunk.planned.row_bytes() as usize;
        let rows = (chunk.rows.end - chunk.rows.start) as usize;
        self.bytes.resize(rows * row_bytes, 0);
        let mut lost = (0, 0);
        if matrix.own_type() == *dtype {
            matrix.copy(chunk.rows.clone(), &mut self.bytes)?;
        } else {
            lost = self.encode(chunk, row_bytes)?;
        }
        block::check(*dtype, &self.bytes)
            .map_err(|bad| self.bad_number(chunk, &bad.to_string()))?;
        Ok(lost)
    }

    fn encode(&mut self, chunk: &Chunk, row_bytes: usize) -> Result<(u64, u64)> {
        let Planned { matrix, dtype } = chunk.planned;
        let columns = matrix.columns() as usize;
        let turned = matches!(matrix.source, Source::InputMajor { .. });
        // A matrix that must be turned over is read in longer runs.
        let values = if turned { 4 * VALUES } else { VALUES };
        let step = (values / columns).max(1);
        let mut lost = (0, 0);
        for (number, bytes) in self.bytes.chunks_mut(step * row_bytes).enumerate() {
            let first = chunk.rows.start + (number * step) as u64;
            let count = bytes.len() / row_bytes;
            self.values.resize(count * columns, 0.0);
            matrix.read(first..first + count as u64, &mut self.values)?;
            if let Some(at) = block::float::first_not_finite(&self.values) {
                let row = first + (at / columns) as u64;
                let message = format!("holds {} in row {row}", self.values[at]);
                let (path, name) = matrix.blame();
                return Err(Error::tensor(path, name, message));
            }
            block::encode_rows(*dtype, columns, &self.values, None, bytes)?;
            if *dtype == DType::MXFP4 {
                self.decoded.resize(self.values.len(), 0.0);
                block::decode_rows(*dtype, bytes, &mut self.decoded)?;
                let pairs = self.values.iter().zip(&self.decoded);
                lost.0 += self.values.len() as u64;
                lost.1 += pairs.map(|(a, b)| u64::from(a != b)).sum::<u64>();
            }
        }
        Ok(lost)
    }

    fn bad_number(&self, chunk: &Chunk, message: &str) -> Error {
        let Planned { matrix, dtype } = chunk.planned;
        let (path, name) = matrix.blame();
        let message = format!(
            "has numbers that {} cannot hold (rows {} to {}: {message}); the file is damaged, or another --type is needed",
            dtype.name(),
            chunk.rows.start,
            chunk.rows.end
        );
        Error::tensor(path, name, message)
    }
}
