//! NVFP4: 64 weights of four bits, a scale of eight bits (UE4M3) for each 16 of them; 36 bytes.

use super::{Class, Codes, Rows, SCALE_UNIT, Small, Split, Step, Weight, mxfp4};
use crate::kernels::isa::Isa;

const BLOCK: usize = 36;

/// Twice the values of E2M1, moved up by the class's offset.
const TABLE: [i8; 16] = {
    let mut table = mxfp4::TABLE;
    let mut code = 0;
    while code < 16 {
        table[code] += (Split::OFFSET - Small::OFFSET) as i8;
        code += 1;
    }
    table
};

/// Half of what a UE4M3 number stands for, in [`SCALE_UNIT`]s: the table holds twice the values.
const SCALES: [f32; 256] = {
    let mut scales = [0.0; 256];
    let mut code = 1;
    while code < 256 {
        let (exponent, mantissa) = (code as u32 >> 3 & 15, (code & 7) as f32);
        // Half of 2^(exponent - 7) is a float whose exponent field is exponent - 8 + 127.
        let value = if exponent == 0 {
            mantissa / 1024.0
        } else {
            (1.0 + mantissa / 8.0) * f32::from_bits((exponent + 119) << 23)
        };
        scales[code] = if code & 127 == 127 {
            0.0
        } else {
            value * SCALE_UNIT
        };
        code += 1;
    }
    scales
};

/// Blocks of `{ scales: [u8; 4], nibbles: [u8; 32] }`.
pub struct Nvfp4;

impl Weight for Nvfp4 {
    type Class = Split;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for index in 0..count {
            let step = first + index;
            // SAFETY: promised by the caller.
            unsafe {
                let scales = row.add(step / 2 * BLOCK + step % 2 * 2);
                for half in 0..2 {
                    let scale = SCALES[usize::from(*scales.add(half))];
                    codes.set_scale(2 * index + half, scale.to_bits());
                }
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.as_floats(codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        let table = isa.table(&TABLE);
        // SAFETY: the caller's rows hold the step's block.
        let raw = unsafe { rows.columns(isa, step / 2 * BLOCK + 4 + step % 2 * 16) };
        // Each eight bytes are 16 columns: low nibbles, then high ones.
        let mut out = [table; 8];
        for j in 0..4 {
            let at = j / 2 * 4 + j % 2;
            out[at] = isa.look_up_low(table, raw[j]);
            out[at + 2] = isa.look_up_high(table, raw[j]);
        }
        // SAFETY: promised by the caller.
        unsafe { to.write(out) };
    }
}
