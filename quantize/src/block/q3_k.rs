//! Q3_K: 256 signed levels of three bits in 16 sub-blocks of 16, each with a six-bit scale.

use super::number::{byte, check_f16, clamp, each, from_f16, round_even, sum_of_squares, to_f16};
use super::q2_k::pack_two_bits;
use super::scales6::{pack_sixteen, unpack_sixteen};
use super::search::{Fit, Groups, Scalar, Search};
use super::super_block::LEN;
use super::{BATCH, Block, Row};

/// `value = (d * (scale - 32)) * (level - 4)`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ3K {
    /// Third bits: bit k of byte l belongs to element 32k + l.
    pub hmask: [u8; 32],
    /// Low two bits: bits 2s of byte 32h + l belong to element 128h + 32s + l.
    pub qs: [u8; 64],
    /// Sixteen scales: see [`unpack_sixteen`].
    pub scales: [u8; 12],
    /// Factor of the scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ3K>() == 110);

const SUB_BLOCKS: usize = BATCH / 16;

/// What the search found for a batch: a factor for each super-block, a stored scale for each sub-block,
/// and the levels.
struct Found {
    factors: [f32; BATCH / LEN],
    scales: [u8; SUB_BLOCKS],
    levels: [u8; BATCH],
}

/// Coordinate descent weighted by `x * x`; the largest scale becomes -32.
#[inline(always)]
fn fit_plain<S: Search>(search: S, x: &[f32]) -> Found {
    let mut found = Found {
        factors: [0.0; 8],
        scales: [0; SUB_BLOCKS],
        levels: [0; BATCH],
    };
    let mut w = [0.0; BATCH];
    for (w, x) in w.iter_mut().zip(x) {
        *w = x * x;
    }
    let mut sizes = [0.0; SUB_BLOCKS];
    let sizes = &mut sizes[..x.len() / 16];
    let groups = Groups {
        len: 16,
        x,
        w: &w[..x.len()],
    };
    search.descent(groups, sizes, &mut found.levels[..x.len()]);
    let out = found
        .factors
        .iter_mut()
        .zip(found.scales.as_chunks_mut::<16>().0);
    for (sizes, (factor, scales)) in sizes.as_chunks::<16>().0.iter().zip(out) {
        let most = Scalar.signed_extreme(sizes);
        if most != 0.0 {
            let inverse = -32.0 / most;
            *scales = each(sizes, |v| {
                byte(clamp(round_even(inverse * v), -32.0, 31.0) + 32.0)
            });
            *factor = 1.0 / inverse;
        }
    }
    found
}

/// The symmetric search for levels and then for scales.
#[inline(always)]
fn fit_important<S: Search>(search: S, x: &[f32], importance: &[f32]) -> Found {
    let mut found = Found {
        factors: [0.0; 8],
        scales: [0; SUB_BLOCKS],
        levels: [0; BATCH],
    };
    let mut w = [0.0; BATCH];
    let w = &mut w[..x.len()];
    let blocks = x.chunks_exact(LEN).zip(importance.chunks_exact(LEN));
    for ((x, q), w) in blocks.zip(w.chunks_exact_mut(LEN)) {
        Row::weigh(x, q, 2.0 * sum_of_squares(x) / LEN as f32, w);
    }
    let mut fits = [Fit::default(); SUB_BLOCKS];
    let fits = &mut fits[..x.len() / 16];
    search.symmetric(Groups { len: 16, x, w }, 4.0, fits);
    let (mut sizes, mut sums) = ([0.0; SUB_BLOCKS], [0.0; SUB_BLOCKS]);
    let sub_blocks = x.as_chunks::<16>().0.iter().zip(w.as_chunks::<16>().0);
    for (i, (x, w)) in sub_blocks.enumerate() {
        sizes[i] = fits[i].scale;
        for w in w {
            sums[i] += w;
        }
        found.levels.as_chunks_mut::<16>().0[i] = each(x, |v| fits[i].level(v, -4.0, 3.0));
    }
    let mut outer = [Fit::default(); BATCH / LEN];
    let (sizes, sums) = (&sizes[..fits.len()], &sums[..fits.len()]);
    search.symmetric(
        Groups {
            len: 16,
            x: sizes,
            w: sums,
        },
        32.0,
        &mut outer,
    );
    for (i, sizes) in sizes.as_chunks::<16>().0.iter().enumerate() {
        found.factors[i] = outer[i].scale;
        found.scales.as_chunks_mut::<16>().0[i] = each(sizes, |v| outer[i].level(v, -32.0, 31.0));
    }
    found
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<LEN> for BlockQ3K {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        for (batch, out) in row.batches(out) {
            let mut found = match batch.importance {
                None => fit_plain(search, batch.x),
                Some(importance) => fit_important(search, batch.x, importance),
            };
            let blocks = batch
                .x
                .as_chunks::<LEN>()
                .0
                .iter()
                .zip(found.levels.as_chunks_mut::<LEN>().0);
            for (i, (out, (x, levels))) in out.iter_mut().zip(blocks).enumerate() {
                let scales = &found.scales.as_chunks::<16>().0[i];
                let d = to_f16(found.factors[i]);
                let sub_blocks = x
                    .as_chunks::<16>()
                    .0
                    .iter()
                    .zip(levels.as_chunks_mut::<16>().0);
                for ((x, levels), &scale) in sub_blocks.zip(scales) {
                    // The levels are taken anew, with the scales as the file has them.
                    let scale = from_f16(d) * (f32::from(scale) - 32.0);
                    if scale != 0.0 {
                        *levels = each(x, |v| byte(clamp(round_even(v / scale), -4.0, 3.0) + 4.0));
                    }
                }
                let mut hmask = [0; 32];
                for (k, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
                    for (mask, level) in hmask.iter_mut().zip(levels) {
                        *mask |= (level >> 2) << k;
                    }
                }
                *out = Self {
                    hmask,
                    qs: pack_two_bits(levels),
                    scales: pack_sixteen(scales),
                    d,
                };
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; LEN]) {
        let d = from_f16(self.d);
        let scales = unpack_sixteen(&self.scales);
        for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * (f32::from(scales[i]) - 32.0);
            let low = &self.qs.as_chunks::<16>().0[i / 8 * 2 + i % 2];
            let high = &self.hmask.as_chunks::<16>().0[i % 2];
            for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
                let level = (low >> (2 * (i / 2 % 4))) & 3 | ((high >> (i / 2)) & 1) << 2;
                *out = scale * (f32::from(level) - 4.0);
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the factor of the scales is NaN or infinite")
    }
}
