//! Q6_K: 256 weights of six bits; each 16 have a scale of eight bits; 210 bytes.

use super::{Codes, SCALE_UNIT, Split, Weight, bytes32, field, read_f16};
use crate::kernels::isa::Isa;

const BLOCK: usize = 210;

/// Blocks of `{ nibbles: [u8; 128], pairs: [u8; 64], scales: [i8; 16], scale: f16 }`; the class's offset is the format's own.
pub struct Q6K;

impl Weight for Q6K {
    type Class = Split;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for index in 2 * first..2 * (first + count) {
            // SAFETY: promised by the caller.
            unsafe {
                let block = row.add(index / 16 * BLOCK);
                let sub = f32::from(*block.add(192 + index % 16) as i8);
                let scale = read_f16(block.add(208)) * sub * SCALE_UNIT;
                codes.set_scale(index - 2 * first, scale.to_bits());
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.as_floats(codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: *const u8, stride: usize, step: usize) -> [I::Ints; 8] {
        let (block, half, k) = (step / 8, step % 8 / 4, step % 4);
        // SAFETY: the caller's rows hold the step's block.
        let (mut out, pairs) = unsafe {
            let block = rows.add(block * BLOCK);
            (
                bytes32(isa, block.add(64 * half + k % 2 * 32), stride),
                bytes32(isa, block.add(128 + 32 * half), stride),
            )
        };
        for (vector, pairs) in out.iter_mut().zip(pairs) {
            let low = field(isa, *vector, 4 * (k / 2) as u32, 15);
            let high = field(isa, pairs, 2 * k as u32, 3);
            *vector = isa.or(low, isa.shift_left(high, 4));
        }
        out
    }
}
