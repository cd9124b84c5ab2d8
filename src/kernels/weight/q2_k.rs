//! Q2_K: 256 weights of two bits; each 16 have a scale and a minimum of four bits; 84 bytes.

use super::{Codes, Rows, SplitAffine, Step, Weight, bytes, field, floats};
use crate::kernels::isa::Isa;

const BLOCK: usize = 84;

/// Blocks of `{ packed: [u8; 16], pairs: [u8; 64], scale: f16, minimum: f16 }`.
pub struct Q2K;

impl Weight for Q2K {
    type Class = SplitAffine;

    #[inline(always)]
    unsafe fn gather<I: Isa>(isa: I, rows: Rows, first: usize, count: usize, codes: Codes) {
        for step in (0..count).step_by(8) {
            let block = rows.at((first + step) / 8 * BLOCK);
            // SAFETY: promised by the caller.
            let (packed, both) = unsafe { (block.columns(isa, 0), block.columns(isa, 68)[3]) };
            let scale = isa.widen_f16(isa.and(both, isa.splat_int(0xffff)));
            let minimum = isa.mul(isa.widen_f16(isa.shift_right(both, 16)), isa.splat(-1.0));
            for (four, lanes) in packed.into_iter().enumerate() {
                for (k, code) in bytes(isa, lanes).into_iter().enumerate() {
                    let at = 2 * step + 4 * four + k;
                    let (sub, less) = (field(isa, code, 0, 15), field(isa, code, 4, 15));
                    // SAFETY: promised by the caller.
                    unsafe {
                        codes.set_scales(isa, at, isa.mul(scale, floats(isa, sub, 0)));
                        codes.set_minima(isa, at, isa.mul(minimum, floats(isa, less, 0)));
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
                let pairs = block.columns(isa, 16 + 32 * half + 16 * part);
                let pair = |shift| pairs.map(|lanes| field(isa, lanes, shift, 3));
                let to = to.add(4 * half).cast::<[[I::Ints; 4]; 2]>();
                (*to)[part] = pair(0);
                (*to.add(1))[part] = pair(2);
                (*to.add(2))[part] = pair(4);
                (*to.add(3))[part] = pair(6);
            }
        }
    }
}
