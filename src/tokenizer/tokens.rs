//! The bytes of every token, and the way back from bytes to the id: one buffer and one hash table, no allocation per token.

use super::error::Error;
use fourfold_quantize::gguf::vocabulary::byte_of;
pub use fourfold_quantize::gguf::vocabulary::{MAX_TOKEN_BYTES, MAX_TOKENS};
use std::hash::{BuildHasher, RandomState};

/// Ids fit in this many bits, so that a pair of them and its rank fit in one word.
pub const ID_BITS: u32 = 21;
const _: () = assert!(MAX_TOKENS <= 1 << ID_BITS);
const _: () = assert!(MAX_TOKENS * MAX_TOKEN_BYTES <= u32::MAX as usize);

/// Appends the bytes that a byte-level text stands for; the error is the first character outside the alphabet.
pub fn append_bytes(text: &str, out: &mut Vec<u8>) -> Result<(), char> {
    for character in text.chars() {
        out.push(byte_of(character).ok_or(character)?);
    }
    Ok(())
}

/// Multiplies to 128 bits and folds the halves: a mixing step that depends on every input bit.
#[inline]
pub fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

/// Odd, with about half its bits set: the fractional digits of the golden ratio.
pub const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// A number that differs from run to run, so that no file can be made whose tokens all collide.
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ bytes.len() as u64;
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), MULTIPLIER);
    }
    let mut last = 0;
    for &byte in tail {
        last = last << 8 | u64::from(byte);
    }
    fold(fold(state ^ last, MULTIPLIER) ^ seed, MULTIPLIER)
}

const EMPTY: u64 = u64::MAX;

/// Token bytes by id, and ids by bytes.
pub struct Tokens {
    bytes: Vec<u8>,
    /// (tokens + 1): where each token's bytes start.
    starts: Vec<u32>,
    /// Open addressing: high half of the hash, then the id.
    slots: Vec<u64>,
    /// All ids below this can be found.
    findable_below: u32,
    seed: u64,
}

impl Tokens {
    /// Room for `count` tokens of `text_len` bytes.
    pub fn with_capacity(count: usize, text_len: usize) -> Tokens {
        let mut starts = Vec::with_capacity(count + 1);
        starts.push(0);
        Tokens {
            bytes: Vec::with_capacity(text_len),
            starts,
            slots: vec![EMPTY; (count * 2).next_power_of_two()],
            findable_below: 0,
            seed: random_seed(),
        }
    }

    /// Number of tokens added.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Adds the next token: `fill` appends its bytes. Only tokens that text can become are `findable`.
    pub fn push(
        &mut self,
        findable: bool,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        let id = self.len();
        fill(&mut self.bytes)?;
        let end = self.bytes.len();
        if end == start {
            return Err(Error::EmptyToken { id });
        }
        // Fits: no more than MAX_TOKENS of MAX_TOKEN_BYTES each are accepted.
        self.starts.push(end as u32);
        if findable {
            self.insert(id as u32)?;
            if self.findable_below == id as u32 {
                self.findable_below += 1;
            }
        }
        Ok(())
    }

    fn insert(&mut self, id: u32) -> Result<(), Error> {
        let bytes = self.get(id);
        let hash = hash(self.seed, bytes);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != EMPTY {
            let other = self.slots[at] as u32;
            if self.slots[at] >> 32 == hash >> 32 && self.get(other) == bytes {
                return Err(Error::Duplicate {
                    first: other,
                    second: id,
                    text: String::from_utf8_lossy(bytes).into_owned(),
                });
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash >> 32) << 32 | u64::from(id);
        Ok(())
    }

    /// The bytes of a token; none for an id beyond the vocabulary.
    #[inline]
    pub fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match self.starts.get(id..id + 2) {
            Some(&[start, end]) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Whether a token that can be found has these bytes. May say no for one behind the first that cannot be found.
    #[inline]
    pub fn is(&self, id: u32, bytes: &[u8]) -> bool {
        id < self.findable_below && self.get(id) == bytes
    }

    /// The token with exactly these bytes.
    #[inline]
    pub fn find(&self, bytes: &[u8]) -> Option<u32> {
        let hash = hash(self.seed, bytes);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if slot >> 32 == hash >> 32 && self.get(slot as u32) == bytes {
                return Some(slot as u32);
            }
            at = (at + 1) & mask;
        }
    }
}
