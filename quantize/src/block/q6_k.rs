//! Q6_K: 256 signed levels of six bits in 16 sub-blocks of 16, each with an eight-bit scale.

use super::number::{EPSILON, byte, check_f16, clamp, each, from_f16, round_even, to_f16};
use super::search::{Fit, Groups, Scalar, Search};
use super::super_block::LEN;
use super::{BATCH, Block, Row};

/// `value = (d * scale) * (level - 32)`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ6K {
    /// Low four bits. Byte 64h + l: element 128h + l low, 128h + 64 + l high (l < 64).
    pub ql: [u8; 128],
    /// High two bits. Bits 2s of byte 32h + l: element 128h + 32s + l.
    pub qh: [u8; 64],
    /// One for each sub-block.
    pub scales: [i8; 16],
    /// Factor of the scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ6K>() == 210);

impl BlockQ6K {
    const ZERO: Self = Self {
        ql: [0; 128],
        qh: [0; 64],
        scales: [0; 16],
        d: [0; 2],
    };

    #[inline(always)]
    fn encode(x: &[f32; LEN], fits: &[Fit; 16]) -> Self {
        let mut sizes = [0.0; 16];
        for (size, fit) in sizes.iter_mut().zip(fits) {
            *size = fit.scale;
        }
        let most = Scalar.signed_extreme(&sizes);
        if most.abs() < EPSILON {
            return Self::ZERO;
        }
        let inverse = -128.0 / most;
        let d = to_f16(1.0 / inverse);
        let scales = each(&sizes, |v| {
            clamp(round_even(inverse * v), -128.0, 127.0) as i8
        });
        let mut levels = [0; LEN];
        let sub_blocks = x
            .as_chunks::<16>()
            .0
            .iter()
            .zip(levels.as_chunks_mut::<16>().0);
        for (k, (x, levels)) in sub_blocks.enumerate() {
            // The levels are taken anew, with the scales as the file has them.
            let scale = from_f16(d) * f32::from(scales[k]);
            *levels = if scale == 0.0 {
                each(x, |v| fits[k].level(v, -32.0, 31.0))
            } else {
                each(x, |v| {
                    byte(clamp(round_even(v / scale), -32.0, 31.0) + 32.0)
                })
            };
        }
        let (ql, qh) = pack_six_bits(&levels);
        Self { ql, qh, scales, d }
    }
}

#[inline(always)]
fn pack_six_bits(levels: &[u8; LEN]) -> ([u8; 128], [u8; 64]) {
    let (mut ql, mut qh) = ([0; 128], [0; 64]);
    for (h, levels) in levels.as_chunks::<128>().0.iter().enumerate() {
        let ql = &mut ql.as_chunks_mut::<64>().0[h];
        for l in 0..64 {
            ql[l] = levels[l] & 15 | (levels[l + 64] & 15) << 4;
        }
        let qh = &mut qh.as_chunks_mut::<32>().0[h];
        for l in 0..32 {
            qh[l] = levels[l] >> 4
                | levels[l + 32] >> 4 << 2
                | levels[l + 64] >> 4 << 4
                | levels[l + 96] >> 4 << 6;
        }
    }
    (ql, qh)
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<LEN> for BlockQ6K {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        for (batch, out) in row.batches(out) {
            let mut squares = [0.0; BATCH];
            let w = match batch.importance {
                Some(importance) => importance,
                None => {
                    for (w, x) in squares.iter_mut().zip(batch.x) {
                        *w = x * x;
                    }
                    &squares[..batch.x.len()]
                }
            };
            let mut fits = [Fit::default(); BATCH / 16];
            search.symmetric(
                Groups {
                    len: 16,
                    x: batch.x,
                    w,
                },
                32.0,
                &mut fits,
            );
            let blocks = batch.x.as_chunks().0.iter().zip(fits.as_chunks().0);
            for (out, (x, fits)) in out.iter_mut().zip(blocks) {
                *out = Self::encode(x, fits);
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; LEN]) {
        let d = from_f16(self.d);
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scales[i]);
            // Sixteen elements share a half h, a 32-wide stripe s of it, and the stripe's left or right part.
            let (h, s, part) = (i / 8, i / 2 % 4, i % 2);
            let low = &self.ql.as_chunks::<16>().0[4 * h + 2 * (s % 2) + part];
            let high = &self.qh.as_chunks::<16>().0[2 * h + part];
            for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
                let level = (low >> (4 * (s / 2))) & 15 | ((high >> (2 * s)) & 3) << 4;
                *out = scale * (f32::from(level) - 32.0);
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the factor of the scales is NaN or infinite")
    }
}
