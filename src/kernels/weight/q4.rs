//! Q4_0 and Q4_1: 32 nibbles with a scale, or a scale and a minimum; 18 and 20 bytes.

use super::{
    Affine, Class, Codes, Rows, Small, Step, Weight, f16_scale, nibbles, nibbles_along, ramp,
    read_u16,
};
use crate::kernels::isa::Isa;

/// Blocks of `{ scale: f16, (minimum: f16,) nibbles: [u8; 16] }`; a weight is `scale * (nibble - 8)`, or `scale * nibble + minimum`.
pub struct Q4<const MINIMUM: bool>;

/// The class is a type, and types cannot be chosen by a constant: this does it.
pub trait Offset {
    /// The class.
    type Class: Class;
}
impl Offset for Q4<false> {
    type Class = Small;
}
impl Offset for Q4<true> {
    type Class = Affine;
}

impl<const MINIMUM: bool> Weight for Q4<MINIMUM>
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
        let table = isa.table(&Self::TABLE);
        // SAFETY: the caller's rows hold the step's block, whose last 16 bytes are the nibbles.
        unsafe { to.write(nibbles(isa, rows.at((step + 1) * Self::BLOCK - 16), table)) }
    }

    const ALONG: usize = if MINIMUM { 0 } else { Self::BLOCK };

    #[inline(always)]
    unsafe fn along<I: Isa>(isa: I, row: *const u8, step: usize) -> [I::Ints; 2] {
        let (from, table) = ((step + 1) * Self::BLOCK - 16, isa.table(&Self::TABLE));
        // SAFETY: the caller's row holds the steps' blocks.
        unsafe { nibbles_along(isa, row.add(from), Self::BLOCK, table) }
    }
}

impl<const MINIMUM: bool> Q4<MINIMUM> {
    const BLOCK: usize = if MINIMUM { 20 } else { 18 };
    const TABLE: [i8; 16] = ramp(if MINIMUM { 0 } else { Small::OFFSET as i8 - 8 });
}
