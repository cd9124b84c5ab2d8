//! IQ2_XXS, IQ2_XS and IQ2_S: eight weights an entry of a grid of 8, 25 and 43, in 256, 512 and 1024 entries; four-bit scales.

use super::grid::{Grid, even, expand, signed, tables};
use super::number::from_f16;

const MAGNITUDES: &[u8] = &[8, 25, 43];
static XXS: [[u8; 8]; 256] = expand(tables::IQ2_XXS, MAGNITUDES);
static XS: [[u8; 8]; 512] = expand(tables::IQ2_XS, MAGNITUDES);
static S: [[u8; 8]; 1024] = expand(tables::IQ2_S, MAGNITUDES);

/// The scale that four bits stand for.
#[inline(always)]
fn scale(d: [u8; 2], code: u8) -> f32 {
    from_f16(d) * (0.5 + f32::from(code)) * 0.25
}

/// Both scales of a sub-block.
#[inline(always)]
fn two_scales(d: [u8; 2], codes: u8) -> [f32; 2] {
    [scale(d, codes & 15), scale(d, codes >> 4)]
}

/// `value = ((d * (0.5 + scale)) * 0.25) * weight`, a scale for 32.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockIq2Xxs {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// For each sub-block four entries' numbers, and a little-endian u32: seven signs for each entry, and the scale in the high four bits.
    pub qs: [[u8; 8]; 8],
}

const _: () = assert!(size_of::<BlockIq2Xxs>() == 66);

// SAFETY: repr(C), bytes only.
unsafe impl Grid for BlockIq2Xxs {
    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scales(&self, b: usize) -> [f32; 2] {
        [scale(self.d, self.qs[b][7] >> 4); 2]
    }

    #[inline(always)]
    fn weights(&self, b: usize) -> [[u8; 8]; 4] {
        let [entries @ .., s0, s1, s2, s3] = self.qs[b];
        let signs = u32::from_le_bytes([s0, s1, s2, s3]);
        let mut out = [[0; 8]; 4];
        for (l, (out, entry)) in out.iter_mut().zip(entries).enumerate() {
            *out = signed(XXS[usize::from(entry)], even(signs >> (7 * l)));
        }
        out
    }
}

/// `value = ((d * (0.5 + scale)) * 0.25) * weight`, a scale for 16.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockIq2Xs {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Four little-endian u16 for each sub-block: an entry's number in the low nine bits, and seven signs.
    pub qs: [[[u8; 2]; 4]; 8],
    /// Two scales for each sub-block, the first one low.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIq2Xs>() == 74);

// SAFETY: repr(C), bytes only.
unsafe impl Grid for BlockIq2Xs {
    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scales(&self, b: usize) -> [f32; 2] {
        two_scales(self.d, self.scales[b])
    }

    #[inline(always)]
    fn weights(&self, b: usize) -> [[u8; 8]; 4] {
        let mut out = [[0; 8]; 4];
        for (out, q) in out.iter_mut().zip(self.qs[b]) {
            let q = u16::from_le_bytes(q);
            *out = signed(XS[usize::from(q & 511)], even(u32::from(q >> 9)));
        }
        out
    }
}

/// `value = ((d * (0.5 + scale)) * 0.25) * weight`, a scale for 16.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockIq2S {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Low eight bits of the entries' numbers, four for each sub-block.
    pub qs: [[u8; 4]; 8],
    /// Eight signs for each entry.
    pub signs: [[u8; 4]; 8],
    /// High two bits of the entries' numbers, a byte for each sub-block.
    pub qh: [u8; 8],
    /// Two scales for each sub-block, the first one low.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIq2S>() == 82);

// SAFETY: repr(C), bytes only.
unsafe impl Grid for BlockIq2S {
    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scales(&self, b: usize) -> [f32; 2] {
        two_scales(self.d, self.scales[b])
    }

    #[inline(always)]
    fn weights(&self, b: usize) -> [[u8; 8]; 4] {
        let mut out = [[0; 8]; 4];
        for (l, out) in out.iter_mut().enumerate() {
            let high = usize::from(self.qh[b] >> (2 * l) & 3);
            let entry = S[usize::from(self.qs[b][l]) | high << 8];
            *out = signed(entry, self.signs[b][l]);
        }
        out
    }
}
