//! Q5_1: 32 levels of five bits, a half-precision scale and minimum.

use super::number::{check_f16, from_f16};
use super::q4_1::fit_range;
use super::q5_0::{join_fifth, split_fifth};
use super::search::{Scalar, Search};
use super::{Block, Row};

/// `value = d * level + m`; low bits and fifth bits as in Q5_0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ5_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// Fifth bits: bit k of this little-endian u32 belongs to element k.
    pub qh: [u8; 4],
    /// Low bits, two to a byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24);

// SAFETY: repr(C), bytes only.
unsafe impl Block<32> for BlockQ5_1 {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        fit_range(search, row, 31, out, |d, m, levels| {
            let (qh, qs) = split_fifth(Scalar, levels);
            Self { d, m, qh, qs }
        });
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let (d, m) = (from_f16(self.d), from_f16(self.m));
        for (out, q) in out.iter_mut().zip(join_fifth(self.qh, &self.qs)) {
            *out = f32::from(q) * d + m;
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the scale is NaN or infinite")?;
        check_f16(self.m, "the minimum is NaN or infinite")
    }
}
