//! Q6_K: 256 weights of six bits; each 16 have a scale of eight bits; 210 bytes.

use super::{Codes, Rows, Split, Step, Weight, bytes, field, floats};
use crate::kernels::isa::Isa;

const BLOCK: usize = 210;

/// Blocks of `{ nibbles: [u8; 128], pairs: [u8; 64], scales: [i8; 16], scale: f16 }`; the class's offset is the format's own.
pub struct Q6K;

impl Weight for Q6K {
    type Class = Split;

    #[inline(always)]
    unsafe fn gather<I: Isa>(isa: I, rows: Rows, first: usize, count: usize, codes: Codes) {
        for step in (0..count).step_by(8) {
            let block = (first + step) / 8 * BLOCK;
            // SAFETY: promised by the caller.
            unsafe {
                let scale = rows.columns(isa, block + 194)[3];
                let scale = isa.widen_f16(isa.shift_right(scale, 16));
                let signed = rows.columns(isa, block + 192);
                let unsigned =
                    signed.map(|v| isa.add_bytes(v, isa.splat_int(0x80808080u32 as i32)));
                for (four, lanes) in unsigned.into_iter().enumerate() {
                    for (k, code) in bytes(isa, lanes).into_iter().enumerate() {
                        let scale = isa.mul(scale, floats(isa, code, 128));
                        codes.set_scales(isa, 2 * step + 4 * four + k, scale);
                    }
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
        for (half, part) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            // SAFETY: the rows hold the block, and there is room for its steps.
            unsafe {
                let a = block.columns(isa, 64 * half + 16 * part);
                let b = block.columns(isa, 64 * half + 32 + 16 * part);
                let pairs = block.columns(isa, 128 + 32 * half + 16 * part);
                let to = to.add(4 * half).cast::<[[I::Ints; 4]; 2]>();
                (*to)[part] = joined::<I, 0>(isa, a, pairs);
                (*to.add(1))[part] = joined::<I, 1>(isa, b, pairs);
                (*to.add(2))[part] = joined::<I, 2>(isa, a, pairs);
                (*to.add(3))[part] = joined::<I, 3>(isa, b, pairs);
            }
        }
    }
}

/// The weights of step `K` of a half block: low or high nibbles and one of four pairs of bits.
#[inline(always)]
fn joined<I: Isa, const K: u32>(
    isa: I,
    nibbles: [I::Ints; 4],
    pairs: [I::Ints; 4],
) -> [I::Ints; 4] {
    let mut out = nibbles;
    for (out, pairs) in out.iter_mut().zip(pairs) {
        let high = isa.shift_left(field(isa, pairs, 2 * K, 3), 4);
        *out = isa.or(field(isa, *out, K / 2 * 4, 15), high);
    }
    out
}
