//! F32, F16 and BF16 as blocks of one element.

use super::number::{from_bf16, from_f16, to_bf16, to_f16};
use super::search::Search;
use super::{Block, Row};

/// A little-endian f32.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct F32(pub [u8; 4]);

/// A little-endian half.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct F16(pub [u8; 2]);

/// A little-endian bfloat16: the upper half of an f32.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bf16(pub [u8; 2]);

const _: () = assert!(size_of::<F32>() == 4 && size_of::<F16>() == 2 && size_of::<Bf16>() == 2);

/// The place of the first value that is NaN or infinite.
pub fn first_not_finite(values: &[f32]) -> Option<usize> {
    // Adding one to an exponent of all ones carries into the sign. The bits of all values are joined without a branch or a
    // comparison, so that it vectorizes on any CPU: this runs over every weight of a model.
    let joined = values.iter().fold(0, |joined, value| {
        joined | ((value.to_bits() & 0x7fff_ffff) + 0x0080_0000)
    });
    (joined >> 31 != 0)
        .then(|| values.iter().position(|value| !value.is_finite()))
        .flatten()
}

const NOT_FINITE: &str = "a value is NaN or infinite";

/// Whether the exponent is all ones in the top bits of a float, given where it lies.
fn finite(top: u16, exponent: u16) -> Result<(), &'static str> {
    if top & exponent == exponent {
        Err(NOT_FINITE)
    } else {
        Ok(())
    }
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<1> for F32 {
    #[inline(always)]
    fn encode_row<S: Search>(_: S, row: Row<'_>, out: &mut [Self]) {
        for (out, v) in out.iter_mut().zip(row.x) {
            out.0 = v.to_le_bytes();
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 1]) {
        out[0] = f32::from_le_bytes(self.0);
    }

    fn check(&self) -> Result<(), &'static str> {
        finite(u16::from_le_bytes([self.0[2], self.0[3]]), 0x7f80)
    }
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<1> for F16 {
    #[inline(always)]
    fn encode_row<S: Search>(_: S, row: Row<'_>, out: &mut [Self]) {
        for (out, &v) in out.iter_mut().zip(row.x) {
            out.0 = to_f16(v);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 1]) {
        out[0] = from_f16(self.0);
    }

    fn check(&self) -> Result<(), &'static str> {
        finite(u16::from_le_bytes(self.0), 0x7c00)
    }
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<1> for Bf16 {
    #[inline(always)]
    fn encode_row<S: Search>(_: S, row: Row<'_>, out: &mut [Self]) {
        for (out, &v) in out.iter_mut().zip(row.x) {
            out.0 = to_bf16(v);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 1]) {
        out[0] = from_bf16(self.0);
    }

    fn check(&self) -> Result<(), &'static str> {
        finite(u16::from_le_bytes(self.0), 0x7f80)
    }
}
