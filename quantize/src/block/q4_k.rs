//! Q4_K: 256 levels of four bits in 8 sub-blocks of 32, each with a six-bit scale and minimum.

use super::number::{check_f16, from_f16};
use super::scales6::{pack_pairs, unpack_pairs};
use super::search::Search;
use super::search::asymmetric::Trials;
use super::super_block::{self, LEN, Plan};
use super::{Block, Row};

/// `value = (d * scale) * level - dmin * minimum`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ4K {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Factor of the minimums, f16.
    pub dmin: [u8; 2],
    /// Eight scales and minimums: see [`unpack_pairs`].
    pub scales: [u8; 12],
    /// Byte l of the 32 of group g: level of element 64g + l low, of 64g + 32 + l high.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4K>() == 144);

const PLAN: Plan = Plan {
    sub_block: 32,
    most_scale: 63.0,
    trials: Trials {
        n: 15.0,
        first: -1.0,
        step: 0.1,
        count: 20,
        absolute: false,
    },
    spread: 1.0,
    mean_square_factor: 2.0,
};

// SAFETY: repr(C), bytes only.
unsafe impl Block<LEN> for BlockQ4K {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        super_block::encode_row(search, &PLAN, row, out, |parts| {
            let mut qs = [0; 128];
            for (qs, levels) in qs
                .as_chunks_mut::<32>()
                .0
                .iter_mut()
                .zip(parts.levels.as_chunks::<64>().0)
            {
                for l in 0..32 {
                    qs[l] = levels[l] | levels[l + 32] << 4;
                }
            }
            Self {
                d: parts.d,
                dmin: parts.dmin,
                scales: pack_pairs(parts.scales, parts.minimums),
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
            let bytes = &self.qs.as_chunks::<32>().0[k / 2];
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = scale * f32::from((byte >> (4 * (k % 2))) & 15) - minimum;
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the factor of the scales is NaN or infinite")?;
        check_f16(self.dmin, "the factor of the minimums is NaN or infinite")
    }
}
