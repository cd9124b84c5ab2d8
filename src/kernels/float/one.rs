//! One token times rows in a float type: what is turned is multiplied at once. Same fmas in the same order as in [`super`].
//!
//! Few rows at a time, and the next few are fetched meanwhile in the order in which they lie: with a lead of 64 rows, 368 KB of BF16, memory was read at
//! half the rate, however fast the arithmetic.

use super::types::{Bf16, F16, F32, Float};
use crate::kernels::isa::{Isa, Task, prefetch, prefetch_near};
use crate::kernels::panel::{Panel, ROWS};
use fourfold_quantize::dtype::DType;

/// Vectors of rows whose sums grow side by side: a sum has to wait for the fma before.
const GROUPS: usize = 2;

/// Bytes of each row that the first-level cache is ahead.
const NEAR: usize = 256;

/// One token times the rows of a panel, whose type is a float type.
pub struct One<'a> {
    pub panel: Panel,
    /// A multiple of eight columns.
    pub input: &'a [f32],
    pub results: &'a mut [f32; ROWS],
}

impl Task for One<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.panel.dtype {
            DType::F32 => self.multiply::<I, F32>(isa),
            DType::F16 => self.multiply::<I, F16>(isa),
            _ => self.multiply::<I, Bf16>(isa),
        }
    }
}

impl One<'_> {
    #[inline(always)]
    fn multiply<I: Isa, F: Float>(self, isa: I) {
        let Self { panel, input, .. } = self;
        let line = 64 / F::BYTES;
        for top in (0..ROWS / I::LANES).step_by(GROUPS) {
            let mut sums = [isa.splat(0.0); GROUPS];
            let mut ahead = match top + GROUPS {
                top if top * I::LANES == ROWS => panel.next,
                top => panel.group::<I>(top).row(0),
            };
            for first in (0..input.len()).step_by(line) {
                for row in 0..GROUPS * I::LANES {
                    let at = (top * I::LANES + row) * panel.stride + first * F::BYTES;
                    prefetch_near(panel.rows.wrapping_add(at + NEAR));
                    prefetch(ahead);
                    ahead = ahead.wrapping_add(64);
                }
                for column in (first..input.len().min(first + line)).step_by(8) {
                    for g in 0..GROUPS {
                        let rows = panel.group::<I>(top + g).at(column * F::BYTES);
                        // SAFETY: the rows hold as many columns as the input, and both hold eight more.
                        unsafe {
                            let turned = F::eight(isa, rows);
                            for j in 0..8 {
                                let input = isa.splat(*input.get_unchecked(column + j));
                                sums[g] = isa.fma(turned[j], input, sums[g]);
                            }
                        }
                    }
                }
            }
            for g in 0..GROUPS {
                let to = self.results[(top + g) * I::LANES..][..I::LANES].as_mut_ptr();
                // SAFETY: there are as many results as lanes.
                unsafe { isa.store(to, sums[g]) };
            }
        }
    }
}
