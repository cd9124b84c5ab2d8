//! IQ4_XS: 256 entries of the table of IQ4_NL in 8 sub-blocks of 32, each with a six-bit scale.

use super::iq4_nl::fit_table;
use super::number::{
    check_f16, clamp, from_f16, inverse, pack_nibbles, round_even, to_f16, unpack_nibbles,
};
use super::search::codebook::TABLE;
use super::search::{Scalar, Search};
use super::super_block::LEN;
use super::{BATCH, Block, Row};

/// `value = (d * (scale - 32)) * TABLE[code]`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockIq4Xs {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// High two bits of the scales: bits 2b of this little-endian u16.
    pub scales_h: [u8; 2],
    /// Low four bits of the scales, two to a byte, the even one low.
    pub scales_l: [u8; 4],
    /// Codes: 16 bytes for each sub-block, nibble order as in [`pack_nibbles`].
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockIq4Xs>() == 136);

impl BlockIq4Xs {
    #[inline(always)]
    fn encode<S: Search>(search: S, x: &[f32; LEN], sizes: &[f32; 8]) -> Self {
        let d = -Scalar.signed_extreme(sizes) / 32.0;
        let id = inverse(d);
        let (mut scales_h, mut scales_l, mut qs) = (0u16, [0; 4], [0; 128]);
        for (b, x) in x.as_chunks::<32>().0.iter().enumerate() {
            let scale = clamp(round_even(id * sizes[b]), -32.0, 31.0);
            // The codes come from the factor before it is rounded to f16.
            let codes = search.codebook_levels(x, inverse(d * scale));
            qs.as_chunks_mut::<16>().0[b] = pack_nibbles(&codes);
            let stored = (scale + 32.0) as u8;
            scales_l[b / 2] |= (stored & 15) << (4 * (b % 2));
            scales_h |= u16::from(stored >> 4) << (2 * b);
        }
        Self {
            d: to_f16(d),
            scales_h: scales_h.to_le_bytes(),
            scales_l,
            qs,
        }
    }

    /// The scale of sub-block `b`, -32..=31.
    #[inline(always)]
    pub fn scale(&self, b: usize) -> i8 {
        let low = (self.scales_l[b / 2] >> (4 * (b % 2))) & 15;
        let high = (u16::from_le_bytes(self.scales_h) >> (2 * b)) as u8 & 3;
        (low | high << 4) as i8 - 32
    }
}

// SAFETY: repr(C), bytes only.
unsafe impl Block<LEN> for BlockIq4Xs {
    #[inline(always)]
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]) {
        for (batch, out) in row.batches(out) {
            let mut sizes = [0.0; BATCH / 32];
            fit_table(search, batch, LEN, &mut sizes);
            let blocks = batch.x.as_chunks().0.iter().zip(sizes.as_chunks().0);
            for (out, (x, sizes)) in out.iter_mut().zip(blocks) {
                *out = Self::encode(search, x, sizes);
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; LEN]) {
        let d = from_f16(self.d);
        for (b, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scale(b));
            let codes = unpack_nibbles(&self.qs.as_chunks::<16>().0[b]);
            for (out, code) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(TABLE[usize::from(code & 15)]);
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d, "the factor of the scales is NaN or infinite")
    }
}
