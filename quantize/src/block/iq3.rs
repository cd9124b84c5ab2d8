//! IQ3_XXS and IQ3_S: four weights an entry of a grid of 256 or 512 entries; a four-bit scale for 32.

use super::grid::{Grid, even, expand, signed, tables};

static XXS: [u64; 256] = expand::<4, _>(tables::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62]);
static S: [u64; 512] = expand::<4, _>(tables::IQ3_S, &[1, 3, 5, 7, 9, 11, 13, 15]);

/// `value = (d * (0.25 + 0.5 * scale)) * weight`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockIq3Xxs {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Entries' numbers, eight for each sub-block.
    pub qs: [[[u8; 2]; 4]; 8],
    /// A little-endian u32 for each sub-block: seven signs for each two entries, and the scale in the high four bits.
    pub signs: [[u8; 4]; 8],
}

const _: () = assert!(size_of::<BlockIq3Xxs>() == 98);

// SAFETY: repr(C), bytes only.
unsafe impl Grid for BlockIq3Xxs {
    const FACTORS: [f32; 2] = [0.25, 0.5];

    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn codes(&self, b: usize) -> [u8; 2] {
        [self.signs[b][3] >> 4; 2]
    }

    #[inline(always)]
    fn weights(&self, b: usize) -> [[u8; 8]; 4] {
        let signs = u32::from_le_bytes(self.signs[b]);
        let mut out = [[0; 8]; 4];
        for (l, (out, two)) in out.iter_mut().zip(self.qs[b]).enumerate() {
            let [low, high] = two.map(|number| XXS[usize::from(number)]);
            *out = signed(low | high << 32, even(signs >> (7 * l)));
        }
        out
    }
}

/// `value = (d * (1 + 2 * scale)) * weight`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlockIq3S {
    /// Factor of the scales, f16.
    pub d: [u8; 2],
    /// Low eight bits of the entries' numbers, eight for each sub-block.
    pub qs: [[[u8; 2]; 4]; 8],
    /// Their ninth bits, a byte for each sub-block.
    pub qh: [u8; 8],
    /// Eight signs for each two entries.
    pub signs: [[u8; 4]; 8],
    /// A scale for each sub-block, two to a byte, the even one low.
    pub scales: [u8; 4],
}

const _: () = assert!(size_of::<BlockIq3S>() == 110);

// SAFETY: repr(C), bytes only.
unsafe impl Grid for BlockIq3S {
    const FACTORS: [f32; 2] = [1.0, 2.0];

    #[inline(always)]
    fn d(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn codes(&self, b: usize) -> [u8; 2] {
        [self.scales[b / 2] >> (4 * (b % 2)) & 15; 2]
    }

    #[inline(always)]
    fn weights(&self, b: usize) -> [[u8; 8]; 4] {
        let mut out = [[0; 8]; 4];
        for (l, (out, two)) in out.iter_mut().zip(self.qs[b]).enumerate() {
            let ninth = |half: usize| usize::from(self.qh[b] >> (2 * l + half) & 1) << 8;
            let entry = |half: usize| S[usize::from(two[half]) | ninth(half)];
            *out = signed(entry(0) | entry(1) << 32, self.signs[b][l]);
        }
        out
    }
}
