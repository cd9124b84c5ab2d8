//! MXFP4: 32 weights of four bits and a power of two, 17 bytes; the type of gpt-oss's experts.

use super::{Class, Codes, Rows, STEP, Small, Step, Weight, nibbles, nibbles_along};
use crate::kernels::isa::Isa;

const BLOCK: usize = 17;

/// Twice the values of E2M1, moved up by the class's offset.
pub(super) const TABLE: [i8; 16] = {
    let mut table = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
    let mut code = 0;
    while code < 16 {
        table[code] += Small::OFFSET as i8;
        code += 1;
    }
    table
};

/// Blocks of `{ exponent: u8, nibbles: [u8; 16] }`.
pub struct Mxfp4;

impl Weight for Mxfp4 {
    type Class = Small;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for step in 0..count {
            // SAFETY: promised by the caller.
            unsafe { codes.set_scale(step, u32::from(*row.add((first + step) * BLOCK))) };
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        // 2^(e - 128) for twice the value, and 2^-24: the exponent field is e - 25, zero where that would be negative.
        let exponent = isa.max_ints(isa.add_ints(codes, isa.splat_int(-25)), isa.splat_int(0));
        isa.as_floats(isa.shift_left(exponent, 23))
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        const { assert!(STEP == 32) };
        // SAFETY: the caller's rows hold the step's block.
        unsafe { to.write(nibbles(isa, rows.at(step * BLOCK + 1), isa.table(&TABLE))) }
    }

    const ALONG: bool = true;

    #[inline(always)]
    unsafe fn along<I: Isa>(isa: I, row: *const u8, step: usize) -> [I::Ints; 2] {
        // SAFETY: the caller's row holds the steps' blocks.
        unsafe { nibbles_along(isa, row.add(step * BLOCK + 1), BLOCK, isa.table(&TABLE)) }
    }
}
