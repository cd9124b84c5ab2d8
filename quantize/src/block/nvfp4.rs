//! NVFP4: 64 four-bit floats, an unsigned eight-bit float for each 16 of them.

use super::search::Search;
use super::search::fp4::DOUBLED;
use super::{Block, Row};

/// `value = scale(d[s]) * element` for the sixteen elements s.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockNvfp4 {
    /// Scales: four exponent bits, three mantissa bits, no sign.
    pub d: [u8; 4],
    /// Byte 8s + i: element 16s + i low, 16s + 8 + i high.
    pub qs: [u8; 32],
}

const _: () = assert!(size_of::<BlockNvfp4>() == 36);

/// The largest finite scale, 448.
const LARGEST: u8 = 0x7e;

/// Half the scale, to go with the [`DOUBLED`] values. 0x7f, NaN elsewhere, reads as 0.
#[inline(always)]
pub fn half_scale(d: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(d >> 3), f32::from(d & 7));
    if d == 0x7f {
        0.0
    } else if exponent == 0 {
        mantissa * (0.5 / 512.0)
    } else {
        // 2^(exponent - 8), which is half of 2^(exponent - 7).
        (1.0 + mantissa / 8.0) * f32::from_bits(((exponent - 8 + 127) as u32) << 23)
    }
}

/// The scale byte for `v`: half up in the mantissa, saturating.
#[inline(always)]
fn to_scale(v: f32) -> u8 {
    if v.is_nan() || v <= 0.0 {
        return 0;
    }
    let v = if v < 448.0 { v } else { 448.0 };
    let exponent = (v.to_bits() >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return ((v * 512.0 + 0.5) as u8).min(7);
    }
    if exponent >= 15 {
        return LARGEST;
    }
    let mantissa = v.to_bits() >> 20 & 7;
    let rounded = ((exponent as u32) << 3 | mantissa) + (v.to_bits() >> 19 & 1);
    if rounded >= 15 << 3 {
        LARGEST
    } else {
        rounded as u8
    }
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<64> for BlockNvfp4 {
    /// Importance changes nothing: the scales are given by the largest values.
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        for (out, x) in out.iter_mut().zip(row.x.as_chunks::<64>().0) {
            let (d, qs) = (&mut out.d, out.qs.as_chunks_mut::<8>().0);
            for ((d, qs), x) in d.iter_mut().zip(qs).zip(x.as_chunks::<16>().0) {
                *d = to_scale(search.largest_magnitude(x) / 6.0);
                let codes = search.fp4::<16>(x, half_scale(*d));
                for (i, q) in qs.iter_mut().enumerate() {
                    *q = codes[i] | codes[i + 8] << 4;
                }
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 64]) {
        let sub_blocks = self.d.iter().zip(self.qs.as_chunks::<8>().0);
        for (out, (&d, qs)) in out.as_chunks_mut::<16>().0.iter_mut().zip(sub_blocks) {
            let scale = half_scale(d & 0x7f);
            for (i, q) in qs.iter().enumerate() {
                out[i] = f32::from(DOUBLED[usize::from(q & 15)]) * scale;
                out[i + 8] = f32::from(DOUBLED[usize::from(q >> 4)]) * scale;
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.d.iter().any(|d| d & 0x80 != 0) {
            Err("a scale has its sign bit set")
        } else if self.d.contains(&0x7f) {
            Err("a scale is NaN (0x7f)")
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
        let golden = include_bytes!("../../tests/vectors/scalar/ue4m3_half.f32");
        for (d, bytes) in golden.as_chunks::<4>().0.iter().enumerate() {
            assert_eq!(half_scale(d as u8), f32::from_le_bytes(*bytes), "{d:#x}");
        }
    }

    #[test]
    fn a_scale_comes_back_as_itself() {
        for d in 0..LARGEST {
            assert_eq!(
                to_scale(half_scale(d) * 2.0),
                if d >> 3 == 15 { LARGEST } else { d },
                "{d:#x}"
            );
        }
        assert_eq!(
            (to_scale(1e9), to_scale(f32::NAN), to_scale(-1.0)),
            (LARGEST, 0, 0)
        );
    }
}
