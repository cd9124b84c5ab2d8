//! Q5_0: 32 levels of five bits around 16, one half-precision scale.

use super::number::{
    check_f16, each, from_f16, inverse, pack_nibbles, to_f16, truncate, unpack_nibbles,
};
use super::q4_0::fit_symmetric;
use super::search::{Scalar, Search};
use super::{Block, Row};

/// `value = d * (level - 16)`; the low four bits in `qs` as in [`pack_nibbles`], the fifth in `qh`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ5_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Fifth bits: bit k of this little-endian u32 belongs to element k.
    pub qh: [u8; 4],
    /// Low bits, two to a byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22);

impl BlockQ5_0 {
    #[inline(always)]
    fn encode(search: impl Search, x: &[f32; 32]) -> Self {
        let d = search.signed_extreme(x) / -16.0;
        let id = inverse(d);
        let levels = each(x, |v| truncate(v * id + 16.5, 31));
        Self::pack(search, to_f16(d), &levels)
    }

    #[inline(always)]
    fn pack(search: impl Search, d: [u8; 2], levels: &[u8; 32]) -> Self {
        let (qh, qs) = split_fifth(search, levels);
        Self { d, qh, qs }
    }
}

/// Splits five-bit levels into fifth bits and packed low bits.
#[inline(always)]
pub fn split_fifth(search: impl Search, levels: &[u8; 32]) -> ([u8; 4], [u8; 16]) {
    let mut low = [0; 32];
    for (low, level) in low.iter_mut().zip(levels) {
        *low = level & 15;
    }
    (search.fifth_bits(levels), pack_nibbles(&low))
}

/// Undoes [`split_fifth`].
#[inline(always)]
pub fn join_fifth(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let mut levels = unpack_nibbles(qs);
    for (levels, high) in levels.as_chunks_mut::<8>().0.iter_mut().zip(qh) {
        for (k, level) in levels.iter_mut().enumerate() {
            *level |= (high >> k & 1) << 4;
        }
    }
    levels
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<32> for BlockQ5_0 {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        let Some(_) = row.importance else {
            for (out, x) in out.iter_mut().zip(row.x.as_chunks().0) {
                *out = Self::encode(search, x);
            }
            return;
        };
        fit_symmetric(search, row, 16.0, out, |d, levels| {
            Self::pack(Scalar, d, levels)
        });
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = from_f16(self.d);
        for (out, q) in out.iter_mut().zip(join_fifth(self.qh, &self.qs)) {
            *out = (f32::from(q) - 16.0) * d;
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the scale is NaN or infinite")
    }
}
