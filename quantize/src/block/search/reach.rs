//! How far a group reaches above and below zero: what the scale of every symmetric format comes from.

use crate::block::lanes::{Isa, Lanes};
use crate::block::number::extremes;

/// The largest value and the largest negated value, both at least 0; NaN is passed over.
#[inline(always)]
pub fn scalar<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let (low, high) = extremes(x, (0.0, 0.0));
    (high, 0.0 - low)
}

/// The same with the lanes of whole vectors side by side. From the text the compiler makes code that works on two values
/// at a time, which took a third of encoding Q8_0.
#[inline(always)]
pub fn lanes<I: Isa, const N: usize>(isa: I, x: &[f32; N]) -> (f32, f32) {
    const { assert!(N.is_multiple_of(I::COUNT), "values would be left over") };
    let zero = isa.splat(0.0);
    let (mut above, mut below) = (zero, zero);
    for part in x.chunks_exact(I::COUNT) {
        let v = isa.load(part);
        above = v.or_larger(above);
        below = (zero - v).or_larger(below);
    }
    (above.largest(), below.largest())
}

#[cfg(test)]
mod tests {
    use crate::block::search::{Scalar, Search};

    #[test]
    fn the_first_of_two_equal_magnitudes_gives_the_sign() {
        let mut x = [0.0; 32];
        assert_eq!(Scalar.signed_extreme(&x).to_bits(), 0);
        x[3] = -0.0;
        assert_eq!(Scalar.signed_extreme(&x).to_bits(), 0);
        (x[5], x[9]) = (-2.0, 2.0);
        assert_eq!(Scalar.signed_extreme(&x), -2.0);
        (x[4], x[30]) = (2.0, f32::NAN);
        assert_eq!(Scalar.signed_extreme(&x), 2.0);
        x[31] = -2.5;
        assert_eq!(Scalar.signed_extreme(&x), -2.5);
        assert_eq!(Scalar.largest_magnitude(&x), 2.5);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn vectors_reach_as_far_as_the_text() {
        use super::{lanes, scalar};
        use crate::block::lanes::x86::{Avx2, Avx512};

        let odd = [
            0.0,
            -0.0,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e-42,
            -3.5,
            2.0,
        ];
        let mut state = 1u32;
        for _ in 0..20_000 {
            let x: [f32; 32] = std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match state >> 28 {
                    0 => odd[(state >> 8) as usize % odd.len()],
                    _ => (state as i32 as f32) * 1e-9,
                }
            });
            let bits = |(above, below): (f32, f32)| (above.to_bits(), below.to_bits());
            let expected = bits(scalar(&x));
            if let Some(isa) = Avx2::detect() {
                assert_eq!(bits(lanes(isa, &x)), expected, "{x:?}");
            }
            if let Some(isa) = Avx512::detect() {
                assert_eq!(bits(lanes(isa, &x)), expected, "{x:?}");
            }
        }
    }
}
