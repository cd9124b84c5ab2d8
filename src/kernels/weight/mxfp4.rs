//! MXFP4: 32 weights of four bits and a power of two, 17 bytes; the type of gpt-oss's experts.

use super::{Class, Codes, Powers, Rows, STEP, Step, Weight, nibbles, nibbles_along};
use crate::kernels::isa::Isa;
use fourfold_quantize::block::search::fp4::DOUBLED;

const BLOCK: usize = 17;

/// Twice the values of E2M1, moved up by the class's offset.
pub(super) const TABLE: [i8; 16] = {
    let mut table = DOUBLED;
    let mut code = 0;
    while code < 16 {
        table[code] += Powers::OFFSET as i8;
        code += 1;
    }
    table
};

/// The same times 1, 2, 4 and 8, moved up by 128.
const SHIFTED: [u8; 64] = {
    let mut table = [0; 64];
    let mut index = 0;
    while index < 64 {
        table[index] = (128 + ((DOUBLED[index % 16] as i32) << (index / 16))) as u8;
        index += 1;
    }
    table
};

/// Blocks of `{ exponent: u8, nibbles: [u8; 16] }`.
pub struct Mxfp4;

impl Weight for Mxfp4 {
    type Class = Powers;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for step in 0..count {
            // SAFETY: promised by the caller.
            unsafe { codes.set_scale(step, u32::from(*row.add((first + step) * BLOCK))) };
        }
    }

    #[inline(always)]
    unsafe fn gather<I: Isa>(isa: I, rows: Rows, first: usize, count: usize, codes: Codes) {
        for step in 0..count {
            let Rows { start, stride } = rows.at((first + step) * BLOCK);
            // SAFETY: promised by the caller.
            unsafe {
                isa.store_bytes_of_rows(start, stride, codes.scales.add(step * codes.stride))
            };
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

    #[inline(always)]
    unsafe fn unpack_shifted<I: Isa>(
        isa: I,
        rows: Rows,
        step: usize,
        shifts: I::Ints,
        to: *mut Step<I>,
    ) {
        // SAFETY: the caller's rows hold the step's block, and there is room for a step.
        unsafe {
            let mut out = [shifts; 8];
            if I::LOOKS_UP_SIX {
                let raw = rows.columns(isa, step * BLOCK + 1);
                // The shift goes to bits 4 and 5 of each byte, beside the nibble.
                let above = isa.repeat_byte(isa.shift_left(shifts, 4));
                let low = isa.splat_int(0x0f0f0f0f);
                for j in 0..4 {
                    let nibbles = [raw[j], isa.shift_right(raw[j], 4)];
                    for half in 0..2 {
                        let index = isa.or(isa.and(nibbles[half], low), above);
                        out[j + 4 * half] = isa.look_up_six(&SHIFTED, index);
                    }
                }
            } else {
                // What is moved up by 16 stays a byte when shifted: 28 * 8 at most.
                let offset = isa.shift_left_each(isa.splat_int(Powers::OFFSET), shifts);
                let up = isa.repeat_byte(isa.sub_ints(isa.splat_int(128), offset));
                let weights = nibbles(isa, rows.at(step * BLOCK + 1), isa.table(&TABLE));
                for j in 0..8 {
                    out[j] = isa.add_bytes(isa.shift_left_each(weights[j], shifts), up);
                }
            }
            to.write(out);
        }
    }

    const ALONG: usize = BLOCK;

    #[inline(always)]
    unsafe fn along<I: Isa>(isa: I, row: *const u8, step: usize) -> [I::Ints; 2] {
        // SAFETY: the caller's row holds the steps' blocks.
        unsafe { nibbles_along(isa, row.add(step * BLOCK + 1), BLOCK, isa.table(&TABLE)) }
    }
}
