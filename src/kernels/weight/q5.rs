//! Q5_0 and Q5_1: 32 nibbles and their fifth bits with a scale, or a scale and a minimum; 22 and 24 bytes.

use super::{Affine, Class, Codes, Rows, Small, Step, Weight, f16_scale, nibbles, ramp, read_u16};
use crate::kernels::isa::Isa;

/// Blocks of `{ scale: f16, (minimum: f16,) fifth_bits: u32, nibbles: [u8; 16] }`; a weight is `scale * (q - 16)`, or `scale * q + minimum`.
pub struct Q5<const MINIMUM: bool>;

/// The class is a type, and types cannot be chosen by a constant: this does it.
pub trait Offset {
    /// The class.
    type Class: Class;
}
impl Offset for Q5<false> {
    type Class = Small;
}
impl Offset for Q5<true> {
    type Class = Affine;
}

impl<const MINIMUM: bool> Weight for Q5<MINIMUM>
where
    Self: Offset,
{
    type Class = <Self as Offset>::Class;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for step in 0..count {
            // SAFETY: promised by the caller.
            unsafe {
                let block = row.add((first + step) * Self::BLOCK);
                codes.set_scale(step, read_u16(block));
                if MINIMUM {
                    codes.set_minimum(step, read_u16(block.add(2)));
                }
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        f16_scale(isa, codes)
    }

    #[inline(always)]
    fn minimum<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.widen_f16(codes)
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        // Both classes take q as it is: with Q5_0 the offset 16 is the format's own.
        let table = isa.table(&const { ramp(0) });
        // SAFETY: the caller's rows hold the step's block; 16 bytes from the fifth bits on are inside it.
        let (mut out, fifth) = unsafe {
            let end = (step + 1) * Self::BLOCK;
            let fifth = rows.columns(isa, end - 20)[0];
            (nibbles(isa, rows.at(end - 16), table), fifth)
        };
        for (j, vector) in out.iter_mut().enumerate() {
            let bits = isa.spread_bits(fifth, 4 * j as u32);
            *vector = isa.or(*vector, isa.shift_left(bits, 4));
        }
        // SAFETY: promised by the caller.
        unsafe { to.write(out) };
    }
}

impl<const MINIMUM: bool> Q5<MINIMUM> {
    const BLOCK: usize = if MINIMUM { 24 } else { 22 };
}
