//! What Q2_K, Q4_K and Q5_K share: 256 values in sub-blocks, each with a scale and a minimum that are
//! themselves small integers times a half-precision factor of the super-block.

use super::number::{byte, clamp, from_f16, round_even, sum_of_squares, to_f16};
use super::search::asymmetric::Trials;
use super::search::{Fit, Groups, Search};
use super::{BATCH, Block, Row};

/// Values in a super-block.
pub const LEN: usize = 256;
const SUPER_BLOCKS: usize = BATCH / LEN;
/// Most sub-blocks in a super-block.
const PARTS: usize = 16;

/// How one of the three types searches.
pub struct Plan {
    /// Values in a sub-block: 16 or 32.
    pub sub_block: usize,
    /// The largest integer a scale or minimum may be.
    pub most_scale: f32,
    /// The search without importance; with it, [`Trials::with_importance`] of the same `n`.
    pub trials: Trials,
    /// Without importance a value weighs its magnitude, plus this times its sub-block's root mean square.
    pub spread: f32,
    /// With importance, the mean square of the super-block counts this often.
    pub mean_square_factor: f32,
}

/// A super-block before it is packed.
pub struct Parts<'a> {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Factor of the minimums, f16.
    pub dmin: [u8; 2],
    /// One integer scale for each sub-block.
    pub scales: &'a [u8],
    /// One integer minimum for each sub-block.
    pub minimums: &'a [u8],
    /// The levels.
    pub levels: &'a [u8; LEN],
}

/// Encodes a row; `pack` lays out one super-block.
#[inline(always)]
pub fn encode_row<S: Search, B: Block<LEN>>(
    search: S,
    plan: &Plan,
    row: Row<'_>,
    out: &mut [B],
    pack: impl Fn(Parts<'_>) -> B,
) {
    for (batch, out) in row.batches(out) {
        encode_batch(search, plan, batch, out, &pack);
    }
}

/// The integer scales, or minimums, of a batch of super-blocks, with their factors.
struct Integers {
    factors: [f32; SUPER_BLOCKS],
    integers: [u8; SUPER_BLOCKS * PARTS],
}

#[inline(always)]
fn encode_batch<S: Search, B: Block<LEN>>(
    search: S,
    plan: &Plan,
    row: Row<'_>,
    out: &mut [B],
    pack: &impl Fn(Parts<'_>) -> B,
) {
    let mut weights = [0.0; BATCH];
    let w = &mut weights[..row.x.len()];
    let trials = match row.importance {
        None => {
            weigh_plain(plan, row.x, w);
            plan.trials
        }
        Some(importance) => {
            let blocks = row.x.chunks_exact(LEN).zip(importance.chunks_exact(LEN));
            for ((x, q), w) in blocks.zip(w.chunks_exact_mut(LEN)) {
                let mean_square = plan.mean_square_factor * sum_of_squares(x) / LEN as f32;
                Row::weigh(x, q, mean_square, w);
            }
            Trials::with_importance(plan.trials.n)
        }
    };
    let mut fits = [Fit::default(); BATCH / 16];
    let fits = &mut fits[..row.x.len() / plan.sub_block];
    let groups = Groups {
        len: plan.sub_block,
        x: row.x,
        w,
    };
    search.asymmetric(groups, &trials, fits);

    let mut sums = [0.0; BATCH / 16];
    if row.importance.is_some() {
        for (sum, w) in sums.iter_mut().zip(w.chunks_exact(plan.sub_block)) {
            for v in w {
                *sum += v;
            }
        }
    }
    let sums = row.importance.map(|_| &sums[..fits.len()]);
    let scales = integers(search, plan, fits, |fit| fit.scale, sums);
    let minimums = integers(search, plan, fits, |fit| fit.minimum, sums);

    let parts = LEN / plan.sub_block;
    for (i, (out, x)) in out.iter_mut().zip(row.x.as_chunks::<LEN>().0).enumerate() {
        let own = i * parts..(i + 1) * parts;
        let (d, dmin) = (to_f16(scales.factors[i]), to_f16(minimums.factors[i]));
        let (sc, mn) = (
            &scales.integers[own.clone()],
            &minimums.integers[own.clone()],
        );
        let mut levels = [0; LEN];
        let n = plan.trials.n;
        let sub_blocks = x
            .chunks_exact(plan.sub_block)
            .zip(levels.chunks_exact_mut(plan.sub_block));
        for (k, (x, levels)) in sub_blocks.enumerate() {
            // The levels are taken anew, with the scales as the file has them.
            let scale = from_f16(d) * f32::from(sc[k]);
            let minimum = from_f16(dmin) * f32::from(mn[k]);
            let fit = &fits[own.start + k];
            for (level, &x) in levels.iter_mut().zip(x) {
                *level = if scale == 0.0 {
                    fit.level(x, 0.0, n)
                } else {
                    byte(clamp(round_even((x + minimum) / scale), 0.0, n))
                };
            }
        }
        *out = pack(Parts {
            d,
            dmin,
            scales: sc,
            minimums: mn,
            levels: &levels,
        });
    }
}

#[inline(always)]
fn weigh_plain(plan: &Plan, x: &[f32], w: &mut [f32]) {
    let sub_blocks = x.chunks_exact(plan.sub_block);
    for (x, w) in sub_blocks.zip(w.chunks_exact_mut(plan.sub_block)) {
        let spread = if plan.spread == 0.0 {
            0.0
        } else {
            plan.spread * (sum_of_squares(x) / plan.sub_block as f32).sqrt()
        };
        for (&x, w) in x.iter().zip(w) {
            *w = spread + x.abs();
        }
    }
}

/// Turns the scales or the minimums of each super-block into integers and a factor.
#[inline(always)]
fn integers<S: Search>(
    search: S,
    plan: &Plan,
    fits: &[Fit],
    which: impl Fn(&Fit) -> f32,
    weights: Option<&[f32]>,
) -> Integers {
    let parts = LEN / plan.sub_block;
    let mut values = [0.0; BATCH / 16];
    let values = &mut values[..fits.len()];
    for (value, fit) in values.iter_mut().zip(fits) {
        *value = which(fit);
    }
    let mut found = Integers {
        factors: [0.0; SUPER_BLOCKS],
        integers: [0; SUPER_BLOCKS * PARTS],
    };
    if let Some(w) = weights {
        let groups = Groups {
            len: parts,
            x: values,
            w,
        };
        search.positive(
            groups,
            plan.most_scale,
            &mut found.factors,
            &mut found.integers,
        );
        return found;
    }
    let out = found
        .factors
        .iter_mut()
        .zip(found.integers.chunks_exact_mut(parts));
    for (values, (factor, integers)) in values.chunks_exact(parts).zip(out) {
        let most = values
            .iter()
            .fold(0.0, |most, &v| if v > most { v } else { most });
        if most > 0.0 {
            let inverse = plan.most_scale / most;
            for (integer, &v) in integers.iter_mut().zip(values) {
                *integer = byte(clamp(round_even(inverse * v), 0.0, plan.most_scale));
            }
            *factor = most / plan.most_scale;
        }
    }
    found
}
