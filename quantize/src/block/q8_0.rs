//! Q8_0: 32 signed bytes and a half-precision scale.

use super::number::{check_f16, each, from_f16, inverse, round_away, to_f16};
use super::search::Search;
use super::{Block, Row};

/// `value = d * qs`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ8_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Levels.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34);

impl BlockQ8_0 {
    #[inline(always)]
    fn encode(search: impl Search, x: &[f32; 32]) -> Self {
        let d = search.largest_magnitude(x) / 127.0;
        // The levels come from the scale before it is rounded to f16.
        let id = inverse(d);
        Self {
            d: to_f16(d),
            qs: each(x, |v| round_away(v * id)),
        }
    }
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<32> for BlockQ8_0 {
    /// Importance changes nothing: the scale is given by the largest value.
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        for (out, x) in out.iter_mut().zip(row.x.as_chunks().0) {
            *out = Self::encode(search, x);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = from_f16(self.d);
        for (out, &q) in out.iter_mut().zip(&self.qs) {
            *out = f32::from(q) * d;
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the scale is NaN or infinite")
    }
}
