//! Q4_1: 32 levels of four bits, a half-precision scale and minimum.

use super::number::{
    check_f16, each, extremes, from_f16, inverse, pack_nibbles, sum_of_squares, to_f16, truncate,
    unpack_nibbles,
};
use super::search::asymmetric::Trials;
use super::search::{Fit, Groups, Search};
use super::{BATCH, Block, Row};

/// `value = d * level + m`; nibble order as in [`pack_nibbles`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ4_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// Levels, two to a byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20);

// SAFETY: repr(C), bytes only.
unsafe impl Block<32> for BlockQ4_1 {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        fit_range(search, row, 15, out, |d, m, levels| Self {
            d,
            m,
            qs: pack_nibbles(levels),
        });
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let (d, m) = (from_f16(self.d), from_f16(self.m));
        for (out, q) in out.iter_mut().zip(unpack_nibbles(&self.qs)) {
            *out = f32::from(q) * d + m;
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the scale is NaN or infinite")?;
        check_f16(self.m, "the minimum is NaN or infinite")
    }
}

/// Encodes a row for Q4_1 (`n` = 15) and Q5_1 (`n` = 31): `make` gets scale, minimum and levels.
#[inline(always)]
pub fn fit_range<S: Search, B: Block<32>>(
    search: S,
    row: Row<'_>,
    n: u8,
    out: &mut [B],
    make: impl Fn([u8; 2], [u8; 2], &[u8; 32]) -> B,
) {
    let most = f32::from(n);
    let Some(_) = row.importance else {
        for (out, x) in out.iter_mut().zip(row.x.as_chunks::<32>().0) {
            let (mut low, high) = extremes(x, (f32::MAX, f32::MIN));
            if low == 0.0 {
                // Of zeros with both signs, the first one's sign goes into the file.
                low = x.iter().copied().find(|&v| v == 0.0).unwrap_or(low);
            }
            let d = (high - low) / most;
            let id = inverse(d);
            let levels = each(x, |v| truncate((v - low) * id + 0.5, n));
            *out = make(to_f16(d), to_f16(low), &levels);
        }
        return;
    };
    let mean_square = sum_of_squares(row.x) / row.x.len() as f32;
    for (batch, out) in row.batches(out) {
        let mut w = [0.0; BATCH];
        let w = &mut w[..batch.x.len()];
        Row::weigh(
            batch.x,
            batch.importance.unwrap_or_default(),
            mean_square,
            w,
        );
        let mut fits = [Fit::default(); BATCH / 32];
        let groups = Groups {
            len: 32,
            x: batch.x,
            w,
        };
        search.asymmetric(groups, &Trials::with_importance(most), &mut fits);
        for ((out, x), fit) in out.iter_mut().zip(batch.x.as_chunks::<32>().0).zip(&fits) {
            let levels = each(x, |v| fit.level(v, 0.0, most));
            *out = make(to_f16(fit.scale), to_f16(-fit.minimum), &levels);
        }
    }
}
