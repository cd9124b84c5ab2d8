//! IQ4_NL: 32 entries of a non-linear four-bit table and a half-precision scale.

use super::number::{
    check_f16, from_f16, inverse, pack_nibbles, sum_of_squares, to_f16, unpack_nibbles,
};
use super::search::codebook::TABLE;
use super::search::{Groups, Search};
use super::{BATCH, Block, Row};

/// `value = d * TABLE[code]`; nibble order as in [`pack_nibbles`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockIq4Nl {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Codes, two to a byte.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIq4Nl>() == 18);

/// Finds the scale of each group of 32. With importance, `mean_square_over` consecutive values share a
/// mean square, which counts twice.
#[inline(always)]
pub fn fit_table<S: Search>(search: S, row: Row<'_>, mean_square_over: usize, scales: &mut [f32]) {
    let mut w = [0.0; BATCH];
    let w = &mut w[..row.x.len()];
    match row.importance {
        None => {
            for (w, x) in w.iter_mut().zip(row.x) {
                *w = x * x;
            }
        }
        Some(importance) => {
            let spans = row
                .x
                .chunks(mean_square_over)
                .zip(importance.chunks(mean_square_over));
            for ((x, q), w) in spans.zip(w.chunks_mut(mean_square_over)) {
                Row::weigh(x, q, sum_of_squares(x) * (2.0 / x.len() as f32), w);
            }
        }
    }
    search.codebook(
        Groups {
            len: 32,
            x: row.x,
            w,
        },
        scales,
    );
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<32> for BlockIq4Nl {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        for (batch, out) in row.batches(out) {
            let mut scales = [0.0; BATCH / 32];
            fit_table(search, batch, 32, &mut scales);
            for ((out, x), d) in out.iter_mut().zip(batch.x.as_chunks::<32>().0).zip(scales) {
                *out = Self {
                    d: to_f16(d),
                    qs: pack_nibbles(&search.codebook_levels(x, inverse(d))),
                };
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = from_f16(self.d);
        for (out, code) in out.iter_mut().zip(unpack_nibbles(&self.qs)) {
            *out = d * f32::from(TABLE[usize::from(code & 15)]);
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the scale is NaN or infinite")
    }
}
