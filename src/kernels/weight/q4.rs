//! Q4_0, Q4_1, Q5_0 and Q5_1: 32 nibbles, with their fifth bits or without, and a scale, or a scale and a minimum; 18 to 24 bytes.

use super::{
    Affine, Class, Codes, Rows, Small, Step, Weight, f16_scale, nibbles, nibbles_along, ramp,
    read_u16,
};
use crate::kernels::isa::Isa;

/// Blocks of `{ scale: f16, (minimum: f16,) (fifth_bits: u32,) nibbles: [u8; 16] }`; a weight is `scale * q + minimum`, or
/// `scale * (q - 8)` and with fifth bits `scale * (q - 16)`.
pub struct Q45<const FIFTH: bool, const MINIMUM: bool>;

/// The class is a type, and types cannot be chosen by a constant: this does it.
pub trait Offset {
    /// The class.
    type Class: Class;
}
impl<const FIFTH: bool> Offset for Q45<FIFTH, false> {
    type Class = Small;
}
impl<const FIFTH: bool> Offset for Q45<FIFTH, true> {
    type Class = Affine;
}

impl<const FIFTH: bool, const MINIMUM: bool> Weight for Q45<FIFTH, MINIMUM>
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
        let end = (step + 1) * Self::BLOCK;
        // SAFETY: the caller's rows hold the step's block, whose last 16 bytes are the nibbles.
        let mut out = unsafe { nibbles(isa, rows.at(end - 16), isa.table(&Self::TABLE)) };
        if FIFTH {
            // SAFETY: the fifth bits come before the nibbles; 16 bytes from there on are inside the block.
            let fifth = unsafe { rows.columns(isa, end - 20) }[0];
            for (j, vector) in out.iter_mut().enumerate() {
                let bits = isa.spread_bits(fifth, 4 * j as u32);
                *vector = isa.or(*vector, isa.shift_left(bits, 4));
            }
        }
        // SAFETY: promised by the caller.
        unsafe { to.write(out) };
    }

    const ALONG: usize = if FIFTH || MINIMUM { 0 } else { Self::BLOCK };

    #[inline(always)]
    unsafe fn along<I: Isa>(isa: I, row: *const u8, step: usize) -> [I::Ints; 2] {
        let (from, table) = ((step + 1) * Self::BLOCK - 16, isa.table(&Self::TABLE));
        // SAFETY: the caller's row holds the steps' blocks.
        unsafe { nibbles_along(isa, row.add(from), Self::BLOCK, table) }
    }
}

impl<const FIFTH: bool, const MINIMUM: bool> Q45<FIFTH, MINIMUM> {
    const BLOCK: usize = 18 + if FIFTH { 4 } else { 0 } + if MINIMUM { 2 } else { 0 };
    /// With fifth bits the class's offset of 16 is the format's own, and with a minimum there is none.
    const TABLE: [i8; 16] = match (FIFTH, MINIMUM) {
        (false, false) => ramp(Small::OFFSET as i8 - 8),
        _ => ramp(0),
    };
}
