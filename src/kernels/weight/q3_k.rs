//! Q3_K: 256 weights of three bits; each 16 have a scale of six bits; 110 bytes.

use super::{Class, Codes, SCALE_UNIT, Split, Weight, bytes32, field, read_f16};
use crate::kernels::isa::Isa;

const BLOCK: usize = 110;

/// Blocks of `{ third_bits: [u8; 32], pairs: [u8; 64], packed: [u8; 12], scale: f16 }`.
pub struct Q3K;

impl Weight for Q3K {
    type Class = Split;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for index in 2 * first..2 * (first + count) {
            let (block, k) = (index / 16, index % 16);
            // SAFETY: promised by the caller.
            unsafe {
                let block = row.add(block * BLOCK);
                let packed = |i: usize| u32::from(*block.add(96 + i));
                let low = packed(k % 8) >> (k / 8 * 4) & 15;
                let high = packed(8 + k % 4) >> (k / 4 * 2) & 3;
                let scale = read_f16(block.add(108)) * ((low | high << 4) as f32 - 32.0);
                codes.set_scale(index - 2 * first, (scale * SCALE_UNIT).to_bits());
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
        let (mut out, third) = unsafe {
            let block = rows.add(block * BLOCK);
            (
                bytes32(isa, block.add(32 + k / 4 * 32), stride),
                bytes32(isa, block, stride),
            )
        };
        // A third bit of zero means four less.
        let offset = isa.splat_int(i32::from_le_bytes([Split::OFFSET as u8 - 4; 4]));
        for (vector, third) in out.iter_mut().zip(third) {
            let pair = field(isa, *vector, 2 * (k % 4) as u32, 3);
            let bit = isa.shift_left(field(isa, third, k as u32, 1), 2);
            *vector = isa.add_bytes(isa.or(pair, bit), offset);
        }
        out
    }
}
