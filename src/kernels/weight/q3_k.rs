//! Q3_K: 256 weights of three bits; each 16 have a scale of six bits; 110 bytes.

use super::{Class, Codes, Rows, Split, Step, Weight, bytes, field, floats};
use crate::kernels::isa::Isa;

const BLOCK: usize = 110;

/// Blocks of `{ third_bits: [u8; 32], pairs: [u8; 64], packed: [u8; 12], scale: f16 }`.
pub struct Q3K;

impl Weight for Q3K {
    type Class = Split;

    #[inline(always)]
    unsafe fn gather<I: Isa>(isa: I, rows: Rows, first: usize, count: usize, codes: Codes) {
        for step in (0..count).step_by(8) {
            // SAFETY: promised by the caller. The sixteen bytes end with the block, so `packed` starts at the third.
            let [v, w, x, y] = unsafe { rows.columns(isa, (first + step) / 8 * BLOCK + 94) };
            let scale = isa.widen_f16(isa.shift_right(y, 16));
            let across = |a, b| isa.or(isa.shift_right(a, 16), isa.shift_left(b, 16));
            let (a, b, highs) = (across(v, w), across(w, x), across(x, y));
            let joined = |low, nibble, pair| {
                let high = isa.shift_left(field(isa, highs, pair, 3), 4);
                isa.or(field(isa, low, nibble, 15), high)
            };
            let lanes = [
                joined(a, 0, 0),
                joined(b, 0, 2),
                joined(a, 4, 4),
                joined(b, 4, 6),
            ];
            for (four, lanes) in lanes.into_iter().enumerate() {
                for (k, code) in bytes(isa, lanes).into_iter().enumerate() {
                    let scale = isa.mul(scale, floats(isa, code, 32));
                    // SAFETY: promised by the caller.
                    unsafe { codes.set_scales(isa, 2 * step + 4 * four + k, scale) };
                }
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.as_floats(codes)
    }

    const TOGETHER: usize = 8;

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        let block = rows.at(step / 8 * BLOCK);
        let to = to.cast::<[[I::Ints; 4]; 2]>();
        for part in 0..2 {
            // SAFETY: the rows hold the block, and there is room for its steps.
            unsafe {
                let third = block.columns(isa, 16 * part);
                let a = block.columns(isa, 32 + 16 * part);
                let b = block.columns(isa, 64 + 16 * part);
                (*to)[part] = joined::<I, 0>(isa, a, third);
                (*to.add(1))[part] = joined::<I, 1>(isa, a, third);
                (*to.add(2))[part] = joined::<I, 2>(isa, a, third);
                (*to.add(3))[part] = joined::<I, 3>(isa, a, third);
                (*to.add(4))[part] = joined::<I, 4>(isa, b, third);
                (*to.add(5))[part] = joined::<I, 5>(isa, b, third);
                (*to.add(6))[part] = joined::<I, 6>(isa, b, third);
                (*to.add(7))[part] = joined::<I, 7>(isa, b, third);
            }
        }
    }
}

/// The weights of step `K`: one of four pairs of bits, and four less where the third bit is zero.
#[inline(always)]
fn joined<I: Isa, const K: u32>(isa: I, pairs: [I::Ints; 4], third: [I::Ints; 4]) -> [I::Ints; 4] {
    let offset = isa.splat_int(i32::from_le_bytes([Split::OFFSET as u8 - 4; 4]));
    let mut out = pairs;
    for (out, third) in out.iter_mut().zip(third) {
        let bit = isa.shift_left(field(isa, third, K, 1), 2);
        *out = isa.add_bytes(isa.or(field(isa, *out, K % 4 * 2, 3), bit), offset);
    }
    out
}
