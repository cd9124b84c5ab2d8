//! Q4_0: 32 levels of four bits around 8, one half-precision scale.

use super::number::{
    check_f16, each, from_f16, inverse, pack_nibbles, sum_of_squares, to_f16, truncate,
    unpack_nibbles,
};
use super::search::{Fit, Groups, Search};
use super::{BATCH, Block, Row};

/// `value = d * (level - 8)`; nibble order as in [`pack_nibbles`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockQ4_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Levels, two to a byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18);

impl BlockQ4_0 {
    #[inline(always)]
    fn encode(search: impl Search, x: &[f32; 32]) -> Self {
        let d = search.signed_extreme(x) / -8.0;
        let id = inverse(d);
        Self {
            d: to_f16(d),
            qs: pack_nibbles(&each(x, |v| truncate(v * id + 8.5, 15))),
        }
    }
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<32> for BlockQ4_0 {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        let Some(_) = row.importance else {
            for (out, x) in out.iter_mut().zip(row.x.as_chunks().0) {
                *out = Self::encode(search, x);
            }
            return;
        };
        fit_symmetric(search, row, 8.0, out, |d, levels| Self {
            d,
            qs: pack_nibbles(levels),
        });
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = from_f16(self.d);
        for (out, q) in out.iter_mut().zip(unpack_nibbles(&self.qs)) {
            *out = (f32::from(q) - 8.0) * d;
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the scale is NaN or infinite")
    }
}

/// Encodes a row with importance for Q4_0 (`n` = 8) and Q5_0 (`n` = 16): `make` gets the scale and the levels.
#[inline(always)]
pub fn fit_symmetric<S: Search, B: Block<32>>(
    search: S,
    row: Row<'_>,
    n: f32,
    out: &mut [B],
    make: impl Fn([u8; 2], &[u8; 32]) -> B,
) {
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
        search.symmetric(groups, n, &mut fits);
        for ((out, x), fit) in out.iter_mut().zip(batch.x.as_chunks::<32>().0).zip(&fits) {
            let levels = each(x, |v| fit.level(v, -n, n - 1.0));
            *out = make(to_f16(fit.scale), &levels);
        }
    }
}
