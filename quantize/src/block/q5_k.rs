//! Q5_K: 256 levels of five bits in 8 sub-blocks of 32, each with a six-bit scale and minimum.

use super::number::{check_f16, from_f16};
use super::scales6::{pack_pairs, unpack_pairs};
use super::search::Search;
use super::search::asymmetric::Trials;
use super::super_block::{self, LEN, Plan};
use super::{Block, Row};

/// `value = (d * scale) * level - dmin * minimum`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ5K {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Factor of the minimums, f16.
    pub dmin: [u8; 2],
    /// Eight scales and minimums: see [`unpack_pairs`].
    pub scales: [u8; 12],
    /// Fifth bits: bit k of byte l belongs to element 32k + l.
    pub qh: [u8; 32],
    /// Low bits as in Q4_K.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5K>() == 176);

const PLAN: Plan = Plan {
    sub_block: 32,
    most_scale: 63.0,
    trials: Trials {
        n: 31.0,
        first: -0.5,
        step: 0.1,
        count: 15,
        absolute: false,
    },
    spread: 1.0,
    mean_square_factor: 2.0,
};

// SAFETY: repr(C), bytes only.
unsafe impl Block<LEN> for BlockQ5K {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        super_block::encode_row(search, &PLAN, row, out, |parts| {
            let (mut qh, mut qs) = ([0; 32], [0; 128]);
            for (k, levels) in parts.levels.as_chunks::<32>().0.iter().enumerate() {
                let qs = &mut qs.as_chunks_mut::<32>().0[k / 2];
                for l in 0..32 {
                    qs[l] |= (levels[l] & 15) << (4 * (k % 2));
                    qh[l] |= (levels[l] >> 4) << k;
                }
            }
            Self {
                d: parts.d,
                dmin: parts.dmin,
                scales: pack_pairs(parts.scales, parts.minimums),
                qh,
                qs,
            }
        });
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; LEN]) {
        let (d, dmin) = (from_f16(self.d), from_f16(self.dmin));
        let (scales, minimums) = unpack_pairs(&self.scales);
        for (k, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scale = d * f32::from(scales[k]);
            let minimum = dmin * f32::from(minimums[k]);
            let bytes = self.qs.as_chunks::<32>().0[k / 2].iter().zip(&self.qh);
            for (out, (low, high)) in out.iter_mut().zip(bytes) {
                let level = ((low >> (4 * (k % 2))) & 15) | ((high >> k) & 1) << 4;
                *out = scale * f32::from(level) - minimum;
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the factor of the scales is NaN or infinite")?;
        check_f16(self.dmin, "the factor of the minimums is NaN or infinite")
    }
}
