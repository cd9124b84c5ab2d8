//! The matrix product in plain f32: for weights in a float type, and for `--exact`, where weights of any type become f32 first.
//!
//! Lanes are rows here too: `result = fma(weight, input, result)` for one column after another, which is the same on every instruction set
//! and with any number of tokens.

mod one;
mod types;

use super::isa::{Isa, Task, prefetch, prefetch_near};
use super::panel::{Panel, ROWS, Results, Tokens};
use super::weight::Rows;
use fourfold_quantize::block::decode_rows;
use fourfold_quantize::dtype::DType;
use one::One;
use types::{Bf16, F16, F32, Float};

/// Columns turned at a time, a multiple of every type's block: 32 KiB, which the first-level cache holds beside the inputs.
const COLUMNS: usize = 256;

/// Rows turned at a time.
const HEIGHT: usize = 32;
const _: () = assert!(ROWS.is_multiple_of(HEIGHT));

/// Rows of f32, turned so that a column of a group of rows is a vector.
#[repr(C, align(64))]
struct Chunk([f32; COLUMNS * HEIGHT]);

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
    if count == 1 && panel.dtype.is_float() && columns.is_multiple_of(8) {
        return isa.call(One {
            panel,
            input: &values[tokens.at(0) * columns..][..columns],
            results: &mut results.0[0],
        });
    }
    for top in (0..ROWS).step_by(HEIGHT) {
        let part = Panel {
            rows: panel.rows.wrapping_add(top * panel.stride),
            next: panel.next.wrapping_add(top * panel.stride),
            ..panel
        };
        let place = Place { tokens, count, top };
        // SAFETY: promised by the caller.
        unsafe { multiply_part(isa, part, values, columns, place, results) };
    }
}

/// Which tokens, and which rows of their results.
#[derive(Clone, Copy)]
struct Place<'a> {
    tokens: Tokens<'a>,
    count: usize,
    top: usize,
}

/// Multiplies the first `HEIGHT` rows of a panel.
/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn multiply_part<I: Isa>(
    isa: I,
    panel: Panel,
    values: &[f32],
    columns: usize,
    place: Place,
    results: &mut Results,
) {
    let mut chunk = std::mem::MaybeUninit::<Chunk>::uninit();
    let mut decoded = Vec::new();
    for first in (0..columns).step_by(COLUMNS) {
        let width = COLUMNS.min(columns - first);
        let block = |columns: usize| columns / panel.dtype.block_len() * panel.dtype.block_bytes();
        let (skipped, length) = (block(first), block(width));
        let mut part = Panel {
            rows: panel.rows.wrapping_add(skipped),
            ..panel
        };
        if !panel.dtype.is_float() || !width.is_multiple_of(8) {
            // SAFETY: the panel's rows hold these columns.
            part = unsafe { decode(part, length, width, &mut decoded) };
        }
        let fetched = |start: *const u8, skipped| Rows {
            start: start.wrapping_add(skipped),
            stride: panel.stride,
        };
        isa.call(Turn {
            part,
            width,
            near: fetched(panel.rows, skipped + length),
            far: fetched(panel.next, skipped),
            length,
            chunk: chunk.as_mut_ptr(),
        });
        isa.call(Multiply {
            chunk: chunk.as_ptr(),
            values,
            columns,
            first,
            width,
            place,
            results,
        });
    }
}

/// `width` columns, `length` bytes of each row of a part, as f32.
/// # Safety
/// The rows hold that much.
unsafe fn decode(part: Panel, length: usize, width: usize, decoded: &mut Vec<f32>) -> Panel {
    // Turning takes eight columns at a time.
    let stride = width.next_multiple_of(8);
    decoded.resize(HEIGHT * stride, 0.0);
    for (row, out) in decoded.chunks_exact_mut(stride).enumerate() {
        let start = part.rows.wrapping_add(row * part.stride);
        // SAFETY: promised by the caller.
        let bytes = unsafe { std::slice::from_raw_parts(start, length) };
        // Whole blocks of a type that `Matrix::new` let through cannot fail to decode; were it so, NaN would show it.
        if decode_rows(part.dtype, bytes, &mut out[..width]).is_err() {
            out.fill(f32::NAN);
        }
    }
    Panel {
        rows: decoded.as_ptr().cast(),
        stride: stride * 4,
        dtype: DType::F32,
        ..part
    }
}

/// Fills a chunk with `width` columns of a part in a float type.
struct Turn {
    part: Panel,
    width: usize,
    /// What is fetched meanwhile, `length` bytes of each row: the next part of this panel into the first-level cache, and this part of the
    /// next panel into the second-level one.
    near: Rows,
    far: Rows,
    length: usize,
    chunk: *mut Chunk,
}

impl Task for Turn {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.part.dtype {
            DType::F32 => self.turn::<I, F32>(isa),
            DType::F16 => self.turn::<I, F16>(isa),
            _ => self.turn::<I, Bf16>(isa),
        }
    }
}

impl Turn {
    #[inline(always)]
    fn turn<I: Isa, F: Float>(self, isa: I) {
        for group in 0..HEIGHT / I::LANES {
            let rows = self.part.group::<I>(group);
            let out = self.chunk.cast::<f32>();
            let out = out.wrapping_add(group * COLUMNS * I::LANES);
            let mut column = 0;
            for row in 0..I::LANES {
                let fetched = group * I::LANES + row;
                for line in (0..self.length).step_by(64) {
                    prefetch_near(self.near.row(fetched).wrapping_add(line));
                    prefetch(self.far.row(fetched).wrapping_add(line));
                }
                let end = self.width * (row + 1) / I::LANES;
                while column < end {
                    // SAFETY: the rows hold `width` columns rounded up to eight, and the chunk has room for them.
                    unsafe {
                        let turned = F::eight(isa, rows.at(column * F::BYTES));
                        for j in 0..8 {
                            isa.store(out.add((column + j) * I::LANES), turned[j]);
                        }
                    }
                    column += 8;
                }
            }
        }
    }
}

struct Multiply<'a> {
    chunk: *const Chunk,
    values: &'a [f32],
    columns: usize,
    first: usize,
    width: usize,
    place: Place<'a>,
    results: &'a mut Results,
}

impl Task for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let mut done = 0;
        while done < self.place.count {
            let left = self.place.count - done;
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
    /// All rows times `T` tokens; returns `T`.
    #[inline(always)]
    fn tiles<I: Isa, const G: usize, const T: usize>(&mut self, isa: I, from: usize) -> usize {
        let mut inputs = [&self.values[..0]; T];
        for (index, input) in inputs.iter_mut().enumerate() {
            let token = self.place.tokens.at(from + index);
            *input = &self.values[token * self.columns + self.first..][..self.width];
        }
        for group in (0..HEIGHT / I::LANES).step_by(G) {
            let mut totals = [[isa.splat(0.0); T]; G];
            // SAFETY: results hold ROWS rows for each token, the chunk `width` columns for each group.
            unsafe {
                let at = |g: usize, t: usize| {
                    (from + t) * ROWS + self.place.top + (group + g) * I::LANES
                };
                let results = self.results.0.as_mut_ptr().cast::<f32>();
                if self.first > 0 {
                    for g in 0..G {
                        for t in 0..T {
                            totals[g][t] = isa.load(results.add(at(g, t)));
                        }
                    }
                }
                let turned = self.chunk.cast::<f32>();
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
