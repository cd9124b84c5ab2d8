//! The scale searches that make encoding slow: each one as text, and each one many groups at a time.
//!
//! Every file holds a search twice. `scalar` is the specification: one group, sequential f32 sums.
//! `lanes` gives each group a lane and replaces every `if` by a choice, so a lane computes exactly what
//! `scalar` computes for its group. Formats call them through [`Search`] and do not know which they get.

pub mod asymmetric;
pub mod codebook;
pub mod descent;
pub mod fp4;
pub mod positive;
pub mod reach;
pub mod symmetric;

use super::lanes::{Isa, MOST};
use super::number::{byte, clamp, round_even};

/// The longest group any format has.
pub const LONGEST: usize = 32;

const ZEROS: [f32; LONGEST] = [0.0; LONGEST];

/// Groups of `len` consecutive values with the weight of each value in the error.
#[derive(Clone, Copy)]
pub struct Groups<'a> {
    /// Values in one group, at most [`LONGEST`].
    pub len: usize,
    /// The values, whole groups.
    pub x: &'a [f32],
    /// One weight for each value.
    pub w: &'a [f32],
}

impl<'a> Groups<'a> {
    fn each(self) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
        self.x
            .chunks_exact(self.len)
            .zip(self.w.chunks_exact(self.len))
    }
}

/// What a search found for one group: `x` is about `scale * level - minimum`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fit {
    /// Size of one step.
    pub scale: f32,
    /// What is subtracted; 0 for the symmetric searches.
    pub minimum: f32,
    /// The winning trial's `levels = round(inverse * (x - base))`. NaN for a group that counts as all
    /// zero: [`clamp`] then gives the lowest level, which is what the text asks for.
    pub inverse: f32,
    /// See `inverse`.
    pub base: f32,
}

impl Fit {
    /// The level the search gave to `x`, as the byte that is stored: `low` becomes 0.
    #[inline(always)]
    pub fn level(&self, x: f32, low: f32, high: f32) -> u8 {
        byte(clamp(round_even(self.inverse * (x - self.base)), low, high) - low)
    }
}

/// One way of running the searches. All ways give the same bits.
pub trait Search: Copy {
    /// Signed levels `-n..n`: see [`symmetric`].
    fn symmetric(self, groups: Groups<'_>, n: f32, fits: &mut [Fit]);
    /// Levels `0..=n` and an offset: see [`asymmetric`].
    fn asymmetric(self, groups: Groups<'_>, trials: &asymmetric::Trials, fits: &mut [Fit]);
    /// Non-negative values, levels `0..=n`, no offset: see [`positive`].
    fn positive(self, groups: Groups<'_>, n: f32, scales: &mut [f32], levels: &mut [u8]);
    /// Signed levels `-4..4` by coordinate descent: see [`descent`].
    fn descent(self, groups: Groups<'_>, scales: &mut [f32], levels: &mut [u8]);
    /// Entries of the non-linear four-bit table: see [`codebook`].
    fn codebook(self, groups: Groups<'_>, scales: &mut [f32]);
    /// Table codes of `inverse * x`: see [`codebook`].
    fn codebook_levels(self, x: &[f32; 32], inverse: f32) -> [u8; 32];
    /// Nearest four-bit floats of a block with a given scale: see [`fp4`].
    fn fp4<const N: usize>(self, x: &[f32; N], scale: f32) -> [u8; N];
    /// How far the values go above and below zero: see [`reach`].
    fn reach<const N: usize>(self, x: &[f32; N]) -> (f32, f32);
    /// Bit 4 of each level: bit k of the little-endian result belongs to level k.
    fn fifth_bits(self, levels: &[u8; 32]) -> [u8; 4];

    /// The value of largest magnitude with its sign: the first one where two tie, 0 for an all-zero group.
    #[inline(always)]
    fn signed_extreme<const N: usize>(self, x: &[f32; N]) -> f32 {
        let (above, below) = self.reach(x);
        if above == below {
            let first = x.iter().find(|v| above > 0.0 && v.abs() == above);
            return first.copied().unwrap_or_default();
        }
        // The sign as a bit and not as a branch, which would be guessed wrong every second time.
        let sign = u32::from(below > above) << 31;
        f32::from_bits(above.max(below).to_bits() | sign)
    }

    /// The largest magnitude of a group; NaN is passed over.
    #[inline(always)]
    fn largest_magnitude<const N: usize>(self, x: &[f32; N]) -> f32 {
        let (above, below) = self.reach(x);
        if above > below { above } else { below }
    }
}

/// The specification.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Search for Scalar {
    #[inline(always)]
    fn symmetric(self, groups: Groups<'_>, n: f32, fits: &mut [Fit]) {
        for ((x, w), fit) in groups.each().zip(fits) {
            *fit = symmetric::scalar(x, w, n);
        }
    }

    #[inline(always)]
    fn asymmetric(self, groups: Groups<'_>, trials: &asymmetric::Trials, fits: &mut [Fit]) {
        for ((x, w), fit) in groups.each().zip(fits) {
            *fit = asymmetric::scalar(x, w, trials);
        }
    }

    #[inline(always)]
    fn positive(self, groups: Groups<'_>, n: f32, scales: &mut [f32], levels: &mut [u8]) {
        let out = scales.iter_mut().zip(levels.chunks_exact_mut(groups.len));
        for ((x, w), (scale, levels)) in groups.each().zip(out) {
            *scale = positive::scalar(x, w, n, levels);
        }
    }

    #[inline(always)]
    fn descent(self, groups: Groups<'_>, scales: &mut [f32], levels: &mut [u8]) {
        let out = scales.iter_mut().zip(levels.chunks_exact_mut(groups.len));
        for ((x, w), (scale, levels)) in groups.each().zip(out) {
            *scale = descent::scalar(x, w, levels);
        }
    }

    #[inline(always)]
    fn codebook(self, groups: Groups<'_>, scales: &mut [f32]) {
        for ((x, w), scale) in groups.each().zip(scales) {
            *scale = codebook::scalar(x, w);
        }
    }

    #[inline(always)]
    fn codebook_levels(self, x: &[f32; 32], inverse: f32) -> [u8; 32] {
        x.map(|v| codebook::nearest(inverse * v) as u8)
    }

    #[inline(always)]
    fn fp4<const N: usize>(self, x: &[f32; N], scale: f32) -> [u8; N] {
        x.map(|v| fp4::nearest(v, scale))
    }

    #[inline(always)]
    fn reach<const N: usize>(self, x: &[f32; N]) -> (f32, f32) {
        reach::scalar(x)
    }

    #[inline(always)]
    fn fifth_bits(self, levels: &[u8; 32]) -> [u8; 4] {
        let mut bits = [0; 4];
        for (bits, levels) in bits.iter_mut().zip(levels.as_chunks::<8>().0) {
            // The product gathers bit 0 of byte i of its first factor at bit 56 + i.
            let fifths = u64::from_le_bytes(*levels) >> 4 & 0x0101_0101_0101_0101;
            *bits = (fifths.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
        }
        bits
    }
}

/// The same with a lane for each group.
#[derive(Clone, Copy)]
pub struct Wide<I: Isa>(pub I);

impl<I: Isa> Wide<I> {
    /// How often [`Self::side_by_side`] must be called for all groups.
    #[inline(always)]
    fn turns(self, groups: Groups<'_>) -> usize {
        (groups.x.len() / groups.len).div_ceil(I::COUNT)
    }

    /// Values and weights of the groups of one turn: row i holds value i of each group.
    /// Lanes without a group hold zeros.
    #[inline(always)]
    fn side_by_side<'s>(
        self,
        groups: Groups<'_>,
        turn: usize,
        scratch: &'s mut [[I::F; LONGEST]; 2],
    ) -> (&'s [I::F], &'s [I::F]) {
        let values = I::COUNT * groups.len;
        let range = turn * values..((turn + 1) * values).min(groups.x.len());
        let [x, w] = scratch;
        self.transpose(&groups.x[range.clone()], groups.len, x);
        self.transpose(&groups.w[range], groups.len, w);
        (&x[..groups.len], &w[..groups.len])
    }

    #[inline(always)]
    fn transpose(self, source: &[f32], len: usize, out: &mut [I::F; LONGEST]) {
        let mut rows = [[0.0; MOST]; LONGEST];
        // Four groups by four values at a time is what the vectorizer turns into shuffles.
        for (lane, groups) in source.chunks(4 * len).enumerate() {
            let group = |g: usize| groups.get(g * len..(g + 1) * len).unwrap_or(&ZEROS[..len]);
            let (a, b) = (group(0).as_chunks::<4>().0, group(1).as_chunks::<4>().0);
            let (c, d) = (group(2).as_chunks::<4>().0, group(3).as_chunks::<4>().0);
            for ((rows, (a, b)), (c, d)) in rows
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .zip(a.iter().zip(b))
                .zip(c.iter().zip(d))
            {
                for (i, row) in rows.iter_mut().enumerate() {
                    row.as_chunks_mut().0[lane] = [a[i], b[i], c[i], d[i]];
                }
            }
        }
        for (out, row) in out[..len].iter_mut().zip(&rows) {
            *out = self.0.load(row);
        }
    }

    #[inline(always)]
    fn unpack(self, v: I::F) -> [f32; MOST] {
        let mut row = [0.0; MOST];
        self.0.store(v, &mut row);
        row
    }

    /// Writes one result for each group of a turn.
    #[inline(always)]
    fn spread(self, v: I::F, turn: usize, out: &mut [f32]) {
        let row = self.unpack(v);
        for (out, v) in out[turn * I::COUNT..].iter_mut().zip(&row[..I::COUNT]) {
            *out = *v;
        }
    }

    /// Writes the levels of each group of a turn, adding `bias`.
    #[inline(always)]
    fn spread_levels(self, levels: &[I::F], bias: f32, turn: usize, out: &mut [u8]) {
        let mut rows = [[0.0; MOST]; LONGEST];
        for (row, &level) in rows.iter_mut().zip(levels) {
            self.0.store(level, row);
        }
        let groups = out.chunks_exact_mut(levels.len()).skip(turn * I::COUNT);
        for (lane, group) in groups.take(I::COUNT).enumerate() {
            for (level, row) in group.iter_mut().zip(&rows) {
                *level = byte(row[lane] + bias);
            }
        }
    }

    #[inline(always)]
    fn spread_fits(self, fit: [I::F; 4], turn: usize, out: &mut [Fit]) {
        let [scale, minimum, inverse, base] = fit.map(|v| self.unpack(v));
        for (lane, out) in out[turn * I::COUNT..].iter_mut().take(I::COUNT).enumerate() {
            *out = Fit {
                scale: scale[lane],
                minimum: minimum[lane],
                inverse: inverse[lane],
                base: base[lane],
            };
        }
    }
}

impl<I: Isa> Search for Wide<I> {
    #[inline(always)]
    fn symmetric(self, groups: Groups<'_>, n: f32, fits: &mut [Fit]) {
        let mut scratch = [[self.0.splat(0.0); LONGEST]; 2];
        for turn in 0..self.turns(groups) {
            let (x, w) = self.side_by_side(groups, turn, &mut scratch);
            self.spread_fits(symmetric::lanes(self.0, x, w, n), turn, fits);
        }
    }

    #[inline(always)]
    fn asymmetric(self, groups: Groups<'_>, trials: &asymmetric::Trials, fits: &mut [Fit]) {
        let mut scratch = [[self.0.splat(0.0); LONGEST]; 2];
        for turn in 0..self.turns(groups) {
            let (x, w) = self.side_by_side(groups, turn, &mut scratch);
            self.spread_fits(asymmetric::lanes(self.0, x, w, trials), turn, fits);
        }
    }

    #[inline(always)]
    fn positive(self, groups: Groups<'_>, n: f32, scales: &mut [f32], levels: &mut [u8]) {
        let mut scratch = [[self.0.splat(0.0); LONGEST]; 2];
        for turn in 0..self.turns(groups) {
            let (x, w) = self.side_by_side(groups, turn, &mut scratch);
            let mut found = [self.0.splat(0.0); LONGEST];
            let found = &mut found[..groups.len];
            self.spread(positive::lanes(self.0, x, w, n, found), turn, scales);
            self.spread_levels(found, 0.0, turn, levels);
        }
    }

    #[inline(always)]
    fn descent(self, groups: Groups<'_>, scales: &mut [f32], levels: &mut [u8]) {
        let mut scratch = [[self.0.splat(0.0); LONGEST]; 2];
        for turn in 0..self.turns(groups) {
            let (x, w) = self.side_by_side(groups, turn, &mut scratch);
            let mut found = [self.0.splat(0.0); LONGEST];
            let found = &mut found[..groups.len];
            self.spread(descent::lanes(self.0, x, w, found), turn, scales);
            self.spread_levels(found, descent::N, turn, levels);
        }
    }

    #[inline(always)]
    fn codebook(self, groups: Groups<'_>, scales: &mut [f32]) {
        let mut scratch = [[self.0.splat(0.0); LONGEST]; 2];
        for turn in 0..self.turns(groups) {
            let (x, w) = self.side_by_side(groups, turn, &mut scratch);
            self.spread(codebook::lanes(self.0, x, w), turn, scales);
        }
    }

    #[inline(always)]
    fn codebook_levels(self, x: &[f32; 32], inverse: f32) -> [u8; 32] {
        codebook::count_below(x, inverse)
    }

    #[inline(always)]
    fn fp4<const N: usize>(self, x: &[f32; N], scale: f32) -> [u8; N] {
        fp4::count_below(x, scale)
    }

    #[inline(always)]
    fn reach<const N: usize>(self, x: &[f32; N]) -> (f32, f32) {
        reach::lanes(self.0, x)
    }

    #[inline(always)]
    fn fifth_bits(self, levels: &[u8; 32]) -> [u8; 4] {
        self.0.fifth_bits(levels)
    }
}
