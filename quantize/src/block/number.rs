//! The small arithmetic every format leans on: rounding, clamping, half precision, extremes of a group.
//!
//! All of it is exact by definition (no fused multiply-add, no fast-math), so that the same input gives
//! the same bytes at every vector width.

use half::{bf16, f16};

/// A group whose largest magnitude is below this counts as all zero.
pub const EPSILON: f32 = 1e-15;

/// Adding and subtracting 1.5 * 2^23 leaves the nearest integer, ties to even, for |v| <= 2^22.
/// Beyond that the result is off by at most a few units of a number that every caller clamps below 128.
pub const ROUNDER: f32 = 12_582_912.0;

/// Rounds to the nearest integer, ties to even, and never to minus zero.
#[inline(always)]
pub fn round_even(v: f32) -> f32 {
    (v + ROUNDER) - ROUNDER
}

/// Rounds to the nearest integer, ties away from zero, into an `i8`; NaN becomes -128.
///
/// 0.49999997 is the largest f32 below one half; with a plain 0.5 the value 0.49999997 would round up.
#[inline(always)]
pub fn round_away(v: f32) -> i8 {
    let v = clamp(v + 0.499_999_97_f32.copysign(v), -128.0, 127.0);
    // SAFETY: clamped to what an i8 holds. The checked cast takes three more instructions a value.
    unsafe { v.to_int_unchecked::<i32>() as i8 }
}

/// Cuts off the fraction; what is out of `0..=high` goes to the nearer end, NaN to 0.
#[inline(always)]
pub fn truncate(v: f32, high: u8) -> u8 {
    let v = clamp(v, 0.0, f32::from(high));
    // SAFETY: clamped to what a u8 holds. The checked cast takes three more instructions a value.
    unsafe { v.to_int_unchecked::<i32>() as u8 }
}

/// Limits `v` to `low..=high`; NaN becomes `low`.
#[inline(always)]
pub fn clamp(v: f32, low: f32, high: f32) -> f32 {
    let v = if v > low { v } else { low };
    if v < high { v } else { high }
}

/// The byte of a small non-negative whole number: [`clamp`] it first.
#[inline(always)]
pub fn byte(whole: f32) -> u8 {
    // The sum's low mantissa bits are the integer itself; a saturating cast costs three times as much.
    (whole + ROUNDER).to_bits() as u8
}

/// Reads a little-endian half.
#[inline(always)]
pub fn from_f16(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Writes a little-endian half, rounded to nearest even; too large becomes infinite.
/// Every NaN becomes the same one: which one arithmetic yields depends on the instructions used.
#[inline(always)]
pub fn to_f16(v: f32) -> [u8; 2] {
    if v.is_nan() {
        f16::NAN.to_le_bytes()
    } else {
        f16::from_f32(v).to_le_bytes()
    }
}

/// Reads a little-endian bfloat16.
#[inline(always)]
pub fn from_bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// Writes a little-endian bfloat16, rounded to nearest even; NaN stays NaN.
#[inline(always)]
pub fn to_bf16(v: f32) -> [u8; 2] {
    bf16::from_f32(v).to_le_bytes()
}

/// What is wrong with a half used as a scale, if anything.
#[inline(always)]
pub fn check_f16(bytes: [u8; 2], what: &'static str) -> Result<(), &'static str> {
    // An exponent of all ones is an infinity or a NaN.
    if bytes[1] & 0x7c == 0x7c {
        Err(what)
    } else {
        Ok(())
    }
}

/// Smallest and largest of a group, each at least as far out as `start`; NaN is passed over.
#[inline(always)]
pub fn extremes<const N: usize>(x: &[f32; N], start: (f32, f32)) -> (f32, f32) {
    // Eight running extremes instead of one: the order of comparisons does not change the outcome.
    let (mut low, mut high) = ([start.0; 8], [start.1; 8]);
    for chunk in x.as_chunks::<8>().0 {
        for lane in 0..8 {
            let v = chunk[lane];
            low[lane] = if v < low[lane] { v } else { low[lane] };
            high[lane] = if v > high[lane] { v } else { high[lane] };
        }
    }
    for half in [4, 2, 1] {
        for lane in 0..half {
            let (l, h) = (low[lane + half], high[lane + half]);
            low[lane] = if l < low[lane] { l } else { low[lane] };
            high[lane] = if h > high[lane] { h } else { high[lane] };
        }
    }
    (low[0], high[0])
}

/// Sum of squares in order.
#[inline(always)]
pub fn sum_of_squares(x: &[f32]) -> f32 {
    let mut sum = 0.0;
    for v in x {
        sum += v * v;
    }
    sum
}

/// 1/v, or 0 for 0.
#[inline(always)]
pub fn inverse(v: f32) -> f32 {
    if v != 0.0 { 1.0 / v } else { 0.0 }
}

/// `f` of each value. A plain loop: the vectorizer does not see through `array::map`.
#[inline(always)]
pub fn each<T: Copy + Default, const N: usize>(x: &[f32; N], f: impl Fn(f32) -> T) -> [T; N] {
    let mut out = [T::default(); N];
    for (out, &v) in out.iter_mut().zip(x) {
        *out = f(v);
    }
    out
}

/// Packs 32 four-bit codes: element j in the low nibble of byte j, element j + 16 in the high one.
#[inline(always)]
pub fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    let mut packed = [0; 16];
    for j in 0..16 {
        packed[j] = codes[j] | codes[j + 16] << 4;
    }
    packed
}

/// Undoes [`pack_nibbles`].
#[inline(always)]
pub fn unpack_nibbles(packed: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for j in 0..16 {
        codes[j] = packed[j] & 15;
        codes[j + 16] = packed[j] >> 4;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_agrees_with_the_standard_library() {
        for i in -40_000..40_000 {
            let v = i as f32 / 128.0;
            assert_eq!(round_even(v), v.round_ties_even(), "{v}");
            assert_eq!(round_away(v), v.round() as i8, "{v}");
            assert_eq!(truncate(v, 31), (v as u8).min(31), "{v}");
        }
        assert_eq!(round_away(0.499_999_97), 0);
        assert_eq!(round_away(-0.5), -1);
    }

    #[test]
    fn clamping_a_nan_gives_the_lower_end() {
        assert_eq!(clamp(f32::NAN, -4.0, 3.0), -4.0);
        assert_eq!(clamp(f32::INFINITY, -4.0, 3.0), 3.0);
        for whole in 0..=127u8 {
            assert_eq!(byte(f32::from(whole)), whole);
        }
    }

    #[test]
    fn conversions_match_the_golden_ones() {
        let input = include_bytes!("../../tests/vectors/scalar/conv_input.f32");
        let halves = include_bytes!("../../tests/vectors/scalar/conv_f16.u16");
        let brains = include_bytes!("../../tests/vectors/scalar/conv_bf16.u16");
        let inputs = input.as_chunks::<4>().0;
        assert_eq!(inputs.len(), 2026);
        let expected = halves
            .as_chunks::<2>()
            .0
            .iter()
            .zip(brains.as_chunks::<2>().0);
        for (bytes, (&half, &brain)) in inputs.iter().zip(expected) {
            let v = f32::from_le_bytes(*bytes);
            if v.is_nan() {
                assert!(from_f16(to_f16(v)).is_nan() && from_bf16(to_bf16(v)).is_nan());
            } else {
                assert_eq!(to_f16(v), half, "{v:e}");
                assert_eq!(to_bf16(v), brain, "{v:e}");
            }
        }
    }

    #[test]
    fn only_infinities_and_nans_are_bad_scales() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            assert_eq!(
                check_f16(bytes, "").is_ok(),
                from_f16(bytes).is_finite(),
                "{bits:#x}"
            );
        }
    }
}
