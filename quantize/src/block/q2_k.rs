//! Q2_K: 256 levels of two bits in 16 sub-blocks of 16, each with a four-bit scale and minimum.

use super::number::{check_f16, from_f16};
use super::search::Search;
use super::search::asymmetric::Trials;
use super::super_block::{self, LEN, Plan};
use super::{Block, Row};

/// `value = (d * scale) * level - dmin * minimum`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ2K {
    /// One for each sub-block: scale in the low nibble, minimum in the high one.
    pub scales: [u8; 16],
    /// Bits 2s of byte 32h + l: level of element 128h + 32s + l.
    pub qs: [u8; 64],
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Factor of the minimums, f16.
    pub dmin: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ2K>() == 84);

const PLAN: Plan = Plan {
    sub_block: 16,
    most_scale: 15.0,
    trials: Trials {
        n: 3.0,
        first: -0.5,
        step: 0.1,
        count: 15,
        absolute: true,
    },
    spread: 0.0,
    mean_square_factor: 1.0,
};

/// Packs two-bit values: element 128h + 32s + l goes to bits 2s of byte 32h + l.
#[inline(always)]
pub fn pack_two_bits(levels: &[u8; LEN]) -> [u8; 64] {
    let mut qs = [0; 64];
    for (k, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
        let qs = &mut qs.as_chunks_mut::<32>().0[k / 4];
        for (q, level) in qs.iter_mut().zip(levels) {
            *q |= (level & 3) << (2 * (k % 4));
        }
    }
    qs
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<LEN> for BlockQ2K {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        super_block::encode_row(search, &PLAN, row, out, |parts| {
            let mut scales = [0; 16];
            for (packed, (scale, minimum)) in scales
                .iter_mut()
                .zip(parts.scales.iter().zip(parts.minimums))
            {
                *packed = scale | minimum << 4;
            }
            Self {
                scales,
                qs: pack_two_bits(parts.levels),
                d: parts.d,
                dmin: parts.dmin,
            }
        });
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; LEN]) {
        let (d, dmin) = (from_f16(self.d), from_f16(self.dmin));
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scales[i] & 15);
            let minimum = dmin * f32::from(self.scales[i] >> 4);
            let bytes = &self.qs.as_chunks::<16>().0[i / 8 * 2 + i % 2];
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = scale * f32::from((byte >> (2 * (i / 2 % 4))) & 3) - minimum;
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the factor of the scales is NaN or infinite")?;
        check_f16(self.dmin, "the factor of the minimums is NaN or infinite")
    }
}
