//! IQ4_NL and IQ4_XS: nibbles that index a table of 16 bytes, with a scale for 32 of them, or for 256 with six bits for each 32.

use super::{
    Codes, SCALE_UNIT, Weight, Wide, f16_scale, nibbles, nibbles_along, read_f16, read_u16, wide,
};
use crate::kernels::isa::Isa;

const TABLE: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// # Safety
/// As for [`Isa::columns`].
#[inline(always)]
unsafe fn looked_up<I: Isa>(isa: I, rows: *const u8, stride: usize) -> [I::Ints; 8] {
    // SAFETY: promised by the caller.
    unsafe { nibbles(isa, rows, stride, wide(isa, isa.table(&TABLE))) }
}

/// Blocks of `{ scale: f16, nibbles: [u8; 16] }`, 18 bytes.
pub struct Nl;

impl Weight for Nl {
    type Class = Wide;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for step in 0..count {
            // SAFETY: promised by the caller.
            unsafe { codes.set_scale(step, read_u16(row.add((first + step) * 18))) };
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        f16_scale(isa, codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: *const u8, stride: usize, step: usize) -> [I::Ints; 8] {
        // SAFETY: the caller's rows hold the step's block.
        unsafe { looked_up(isa, rows.add(step * 18 + 2), stride) }
    }

    const ALONG: bool = true;

    #[inline(always)]
    unsafe fn along<I: Isa>(isa: I, row: *const u8, step: usize) -> [I::Ints; 2] {
        let table = wide(isa, isa.table(&TABLE));
        // SAFETY: the caller's row holds the steps' blocks.
        unsafe { nibbles_along(isa, row.add(step * 18 + 2), 18, table) }
    }
}

/// Blocks of `{ scale: f16, scales_high: u16, scales_low: [u8; 4], nibbles: [u8; 128] }`, 136 bytes.
pub struct Xs;

impl Weight for Xs {
    type Class = Wide;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for index in 0..count {
            let step = first + index;
            // SAFETY: promised by the caller.
            unsafe {
                let block = row.add(step / 8 * 136);
                let sub = step % 8;
                let high = read_u16(block.add(2)) >> (2 * sub) & 3;
                let low = u32::from(*block.add(4 + sub / 2)) >> (4 * (sub % 2)) & 15;
                let scale = read_f16(block) * ((low | high << 4) as f32 - 32.0);
                codes.set_scale(index, (scale * SCALE_UNIT).to_bits());
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.as_floats(codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: *const u8, stride: usize, step: usize) -> [I::Ints; 8] {
        // SAFETY: the caller's rows hold the step's block.
        unsafe { looked_up(isa, rows.add(step / 8 * 136 + 8 + step % 8 * 16), stride) }
    }
}
