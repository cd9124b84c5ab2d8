//! MXFP4: 32 four-bit floats and a power of two; the format gpt-oss experts are trained in.

use super::number::{pack_nibbles, unpack_nibbles};
use super::search::Search;
use super::search::fp4::DOUBLED;
use super::{Block, Row};

/// `value = 2^(e - 127) * element`; nibble order as in [`pack_nibbles`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockMxfp4 {
    /// Biased exponent of the scale; 255 would be NaN.
    pub e: u8,
    /// Codes of sign, two exponent bits and one mantissa bit, two to a byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockMxfp4>() == 17);

/// Half the scale, `2^(e - 128)`, to go with the [`DOUBLED`] values. 0 and 1 give subnormal numbers.
#[inline(always)]
pub fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 {
        0x0020_0000 << e
    } else {
        u32::from(e - 1) << 23
    })
}

/// `floor(log2(v)) + 125` as byte, with a logarithm that is rounded to f32 before the floor: a few units
/// in the last place below a power of two it rounds up, and the scale becomes one larger.
#[inline(always)]
fn scale_exponent(v: f32) -> u8 {
    let (exponent, mantissa) = ((v.to_bits() >> 23) as i32, v.to_bits() & 0x7f_ffff);
    // Below 2^k the f32 logarithm rounds to k for at most 44 units, at |k| = 128.
    let floor = if exponent > 0 && exponent < 255 && mantissa < 0x7f_ffff - 64 {
        exponent - 127
    } else if v > 0.0 {
        // Through f64, so that the f32 is the correctly rounded one. An infinity saturates.
        (f64::from(v).log2() as f32).floor().clamp(-200.0, 200.0) as i32
    } else {
        return 0;
    };
    // Elsewhere the smallest exponents wrap around; the smallest scale is the nearest there is.
    (floor + 125).clamp(0, 254) as u8
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<32> for BlockMxfp4 {
    /// Importance changes nothing: the scale is given by the largest value.
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        for (out, x) in out.iter_mut().zip(row.x.as_chunks().0) {
            let e = scale_exponent(search.largest_magnitude(x));
            let qs = pack_nibbles(&search.fp4::<32>(x, half_scale(e)));
            *out = Self { e, qs };
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_scale(self.e);
        for (out, code) in out.iter_mut().zip(unpack_nibbles(&self.qs)) {
            *out = f32::from(DOUBLED[usize::from(code & 15)]) * scale;
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.e == 255 {
            Err("the scale is NaN (exponent 255)")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_match_the_golden_ones() {
        let golden = include_bytes!("../../tests/vectors/scalar/e8m0_half.f32");
        for (e, bytes) in golden.as_chunks::<4>().0.iter().enumerate() {
            assert_eq!(half_scale(e as u8), f32::from_le_bytes(*bytes), "{e}");
        }
    }

    #[test]
    fn the_exponent_is_that_of_a_rounded_logarithm() {
        let slow = |v: f32| ((f64::from(v).log2() as f32).floor() as i32 + 125).clamp(0, 254) as u8;
        for k in 1..=254u32 {
            for ulps in -200..200 {
                let v = f32::from_bits((k << 23).wrapping_add_signed(ulps));
                assert_eq!(scale_exponent(v), slow(v), "{v:e}");
            }
        }
        assert_eq!(scale_exponent(f32::from_bits(0x3b00_0000 - 1)), 116);
        assert_eq!((scale_exponent(0.0), scale_exponent(1e-45)), (0, 0));
        assert_eq!(scale_exponent(f32::INFINITY), 254);
    }
}
