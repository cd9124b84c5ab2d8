//! The small matrix products of attention, whose sums stay in registers.

use crate::kernels::isa::Isa;
use std::ops::Range;

/// Rows that are computed together: with four vectors each, 16 sums hide the latency of the additions.
const ROWS: usize = 4;

/// `out = shrink * out + a . b`, row by row; without `shrink`, `out = a . b`.
pub struct Product<'a> {
    /// `(rows, depth)`
    pub a: &'a [f32],
    pub depth: usize,
    /// `(depth, width)`
    pub b: &'a [f32],
    pub width: usize,
    /// The part of the depth that is summed; the rest counts as zeros.
    pub inner: Range<usize>,
    /// The columns that are wanted, whole vectors; the others stay as they are.
    pub columns: Range<usize>,
    /// A factor for each row.
    pub shrink: Option<&'a [f32]>,
    /// `(rows, width)`
    pub out: &'a mut [f32],
}

impl Product<'_> {
    #[inline(always)]
    pub fn compute<I: Isa>(mut self, isa: I) {
        let Self { depth, width, .. } = self;
        let rows = self.a.len() / depth;
        assert!(self.a.len() == rows * depth && self.b.len() == depth * width);
        assert!(self.out.len() == rows * width && self.inner.end <= depth);
        assert!(self.columns.end <= width && self.columns.len().is_multiple_of(I::LANES));
        assert!(self.shrink.is_none_or(|shrink| shrink.len() == rows));
        let mut row = 0;
        while row < rows {
            // SAFETY: as many rows are left, and the shapes were checked above.
            unsafe {
                row += match rows - row {
                    ROWS.. => self.rows::<I, ROWS>(isa, row),
                    3 => self.rows::<I, 3>(isa, row),
                    2 => self.rows::<I, 2>(isa, row),
                    _ => self.rows::<I, 1>(isa, row),
                }
            }
        }
    }

    /// `R` rows from `row` on; returns `R`.
    /// # Safety
    /// They are there, and the shapes fit.
    #[inline(always)]
    unsafe fn rows<I: Isa, const R: usize>(&mut self, isa: I, row: usize) -> usize {
        let mut column = self.columns.start;
        while column < self.columns.end {
            // SAFETY: as many vectors are left; the rest is promised by the caller.
            column += I::LANES
                * unsafe {
                    match (self.columns.end - column) / I::LANES {
                        4.. => self.tile::<I, R, 4>(isa, row, column),
                        3 => self.tile::<I, R, 3>(isa, row, column),
                        2 => self.tile::<I, R, 2>(isa, row, column),
                        _ => self.tile::<I, R, 1>(isa, row, column),
                    }
                };
        }
        R
    }

    /// `R` rows by `V` vectors, all sums in registers; returns `V`.
    /// # Safety
    /// They are there, and the shapes fit.
    #[inline(always)]
    unsafe fn tile<I: Isa, const R: usize, const V: usize>(
        &mut self,
        isa: I,
        row: usize,
        column: usize,
    ) -> usize {
        let Self { depth, width, .. } = *self;
        let mut sums = [[isa.splat(0.0); V]; R];
        // SAFETY: all inside by the caller's promise.
        unsafe {
            let out = self.out.as_mut_ptr().add(row * width + column);
            if let Some(shrink) = self.shrink {
                for r in 0..R {
                    let shrink = isa.splat(shrink[row + r]);
                    for v in 0..V {
                        let old = isa.load(out.add(r * width + v * I::LANES));
                        sums[r][v] = isa.mul(old, shrink);
                    }
                }
            }
            let a = self.a.as_ptr().add(row * depth);
            for k in self.inner.clone() {
                let b = self.b.as_ptr().add(k * width + column);
                let b: [_; V] = std::array::from_fn(|v| isa.load(b.add(v * I::LANES)));
                for r in 0..R {
                    let a = isa.splat(*a.add(r * depth + k));
                    for v in 0..V {
                        sums[r][v] = isa.fma(a, b[v], sums[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    isa.store(out.add(r * width + v * I::LANES), sums[r][v]);
                }
            }
        }
        V
    }
}
