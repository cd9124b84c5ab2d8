//! Four-bit floats (sign, two exponent bits, one mantissa bit), the elements of MXFP4 and NVFP4.

/// Twice the value of each code, so that they are whole numbers; scales are halved in exchange.
/// Code 8, minus zero, reads as zero.
pub const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half-way points between the doubled magnitudes. A value on one belongs to the smaller magnitude.
const MIDDLES: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];

/// The lowest code whose value times `scale` is nearest to `x`.
pub fn nearest(x: f32, scale: f32) -> u8 {
    let distance = |code: usize| (f32::from(DOUBLED[code]) * scale - x).abs();
    let mut best = 0;
    for code in 1..16 {
        if distance(code) < distance(best) {
            best = code;
        }
    }
    best as u8
}

/// [`nearest`] of a group, written for the vectorizer: the code is the number of half-way points below.
///
/// That is the same while distances are exact near the half-way points. They are not where values are
/// so far outside the table that all distances round alike, where products overflow, or where the scale
/// is zero; such groups take the slow way.
#[inline(always)]
pub fn count_below<const N: usize>(x: &[f32; N], scale: f32) -> [u8; N] {
    let limit = 16.0 * scale;
    let mut beyond = false;
    for v in x {
        beyond |= v.abs() > limit;
    }
    if beyond || scale == 0.0 || limit == f32::INFINITY {
        return x.map(|v| nearest(v, scale));
    }
    let middles = MIDDLES.map(|middle| middle * scale);
    let mut codes = [0u32; N];
    for (code, &v) in codes.iter_mut().zip(x) {
        let magnitude = v.abs();
        for middle in middles {
            *code += u32::from(magnitude > middle);
        }
        let sign = if *code > 0 { v.to_bits() >> 31 } else { 0 };
        *code |= sign << 3;
    }
    codes.map(|code| code as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_half_way_points_is_comparing_distances() {
        for scale in [
            1.0,
            0.375,
            2f32.powi(-128),
            2f32.powi(123),
            2f32.powi(125),
            0.0,
        ] {
            for middle in MIDDLES {
                for ulps in -300..=300 {
                    let v = f32::from_bits((middle * scale).to_bits().saturating_add_signed(ulps));
                    let x = [v, -v, v * 0.9, -v * 1.1, 0.0, -0.0, f32::NAN, v * 1.5];
                    assert_eq!(
                        count_below(&x, scale),
                        x.map(|v| nearest(v, scale)),
                        "{x:?} {scale:e}"
                    );
                }
            }
        }
        let far = [1e30, -1e30, 2e5, 3e4, f32::INFINITY, 1.0, 12.0, 14.0];
        assert_eq!(count_below(&far, 1.0), far.map(|v| nearest(v, 1.0)));
    }
}
