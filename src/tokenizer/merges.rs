//! Byte-pair merging: which two neighbours become one token, and in which order.

use super::error::Error;
use super::long::Long;
use super::tokens::{self, ID_BITS, MULTIPLIER, Tokens};
use rayon::prelude::*;

/// A merge's rank fits in the bits that two ids leave of a word.
const RANK_BITS: u32 = 64 - 2 * ID_BITS;
/// Larger than every rank: the pair does not merge.
pub const NEVER: u32 = 1 << RANK_BITS;
/// Most pairs that ranks can be given to.
const MAX_MERGES: usize = NEVER as usize - 1;
const EMPTY: u64 = u64::MAX;
const FILTER_SHARE: usize = 8;

/// Pieces up to this many bytes are merged at once, longer ones in blocks of this length: a word has a bit for each byte.
pub const SHORT: usize = 64;
/// Pairs whose least is kept, so that one merge need not look at all of them.
const GROUP: usize = 8;
/// Lines of the merge list that a thread reads at a time.
const PART: usize = 1 << 13;
const NO_PAIR: u32 = u32::MAX;
const _: () = assert!(NEVER as usize * SHORT < NO_PAIR as usize);

/// Every pair of tokens that merges, with its rank and result.
pub struct Merges {
    /// Open addressing: left id, right id, rank.
    slots: Vec<u64>,
    /// A bit for each of [`FILTER_SHARE`] times as many hashes as there are pairs. Most pairs that are looked up do not merge, and
    /// this says so in nine of ten cases from half a megabyte, which a core's own cache holds; the slots are eight.
    filter: Vec<u64>,
    /// Result by rank; empty when the rank is the result's id, as in all vocabularies that were trained in that order.
    results: Vec<u32>,
    /// (256 * 256): ranks of pairs of single bytes, which are looked up most.
    byte_ranks: Vec<u32>,
    /// Ids of the 256 single bytes.
    byte_ids: [u32; 256],
    seed: u64,
}

impl Merges {
    /// Whether this many pairs can be numbered.
    pub fn check_count(merges: usize) -> Result<(), Error> {
        let limit = MAX_MERGES;
        match merges > limit {
            true => Err(Error::TooManyMerges { merges, limit }),
            false => Ok(()),
        }
    }

    /// Reads a list of `left right` texts in which earlier means merged first.
    ///
    /// Where the results' ids never fall along the list, the id is the rank. This matters on ties: `aa a` and `a aa` give one
    /// token, so the leftmost goes first, as in the trainer; by place in the list one spelling would always precede the other.
    pub fn from_list<T: AsRef<str> + Sync>(tokens: &Tokens, list: &[T]) -> Result<Merges, Error> {
        Merges::check_count(list.len())?;
        // Half of the time that loading takes goes into finding these texts, so all threads look.
        let parts: Vec<_> = list
            .par_chunks(PART)
            .enumerate()
            .map(|(part, merges)| read_merges(tokens, part * PART, merges))
            .collect();
        let mut pairs = Vec::with_capacity(list.len());
        for part in parts {
            pairs.append(&mut part?);
        }
        let ordered = pairs.is_sorted_by_key(|pair| pair.2);
        Merges::build(tokens, &pairs, ordered)
    }

    /// Every split of every token into two tokens merges, lowest id first: what a vocabulary of ranks means.
    pub fn from_ranks(tokens: &Tokens) -> Result<Merges, Error> {
        let mut pairs = Vec::new();
        for id in 0..tokens.len() as u32 {
            let bytes = tokens.get(id);
            if tokens.find(bytes) != Some(id) {
                continue;
            }
            for middle in 1..bytes.len() {
                if let Some(left) = tokens.find(&bytes[..middle])
                    && let Some(right) = tokens.find(&bytes[middle..])
                {
                    pairs.push((left, right, id));
                }
            }
            // All parts of one long text as tokens would make pairs without end of a small file.
            Merges::check_count(pairs.len())?;
        }
        Merges::build(tokens, &pairs, true)
    }

    fn build(tokens: &Tokens, pairs: &[(u32, u32, u32)], by_result: bool) -> Result<Merges, Error> {
        let mut merges = Merges {
            slots: vec![EMPTY; (pairs.len() * 2).next_power_of_two()],
            filter: vec![
                0;
                (pairs.len() * FILTER_SHARE)
                    .next_power_of_two()
                    .div_ceil(64)
            ],
            results: Vec::new(),
            byte_ranks: vec![NEVER; 1 << 16],
            byte_ids: [0; 256],
            seed: tokens::random_seed(),
        };
        for byte in 0..=255 {
            let id = tokens.find(&[byte]).ok_or(Error::MissingByte { byte })?;
            merges.byte_ids[usize::from(byte)] = id;
        }
        for (index, &(left, right, result)) in pairs.iter().enumerate() {
            merges.insert(left, right, if by_result { result } else { index as u32 });
            if let (&[left], &[right]) = (tokens.get(left), tokens.get(right)) {
                let place = usize::from(left) << 8 | usize::from(right);
                let rank = merges.rank(
                    merges.byte_ids[usize::from(left)],
                    merges.byte_ids[usize::from(right)],
                );
                merges.byte_ranks[place] = rank;
            }
        }
        if !by_result {
            merges.results = pairs.iter().map(|pair| pair.2).collect();
        }
        Ok(merges)
    }

    #[inline]
    fn hash(&self, pair: u64) -> u64 {
        tokens::fold(pair ^ self.seed, MULTIPLIER)
    }

    /// Word and bit of the filter.
    #[inline]
    fn filter_bit(&self, hash: u64) -> (usize, u64) {
        let bit = (hash >> 32) as usize;
        ((bit / 64) & (self.filter.len() - 1), 1 << (bit % 64))
    }

    /// A pair that is listed twice keeps its first rank.
    fn insert(&mut self, left: u32, right: u32, rank: u32) {
        let pair = u64::from(left) << ID_BITS | u64::from(right);
        let hash = self.hash(pair);
        let (word, bit) = self.filter_bit(hash);
        self.filter[word] |= bit;
        let mut at = hash as usize & (self.slots.len() - 1);
        while self.slots[at] != EMPTY {
            if self.slots[at] >> RANK_BITS == pair {
                return;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = pair << RANK_BITS | u64::from(rank);
    }

    /// When the pair merges, or [`NEVER`].
    #[inline]
    pub fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = u64::from(left) << ID_BITS | u64::from(right);
        let hash = self.hash(pair);
        let (word, bit) = self.filter_bit(hash);
        if self.filter[word] & bit == 0 {
            return NEVER;
        }
        let mut at = hash as usize & (self.slots.len() - 1);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return NEVER;
            }
            if slot >> RANK_BITS == pair {
                return slot as u32 & (NEVER - 1);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// What the pair of this rank becomes.
    #[inline]
    pub fn result(&self, rank: u32) -> u32 {
        if self.results.is_empty() {
            rank
        } else {
            self.results[rank as usize]
        }
    }

    /// Merges the bytes of one piece until no pair merges, lowest rank first and leftmost on ties.
    pub fn apply(&self, tokens: &Tokens, piece: &[u8], out: &mut Vec<u32>) {
        if piece.len() <= SHORT {
            self.apply_short(piece, out);
        } else {
            Long::new(self, tokens, piece, out).apply();
        }
    }

    /// The token of a single byte.
    pub fn byte_id(&self, byte: u8) -> u32 {
        self.byte_ids[usize::from(byte)]
    }

    /// The rank of a pair of single bytes.
    pub fn byte_rank(&self, left: u8, right: u8) -> u32 {
        self.byte_ranks[usize::from(left) << 8 | usize::from(right)]
    }

    /// As [`Merges::apply`], for at most [`SHORT`] bytes.
    ///
    /// A token stays at the place of its first byte, and pairs are compared by rank and place in one word. The least of them is
    /// looked for among the least of every [`GROUP`] places, of which a merge changes three at most.
    pub fn apply_short(&self, piece: &[u8], out: &mut Vec<u32>) {
        let mut ids = [0; SHORT];
        let mut pairs = [[NO_PAIR; GROUP]; SHORT / GROUP];
        let mut least = [NO_PAIR; SHORT / GROUP];
        let groups = piece.len().div_ceil(GROUP);
        for (place, &byte) in piece.iter().enumerate() {
            ids[place] = self.byte_ids[usize::from(byte)];
            if let Some(&next) = piece.get(place + 1) {
                pairs[place / GROUP][place % GROUP] = pair_at(self.byte_rank(byte, next), place);
            }
        }
        for group in 0..groups {
            least[group] = lowest(&pairs[group]);
        }
        // One bit for each place that a token begins at.
        let unused = SHORT as u32 - piece.len() as u32;
        let mut begins = u64::MAX.checked_shr(unused).unwrap_or(0);
        loop {
            let best = least[..groups].iter().copied().fold(NO_PAIR, u32::min);
            if best == NO_PAIR {
                break;
            }
            let place = best as usize % SHORT;
            let gone = first_after(begins, place).unwrap_or(place);
            begins &= !(1 << gone);
            pairs[gone / GROUP][gone % GROUP] = NO_PAIR;
            ids[place] = self.result(best / SHORT as u32);
            pairs[place / GROUP][place % GROUP] = match first_after(begins, place) {
                Some(next) => pair_at(self.rank(ids[place], ids[next]), place),
                None => NO_PAIR,
            };
            least[gone / GROUP] = lowest(&pairs[gone / GROUP]);
            if let Some(previous) = last_before(begins, place) {
                let rank = self.rank(ids[previous], ids[place]);
                pairs[previous / GROUP][previous % GROUP] = pair_at(rank, previous);
                least[previous / GROUP] = lowest(&pairs[previous / GROUP]);
            }
            least[place / GROUP] = lowest(&pairs[place / GROUP]);
        }
        while begins != 0 {
            out.push(ids[begins.trailing_zeros() as usize]);
            begins &= begins - 1;
        }
    }
}

/// A pair's rank and place as one number, that of the lowest rank and then the leftmost first.
#[inline]
fn pair_at(rank: u32, place: usize) -> u32 {
    match rank {
        NEVER => NO_PAIR,
        rank => rank * SHORT as u32 + place as u32,
    }
}

#[inline]
fn lowest(pairs: &[u32; GROUP]) -> u32 {
    pairs.iter().copied().fold(NO_PAIR, u32::min)
}

/// The first place after this one at which a token begins.
#[inline]
fn first_after(begins: u64, place: usize) -> Option<usize> {
    let after = begins & (u64::MAX << place << 1);
    (after != 0).then(|| after.trailing_zeros() as usize)
}

/// The last place before this one at which a token begins.
#[inline]
fn last_before(begins: u64, place: usize) -> Option<usize> {
    let before = begins & !(u64::MAX << place);
    before.checked_ilog2().map(|place| place as usize)
}

/// Left, right and resulting ids of some lines of the merge list, of which the first has the number `first`.
fn read_merges<T: AsRef<str>>(
    tokens: &Tokens,
    first: usize,
    merges: &[T],
) -> Result<Vec<(u32, u32, u32)>, Error> {
    let mut pairs = Vec::with_capacity(merges.len());
    let mut buffer = Vec::new();
    let mut previous = 0;
    for (index, merge) in merges.iter().enumerate() {
        let pair = read_merge(tokens, first + index, merge.as_ref(), previous, &mut buffer)?;
        previous = pair.2;
        pairs.push(pair);
    }
    Ok(pairs)
}

/// One line's ids. Its result is mostly the `previous` line's or the next token.
fn read_merge(
    tokens: &Tokens,
    index: usize,
    merge: &str,
    previous: u32,
    buffer: &mut Vec<u8>,
) -> Result<(u32, u32, u32), Error> {
    let malformed = || Error::MalformedMerge {
        index,
        merge: merge.to_owned(),
    };
    let (left, right) = merge.split_once(' ').ok_or_else(malformed)?;
    buffer.clear();
    tokens::append_bytes(left, buffer).map_err(|_| malformed())?;
    let middle = buffer.len();
    tokens::append_bytes(right, buffer).map_err(|_| malformed())?;
    let missing = |text: String| Error::MergeWithoutToken {
        index,
        merge: merge.to_owned(),
        missing: text,
    };
    let find = |bytes: &[u8], text: &str| tokens.find(bytes).ok_or_else(|| missing(text.into()));
    let left_id = find(&buffer[..middle], left)?;
    let right_id = find(&buffer[middle..], right)?;
    let result = [previous, previous + 1]
        .into_iter()
        .find(|&id| tokens.is(id, buffer))
        .or_else(|| tokens.find(buffer))
        .ok_or_else(|| missing(format!("{left}{right}")))?;
    Ok((left_id, right_id, result))
}
