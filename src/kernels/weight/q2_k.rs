//! Q2_K: 256 weights of two bits; each 16 have a scale and a minimum of four bits; 84 bytes.

use super::{Codes, SCALE_UNIT, SplitAffine, Weight, bytes32, field, read_f16};
use crate::kernels::isa::Isa;

const BLOCK: usize = 84;

/// Blocks of `{ packed: [u8; 16], pairs: [u8; 64], scale: f16, minimum: f16 }`.
pub struct Q2K;

impl Weight for Q2K {
    type Class = SplitAffine;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for index in 2 * first..2 * (first + count) {
            // SAFETY: promised by the caller.
            unsafe {
                let block = row.add(index / 16 * BLOCK);
                let packed = u32::from(*block.add(index % 16));
                let scale = read_f16(block.add(80)) * (packed & 15) as f32 * SCALE_UNIT;
                let minimum = -(read_f16(block.add(82)) * (packed >> 4) as f32);
                codes.set_scale(index - 2 * first, scale.to_bits());
                codes.set_minimum(index - 2 * first, minimum.to_bits());
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.as_floats(codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: *const u8, stride: usize, step: usize) -> [I::Ints; 8] {
        let (block, k) = (step / 8, step % 8);
        // SAFETY: the caller's rows hold the step's block.
        let mut out = unsafe { bytes32(isa, rows.add(block * BLOCK + 16 + k / 4 * 32), stride) };
        for vector in &mut out {
            *vector = field(isa, *vector, 2 * (k % 4) as u32, 3);
        }
        out
    }
}
