//! The character classes that the o200k pattern distinguishes, one bit each, looked up in two steps.
//!
//! The Unicode tables are those of `regex-syntax`, which tiktoken's own engine uses.

use regex_syntax::hir::{Class, HirKind};
use std::sync::LazyLock;

/// `\p{Lu}` and `\p{Lt}`.
pub const UPPER: u8 = 1;
/// `\p{Ll}`.
pub const LOWER: u8 = 2;
/// `\p{Lm}` and `\p{Lo}`: letters without case.
pub const CASELESS: u8 = 4;
/// `\p{M}`: combining marks. They count as letters inside a word and as anything else outside.
pub const MARK: u8 = 8;
/// `\p{N}`.
pub const NUMBER: u8 = 16;
/// `\s` without the two below.
pub const SPACE: u8 = 32;
/// Carriage return and line feed.
pub const NEWLINE: u8 = 64;
/// Everything else.
pub const OTHER: u8 = 128;

/// What can stand in the upper-case half of a word.
pub const UPPER_HALF: u8 = UPPER | CASELESS | MARK;
/// What can stand in the lower-case half of a word.
pub const LOWER_HALF: u8 = LOWER | CASELESS | MARK;
/// What can stand before a word as part of its piece.
pub const PREFIX: u8 = MARK | SPACE | OTHER;

/// Characters per block. The two-step table is 95 kB instead of the 1.1 MB of a flat one.
const BLOCK: usize = 128;

/// Class bits of every character.
pub struct Classes {
    /// (0x110000 / BLOCK): which block holds a character's class.
    block_of: Vec<u16>,
    blocks: Vec<[u8; BLOCK]>,
}

static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::build);

impl Classes {
    /// The table, built at its first use in about a millisecond.
    pub fn get() -> &'static Classes {
        &CLASSES
    }

    /// The class bit of a character.
    #[inline]
    pub fn of(&self, character: char) -> u8 {
        let code = character as usize;
        self.blocks[usize::from(self.block_of[code / BLOCK])][code % BLOCK]
    }

    fn build() -> Classes {
        let mut flat = vec![OTHER; 0x11_0000];
        for (pattern, bit) in [
            (r"[\p{Lu}\p{Lt}]", UPPER),
            (r"\p{Ll}", LOWER),
            (r"[\p{Lm}\p{Lo}]", CASELESS),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
            (r"[\r\n]", NEWLINE),
        ] {
            for (first, last) in ranges(pattern) {
                flat[first..=last].fill(bit);
            }
        }
        let mut classes = Classes {
            block_of: Vec::with_capacity(flat.len() / BLOCK),
            blocks: Vec::new(),
        };
        let mut known = std::collections::HashMap::new();
        for chunk in flat.as_chunks::<BLOCK>().0 {
            let index = *known.entry(*chunk).or_insert_with(|| {
                classes.blocks.push(*chunk);
                classes.blocks.len() - 1
            });
            classes.block_of.push(index as u16);
        }
        classes
    }
}

/// The code points that a character class of a regular expression holds, as inclusive ranges.
fn ranges(pattern: &str) -> Vec<(usize, usize)> {
    let parsed = regex_syntax::parse(pattern).expect("the patterns above are constants");
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(class)) => class
            .ranges()
            .iter()
            .map(|range| (range.start() as usize, range.end() as usize))
            .collect(),
        other => unreachable!("{pattern} is not a class of characters: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_of_each_class() {
        let classes = Classes::get();
        for (character, bit) in [
            ('A', UPPER),
            ('ǅ', UPPER),
            ('ß', LOWER),
            ('ʰ', CASELESS),
            ('字', CASELESS),
            ('\u{301}', MARK),
            ('7', NUMBER),
            ('½', NUMBER),
            ('\u{85}', SPACE),
            ('\u{3000}', SPACE),
            ('\n', NEWLINE),
            ('\u{200b}', OTHER),
            ('\u{10ffff}', OTHER),
        ] {
            assert_eq!(classes.of(character), bit, "{character:?}");
        }
    }
}
