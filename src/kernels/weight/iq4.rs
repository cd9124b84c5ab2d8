//! IQ4_NL and IQ4_XS: nibbles that index a table of 16 bytes, with a scale for 32 of them, or for 256 with six bits for each 32.

use super::{
    Codes, Rows, Step, Weight, Wide, f16_scale, floats, nibbles, nibbles_along, read_u16, wide,
};
use crate::kernels::isa::Isa;
use fourfold_quantize::block::search::codebook::TABLE;

/// # Safety
/// As for [`Isa::columns`].
#[inline(always)]
unsafe fn looked_up<I: Isa>(isa: I, rows: Rows) -> Step<I> {
    // SAFETY: promised by the caller.
    unsafe { nibbles(isa, rows, wide(isa, isa.table(&TABLE))) }
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
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        // SAFETY: the caller's rows hold the step's block.
        unsafe { to.write(looked_up(isa, rows.at(step * 18 + 2))) }
    }

    const ALONG: usize = 18;

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
    unsafe fn gather<I: Isa>(isa: I, rows: Rows, first: usize, count: usize, codes: Codes) {
        for step in (0..count).step_by(8) {
            // SAFETY: promised by the caller.
            let [both, scales, ..] = unsafe { rows.columns(isa, (first + step) / 8 * 136) };
            let scale = isa.widen_f16(isa.and(both, isa.splat_int(0xffff)));
            let bits = |of, shift: usize, mask| {
                isa.and(isa.shift_right(of, shift as u32), isa.splat_int(mask))
            };
            for k in 0..8 {
                let (low, high) = (bits(scales, 4 * k, 15), bits(both, 16 + 2 * k, 3));
                let sub = floats(isa, isa.or(low, isa.shift_left(high, 4)), 32);
                // SAFETY: promised by the caller.
                unsafe { codes.set_scales(isa, step + k, isa.mul(scale, sub)) };
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.as_floats(codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        // SAFETY: the caller's rows hold the step's block.
        unsafe { to.write(looked_up(isa, rows.at(step / 8 * 136 + 8 + step % 8 * 16))) }
    }
}
