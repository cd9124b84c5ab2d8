//! The matrix product in plain f32: for weights in a float type, and for `--exact`, where weights of any type become f32 first.
//!
//! Lanes are rows here too: `result = fma(weight, input, result)` for one column after another, which is the same on every instruction set
//! and with any number of tokens.

use super::isa::{Isa, Task, prefetch};
use super::panel::{Panel, ROWS, Results, Tokens};
use fourfold_quantize::block::decode_rows;
use fourfold_quantize::dtype::DType;

/// Columns decoded at a time, a multiple of every type's block.
const COLUMNS: usize = 256;

/// 32 rows of f32, as they are and turned so that a column of a group of rows is a vector: 64 KiB.
#[repr(C, align(64))]
struct Chunk {
    rows: [[f32; COLUMNS]; ROWS],
    turned: [f32; COLUMNS * ROWS],
}

/// Multiplies a panel with `count` tokens of `values`, which has `columns` for each.
/// # Safety
/// The panel's rows are readable and hold `columns` columns of its type.
#[inline(always)]
pub unsafe fn multiply<I: Isa>(
    isa: I,
    panel: Panel,
    values: &[f32],
    columns: usize,
    tokens: Tokens,
    count: usize,
    results: &mut Results,
) {
    let mut chunk = Chunk {
        rows: [[0.0; COLUMNS]; ROWS],
        turned: [0.0; COLUMNS * ROWS],
    };
    for first in (0..columns).step_by(COLUMNS) {
        let width = COLUMNS.min(columns - first);
        for row in 0..ROWS {
            let skipped = first / panel.dtype.block_len() * panel.dtype.block_bytes();
            let length = width / panel.dtype.block_len() * panel.dtype.block_bytes();
            // SAFETY: whole blocks of a row that the caller promises.
            let bytes = unsafe {
                std::slice::from_raw_parts(panel.rows.add(row * panel.stride + skipped), length)
            };
            isa.call(Decode {
                dtype: panel.dtype,
                bytes,
                out: &mut chunk.rows[row][..width],
            });
            let ahead = panel.next.wrapping_add(row * panel.stride + skipped);
            for line in (0..length).step_by(64) {
                prefetch(ahead.wrapping_add(line));
            }
        }
        isa.call(Multiply {
            chunk: &mut chunk,
            values,
            columns,
            first,
            width,
            tokens,
            count,
            results,
        });
    }
}

struct Decode<'a> {
    dtype: DType,
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl Task for Decode<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let whole = self.out.len() / I::LANES * I::LANES;
        match self.dtype {
            DType::F32 => {
                for (out, bytes) in self.out.iter_mut().zip(self.bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            DType::F16 | DType::BF16 => {
                let bf16 = self.dtype == DType::BF16;
                for at in (0..whole).step_by(I::LANES) {
                    // SAFETY: `bytes` holds as many 16-bit numbers as `out` has floats.
                    unsafe {
                        let from = self.bytes.as_ptr().cast::<u16>().add(at);
                        let values = if bf16 {
                            isa.load_bf16(from)
                        } else {
                            isa.load_f16(from)
                        };
                        isa.store(self.out.as_mut_ptr().add(at), values);
                    }
                }
                let rest = self.out[whole..].iter_mut();
                for (out, bytes) in rest.zip(&self.bytes.as_chunks::<2>().0[whole..]) {
                    let bits = u16::from_le_bytes(*bytes);
                    *out = if bf16 {
                        half::bf16::from_bits(bits).to_f32()
                    } else {
                        half::f16::from_bits(bits).to_f32()
                    };
                }
            }
            // Whole blocks of a type that `Matrix::new` let through cannot fail to decode; were it so, NaN would show it.
            _ => {
                if decode_rows(self.dtype, self.bytes, self.out).is_err() {
                    self.out.fill(f32::NAN);
                }
            }
        }
    }
}

struct Multiply<'a> {
    chunk: &'a mut Chunk,
    values: &'a [f32],
    columns: usize,
    first: usize,
    width: usize,
    tokens: Tokens<'a>,
    count: usize,
    results: &'a mut Results,
}

impl Task for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        self.turn(isa);
        let mut done = 0;
        while done < self.count {
            let left = self.count - done;
            if I::REGISTERS == 32 {
                done += match left {
                    6.. => self.tiles::<I, 2, 6>(isa, done),
                    2.. => self.tiles::<I, 2, 2>(isa, done),
                    _ => self.tiles::<I, 2, 1>(isa, done),
                };
            } else {
                done += match left {
                    4.. => self.tiles::<I, 2, 4>(isa, done),
                    2.. => self.tiles::<I, 2, 2>(isa, done),
                    _ => self.tiles::<I, 4, 1>(isa, done),
                };
            }
        }
    }
}

impl Multiply<'_> {
    /// Turns the decoded rows.
    #[inline(always)]
    fn turn<I: Isa>(&mut self, isa: I) {
        for group in 0..ROWS / I::LANES {
            for column in (0..self.width).step_by(4) {
                // SAFETY: four columns of LANES rows are inside the chunk, COLUMNS being a multiple of four.
                unsafe {
                    let rows = &raw const self.chunk.rows[group * I::LANES][column];
                    let four = isa.columns(rows.cast(), COLUMNS * 4);
                    for (j, vector) in four.into_iter().enumerate() {
                        let at = (group * COLUMNS + column + j) * I::LANES;
                        let to = self.chunk.turned.as_mut_ptr().add(at);
                        isa.store_ints(to.cast(), vector);
                    }
                }
            }
        }
    }

    /// All rows times `T` tokens; returns `T`.
    #[inline(always)]
    fn tiles<I: Isa, const G: usize, const T: usize>(&mut self, isa: I, from: usize) -> usize {
        let mut inputs = [&self.values[..0]; T];
        for (index, input) in inputs.iter_mut().enumerate() {
            let token = self.tokens.at(from + index);
            *input = &self.values[token * self.columns + self.first..][..self.width];
        }
        for group in (0..ROWS / I::LANES).step_by(G) {
            let mut totals = [[isa.splat(0.0); T]; G];
            // SAFETY: results hold 32 rows for each token, the chunk `width` columns for each group.
            unsafe {
                let at = |g: usize, t: usize| ((from + t) * ROWS) + (group + g) * I::LANES;
                let results = self.results.0.as_mut_ptr().cast::<f32>();
                if self.first > 0 {
                    for g in 0..G {
                        for t in 0..T {
                            totals[g][t] = isa.load(results.add(at(g, t)));
                        }
                    }
                }
                let turned = self.chunk.turned.as_ptr();
                for column in 0..self.width {
                    let mut weights = [isa.splat(0.0); G];
                    for g in 0..G {
                        let at = ((group + g) * COLUMNS + column) * I::LANES;
                        weights[g] = isa.load(turned.add(at));
                    }
                    for t in 0..T {
                        let input = isa.splat(*inputs[t].get_unchecked(column));
                        for g in 0..G {
                            totals[g][t] = isa.fma(weights[g], input, totals[g][t]);
                        }
                    }
                }
                for g in 0..G {
                    for t in 0..T {
                        isa.store(results.add(at(g, t)), totals[g][t]);
                    }
                }
            }
        }
        T
    }
}
