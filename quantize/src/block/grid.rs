//! What IQ2 and IQ3 share: 256 weights in sub-blocks of 32, four or eight at a time an entry of a table, the grid, and a sign for each.
//!
//! The five types are only read. Their encoders search the grids for neighbours and need an importance matrix, and no recipe asks for
//! what they make; files of llama.cpp's recipes hold one small tensor in each layer that is in one of them.

pub mod tables;

use super::number::{check_f16, from_f16};
use super::search::Search;
use super::super_block::LEN;
use super::{Block, Row};

/// A block of 256 weights on a grid.
///
/// # Safety
/// As for [`Block`].
pub unsafe trait Grid: Copy + 'static {
    /// A scale is `d * (FACTORS[0] + FACTORS[1] * code)`, exactly: eleven bits times five.
    const FACTORS: [f32; 2];
    /// Factor of the scales, f16.
    fn d(&self) -> [u8; 2];
    /// Four bits for the scales of each half of sub-block `b`.
    fn codes(&self, b: usize) -> [u8; 2];
    /// What they are multiplied with: 32 signed bytes, none of them 0 or below -62.
    fn weights(&self, b: usize) -> [[u8; 8]; 4];
}

// SAFETY: the trait's promise is the same.
unsafe impl<G: Grid> Block<LEN> for G {
    fn encode_row<S: Search>(_search: S, _row: Row<'_>, _out: &mut [Self]) {
        unreachable!("DType::can_be_written")
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; LEN]) {
        for (b, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scale =
                |code| from_f16(self.d()) * (G::FACTORS[0] + G::FACTORS[1] * f32::from(code));
            let (scales, weights) = (self.codes(b).map(scale), self.weights(b));
            for (index, (out, &weight)) in out.iter_mut().zip(weights.as_flattened()).enumerate() {
                *out = scales[index / 16] * f32::from(weight as i8);
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_f16(self.d(), "the factor of the scales is NaN or infinite")
    }
}

/// The grid that a packed table stands for: `LEVELS` to an entry, each an index into `values`; an entry is a number with the first in its lowest byte.
pub const fn expand<const LEVELS: usize, const ENTRIES: usize>(
    packed: [u16; ENTRIES],
    values: &[u8],
) -> [u64; ENTRIES] {
    let bits = 16 / LEVELS;
    let mut grid = [0; ENTRIES];
    let mut at = 0;
    while at < ENTRIES * LEVELS {
        let (entry, level) = (at / LEVELS, at % LEVELS);
        let code = packed[entry] >> (level * bits) & ((1 << bits) - 1);
        grid[entry] |= (values[code as usize] as u64) << (8 * level);
        at += 1;
    }
    grid
}

/// The eighth sign of seven: the number of minus signs is even.
#[inline(always)]
pub fn even(signs: u32) -> u8 {
    let seven = signs & 127;
    (seven | (seven.count_ones() & 1) << 7) as u8
}

/// Eight magnitudes with a minus where a bit of `signs` is set, the lowest for the first.
#[inline(always)]
pub fn signed(magnitudes: u64, signs: u8) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // All in one word. Byte i of `minus` is bit i of the signs.
    let spread = (u64::from(signs) * ONES) & 0x8040_2010_0804_0201;
    let minus = (spread + 0x7f * ONES) >> 7 & ONES;
    // -m is !m + 1, and as no magnitude is 0 nothing is carried into the next byte.
    let flipped = magnitudes ^ (minus * 255);
    (flipped + minus).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_those_of_one_after_the_other() {
        let magnitudes = [1u8, 8, 25, 43, 62, 15, 1, 62];
        for signs in 0..=255u8 {
            let mut expected = magnitudes;
            for (index, byte) in expected.iter_mut().enumerate() {
                if signs >> index & 1 == 1 {
                    *byte = byte.wrapping_neg();
                }
            }
            assert_eq!(
                signed(u64::from_le_bytes(magnitudes), signs),
                expected,
                "{signs:08b}"
            );
            assert_eq!(even(signs.into()).count_ones() % 2, 0);
            assert_eq!(even(signs.into()) & 127, signs & 127);
        }
    }
}
