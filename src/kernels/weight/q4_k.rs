//! Q4_K and Q5_K: 256 weights of four or five bits; each 32 have a scale and a minimum of six bits; 144 and 176 bytes.

use super::{Affine, Codes, Rows, Step, Weight, bytes, field, floats};
use crate::kernels::isa::Isa;

/// Blocks of `{ scale: f16, minimum: f16, packed: [u8; 12], (fifth_bits: [u8; 32],) nibbles: [u8; 128] }`.
pub struct Q45K<const FIFTH: bool>;

impl<const FIFTH: bool> Q45K<FIFTH> {
    const BLOCK: usize = if FIFTH { 176 } else { 144 };
}

impl<const FIFTH: bool> Weight for Q45K<FIFTH> {
    type Class = Affine;

    #[inline(always)]
    unsafe fn gather<I: Isa>(isa: I, rows: Rows, first: usize, count: usize, codes: Codes) {
        for step in (0..count).step_by(8) {
            // SAFETY: promised by the caller.
            let [both, a, b, c] = unsafe { rows.columns(isa, (first + step) / 8 * Self::BLOCK) };
            let scale = isa.widen_f16(isa.and(both, isa.splat_int(0xffff)));
            let minimum = isa.mul(isa.widen_f16(isa.shift_right(both, 16)), isa.splat(-1.0));
            // The first four steps have six bits each in `a` and `b`, the last four have four in `c` and two above the others' six.
            let upper = |of| isa.shift_left(field(isa, of, 6, 3), 4);
            let first_four = [field(isa, a, 0, 63), field(isa, b, 0, 63)];
            let last_four = [
                isa.or(field(isa, c, 0, 15), upper(a)),
                isa.or(field(isa, c, 4, 15), upper(b)),
            ];
            for (four, packed) in [first_four, last_four].into_iter().enumerate() {
                let (scales, minima) = (bytes(isa, packed[0]), bytes(isa, packed[1]));
                for k in 0..4 {
                    let at = step + 4 * four + k;
                    // SAFETY: promised by the caller.
                    unsafe {
                        codes.set_scales(isa, at, isa.mul(scale, floats(isa, scales[k], 0)));
                        codes.set_minima(isa, at, isa.mul(minimum, floats(isa, minima[k], 0)));
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
        let block = rows.at(step / 8 * Self::BLOCK);
        let to = to.cast::<[[I::Ints; 4]; 2]>();
        for part in 0..2 {
            // SAFETY: the rows hold the block, and there is room for its steps.
            unsafe {
                let fifth = block.columns(isa, 16 + 16 * part);
                let nibbles = |k: usize| block.columns(isa, Self::BLOCK - 128 + 16 * k + 16 * part);
                let (a, b, c, d) = (nibbles(0), nibbles(2), nibbles(4), nibbles(6));
                (*to)[part] = joined::<I, 0, FIFTH>(isa, a, fifth);
                (*to.add(1))[part] = joined::<I, 1, FIFTH>(isa, a, fifth);
                (*to.add(2))[part] = joined::<I, 2, FIFTH>(isa, b, fifth);
                (*to.add(3))[part] = joined::<I, 3, FIFTH>(isa, b, fifth);
                (*to.add(4))[part] = joined::<I, 4, FIFTH>(isa, c, fifth);
                (*to.add(5))[part] = joined::<I, 5, FIFTH>(isa, c, fifth);
                (*to.add(6))[part] = joined::<I, 6, FIFTH>(isa, d, fifth);
                (*to.add(7))[part] = joined::<I, 7, FIFTH>(isa, d, fifth);
            }
        }
    }
}

/// The weights of step `K`: low or high nibbles, and one of eight fifth bits.
#[inline(always)]
fn joined<I: Isa, const K: u32, const FIFTH: bool>(
    isa: I,
    nibbles: [I::Ints; 4],
    fifth: [I::Ints; 4],
) -> [I::Ints; 4] {
    let mut out = nibbles;
    for (out, fifth) in out.iter_mut().zip(fifth) {
        *out = field(isa, *out, K % 2 * 4, 15);
        if FIFTH {
            *out = isa.or(*out, isa.shift_left(field(isa, fifth, K, 1), 4));
        }
    }
    out
}
