//! Q8_0: 32 bytes and an IEEE binary16 scale, 34 bytes; the type of the published files' attention and head.

use super::{Codes, Rows, Step, Weight, Wide, bytes32, f16_scale, read_u16, wide};
use crate::kernels::isa::Isa;

const BLOCK: usize = 34;

/// Blocks of `{ scale: f16, weights: [i8; 32] }`.
pub struct Q8;

impl Weight for Q8 {
    type Class = Wide;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for step in 0..count {
            // SAFETY: promised by the caller.
            unsafe { codes.set_scale(step, read_u16(row.add((first + step) * BLOCK))) };
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        f16_scale(isa, codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        // SAFETY: the caller's rows hold the step's block.
        unsafe {
            let mut out = bytes32(isa, rows.at(step * BLOCK + 2));
            // Not by `map`, which the compiler may leave as a function without the instruction set's features.
            for vector in &mut out {
                *vector = wide(isa, *vector);
            }
            to.write(out);
        }
    }

    const ALONG: usize = BLOCK;

    #[inline(always)]
    unsafe fn along<I: Isa>(isa: I, row: *const u8, step: usize) -> [I::Ints; 2] {
        let at = row.wrapping_add(step * BLOCK + 2);
        // SAFETY: the caller's row holds the steps' blocks.
        let halves = unsafe { [isa.pieces(at, BLOCK), isa.pieces(at.add(16), BLOCK)] };
        halves.map(|half| wide(isa, half))
    }
}
