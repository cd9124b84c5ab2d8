//! Q4_K and Q5_K: 256 weights of four or five bits; each 32 have a scale and a minimum of six bits; 144 and 176 bytes.

use super::{Affine, Codes, SCALE_UNIT, Weight, bytes32, field, read_f16};
use crate::kernels::isa::Isa;

/// Blocks of `{ scale: f16, minimum: f16, packed: [u8; 12], (fifth_bits: [u8; 32],) nibbles: [u8; 128] }`.
pub struct Q45K<const FIFTH: bool>;

impl<const FIFTH: bool> Q45K<FIFTH> {
    const BLOCK: usize = if FIFTH { 176 } else { 144 };
}

impl<const FIFTH: bool> Weight for Q45K<FIFTH> {
    type Class = Affine;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for index in 0..count {
            let (block, k) = ((first + index) / 8, (first + index) % 8);
            // SAFETY: promised by the caller.
            unsafe {
                let block = row.add(block * Self::BLOCK);
                let packed = |i: usize| u32::from(*block.add(4 + i));
                let (scale, minimum) = if k < 4 {
                    (packed(k) & 63, packed(k + 4) & 63)
                } else {
                    (
                        packed(k + 4) & 15 | packed(k - 4) >> 6 << 4,
                        packed(k + 4) >> 4 | packed(k) >> 6 << 4,
                    )
                };
                let scale = read_f16(block) * scale as f32 * SCALE_UNIT;
                let minimum = -(read_f16(block.add(2)) * minimum as f32);
                codes.set_scale(index, scale.to_bits());
                codes.set_minimum(index, minimum.to_bits());
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
        let mut out = unsafe {
            let end = rows.add((block + 1) * Self::BLOCK);
            bytes32(isa, end.sub(128 - k / 2 * 32), stride)
        };
        for vector in &mut out {
            *vector = field(isa, *vector, 4 * (k % 2) as u32, 15);
        }
        if FIFTH {
            // SAFETY: as above.
            let fifth = unsafe { bytes32(isa, rows.add(block * Self::BLOCK + 16), stride) };
            for (vector, fifth) in out.iter_mut().zip(fifth) {
                let bit = field(isa, fifth, k as u32, 1);
                *vector = isa.or(*vector, isa.shift_left(bit, 4));
            }
        }
        out
    }
}
