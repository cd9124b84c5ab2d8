//! IQ2_XXS, IQ2_XS and IQ2_S: eight weights an entry of a grid of 8, 25 and 43, in 256, 512 and 1024 entries; four-bit scales.

use super::grid::{Grid, even, expand, signed, tables};

const MAGNITUDES: &[u8] = &[8, 25, 43];
static XXS: [u64; 256] = expand::<8, _>(tables::IQ2_XXS, MAGNITUDES);
static XS: [u64; 512] = expand::<8, _>(tables::IQ2_XS, MAGNITUDES);
static S: [u64; 1024] = expand::<8, _>(tables::IQ2_S, MAGNITUDES);

const FACTORS: [f32; 2] = [0.125, 0.25];

/// `value = (d * (0.125 + 0.25 * scale)) * weight`, a scale for 32.
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
    const FACTORS: [f32; 2] = FACTORS;

    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn codes(&self, b: usize) -> [u8; 2] {
        [self.qs[b][7] >> 4; 2]
    }

    #[inline(always)]
    fn weights(&self, b: usize) -> [[u8; 8]; 4] {
        let [numbers @ .., s0, s1, s2, s3] = self.qs[b];
        let signs = u32::from_le_bytes([s0, s1, s2, s3]);
        let mut out = [[0; 8]; 4];
        for (l, (out, number)) in out.iter_mut().zip(numbers).enumerate() {
            *out = signed(XXS[usize::from(number)], even(signs >> (7 * l)));
        }
        out
    }
}

/// `value = (d * (0.125 + 0.25 * scale)) * weight`, a scale for 16.
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
    const FACTORS: [f32; 2] = FACTORS;

    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn codes(&self, b: usize) -> [u8; 2] {
        [self.scales[b] & 15, self.scales[b] >> 4]
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

/// `value = (d * (0.125 + 0.25 * scale)) * weight`, a scale for 16.
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
    const FACTORS: [f32; 2] = FACTORS;

    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn codes(&self, b: usize) -> [u8; 2] {
        [self.scales[b] & 15, self.scales[b] >> 4]
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
