//! Byte-pair merging: which two neighbours become one token, and in which order.

use super::error::Error;
use super::tokens::{self, ID_BITS, MULTIPLIER, Tokens};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A merge's rank fits in the bits that two ids leave of a word.
const RANK_BITS: u32 = 64 - 2 * ID_BITS;
/// Larger than every rank: the pair does not merge.
const NEVER: u32 = 1 << RANK_BITS;
const EMPTY: u64 = u64::MAX;

/// Pieces up to this many bytes are merged by scanning for the lowest rank, longer ones with a heap.
/// Words are short, and scanning 100 ranks costs less than keeping a heap of them in order.
const SCAN_LEN: usize = 100;

/// A round over a long piece must merge at least one in this many tokens.
const ROUND_SHARE: usize = 32;

/// Every pair of tokens that merges, with its rank and result.
pub struct Merges {
    /// Open addressing: left id, right id, rank.
    slots: Vec<u64>,
    /// Result by rank; empty when the rank is the result's id, as in all vocabularies that were trained in that order.
    results: Vec<u32>,
    /// (256 * 256): ranks of pairs of single bytes, which are looked up most.
    byte_ranks: Vec<u32>,
    /// Ids of the 256 single bytes.
    byte_ids: [u32; 256],
    /// (tokens): whether making a token can make a pair that merges before it, as three spaces beside one do: four have the
    /// lower id. Empty when ranks are not ids.
    falls: Vec<bool>,
    seed: u64,
}

impl Merges {
    /// Reads a list of `left right` texts in which earlier means merged first.
    ///
    /// Where the results' ids never fall along the list, the id is the rank. This matters on ties: `aa a` and `a aa` give one
    /// token, so the leftmost goes first, as in the trainer; by place in the list one spelling would always precede the other.
    pub fn from_list<T: AsRef<str>>(tokens: &Tokens, list: &[T]) -> Result<Merges, Error> {
        let limit = NEVER as usize - 1;
        if list.len() > limit {
            let merges = list.len();
            return Err(Error::TooManyMerges { merges, limit });
        }
        let mut pairs = Vec::with_capacity(list.len());
        let mut buffer = Vec::new();
        let (mut ordered, mut previous) = (true, 0);
        for (index, merge) in list.iter().enumerate() {
            let pair = read_merge(tokens, index, merge.as_ref(), &mut buffer)?;
            ordered &= pair.2 >= previous;
            previous = pair.2;
            pairs.push(pair);
        }
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
        }
        Merges::build(tokens, &pairs, true)
    }

    fn build(tokens: &Tokens, pairs: &[(u32, u32, u32)], by_result: bool) -> Result<Merges, Error> {
        let mut merges = Merges {
            slots: vec![EMPTY; (pairs.len() * 2).next_power_of_two()],
            results: Vec::new(),
            byte_ranks: vec![NEVER; 1 << 16],
            byte_ids: [0; 256],
            falls: Vec::new(),
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
        if by_result {
            merges.falls = vec![false; tokens.len()];
            for &(left, right, result) in pairs {
                merges.falls[left as usize] |= result < left;
                merges.falls[right as usize] |= result < right;
            }
        } else {
            merges.results = pairs.iter().map(|pair| pair.2).collect();
        }
        Ok(merges)
    }

    fn slot_of(&self, pair: u64) -> usize {
        tokens::fold(pair ^ self.seed, MULTIPLIER) as usize & (self.slots.len() - 1)
    }

    /// A pair that is listed twice keeps its first rank.
    fn insert(&mut self, left: u32, right: u32, rank: u32) {
        let pair = u64::from(left) << ID_BITS | u64::from(right);
        let mut at = self.slot_of(pair);
        while self.slots[at] != EMPTY {
            if self.slots[at] >> RANK_BITS == pair {
                return;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = pair << RANK_BITS | u64::from(rank);
    }

    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = u64::from(left) << ID_BITS | u64::from(right);
        let mut at = self.slot_of(pair);
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

    #[inline]
    fn result(&self, rank: u32) -> u32 {
        if self.results.is_empty() {
            rank
        } else {
            self.results[rank as usize]
        }
    }

    /// Merges the bytes of one piece until no pair merges, lowest rank first and leftmost on ties.
    pub fn apply(&self, piece: &[u8], out: &mut Vec<u32>) {
        if piece.len() <= SCAN_LEN {
            self.apply_scanning(piece, out);
        } else {
            self.apply_long(piece, out);
        }
    }

    fn byte_rank(&self, left: u8, right: u8) -> u32 {
        self.byte_ranks[usize::from(left) << 8 | usize::from(right)]
    }

    fn apply_scanning(&self, piece: &[u8], out: &mut Vec<u32>) {
        let mut ids = [0; SCAN_LEN];
        // ranks[i] is the rank of the pair (i, i + 1); the last is NEVER.
        let mut ranks = [NEVER; SCAN_LEN];
        let mut len = piece.len();
        for (index, &byte) in piece.iter().enumerate() {
            ids[index] = self.byte_ids[usize::from(byte)];
            if let Some(&next) = piece.get(index + 1) {
                ranks[index] = self.byte_rank(byte, next);
            }
        }
        loop {
            let (mut best, mut at) = (NEVER, 0);
            for (index, &rank) in ranks[..len].iter().enumerate() {
                if rank < best {
                    (best, at) = (rank, index);
                }
            }
            if best == NEVER {
                break;
            }
            ids[at] = self.result(best);
            ids.copy_within(at + 2..len, at + 1);
            ranks.copy_within(at + 1..len, at);
            len -= 1;
            if at > 0 {
                ranks[at - 1] = self.rank(ids[at - 1], ids[at]);
            }
            ranks[at] = if at + 1 < len {
                self.rank(ids[at], ids[at + 1])
            } else {
                NEVER
            };
        }
        out.extend_from_slice(&ids[..len]);
    }

    /// Pieces without a natural end, such as a megabyte of one letter: first whole rounds, then a heap for what is left.
    fn apply_long(&self, piece: &[u8], out: &mut Vec<u32>) {
        let mut ids: Vec<u32> = piece
            .iter()
            .map(|&byte| self.byte_ids[usize::from(byte)])
            .collect();
        let mut ranks: Vec<u32> = piece
            .windows(2)
            .map(|pair| self.byte_rank(pair[0], pair[1]))
            .collect();
        while self.merge_everywhere(&mut ids, &mut ranks) {}
        self.apply_with_heap(&ids, &ranks, out);
    }

    /// Merges every pair of the lowest rank in one pass, if there are so many that the pass pays: as each takes away at least
    /// this part of the tokens, all passes together look at no more than [`ROUND_SHARE`] times as many as there were.
    ///
    /// This is the right order only where the merge makes no pair of a lower rank, which would have to go first.
    fn merge_everywhere(&self, ids: &mut Vec<u32>, ranks: &mut Vec<u32>) -> bool {
        let Some(&lowest) = ranks.iter().min() else {
            return false;
        };
        let count = ranks.iter().filter(|&&rank| rank == lowest).count();
        if lowest == NEVER || count * ROUND_SHARE < ids.len() {
            return false;
        }
        let merged = self.result(lowest);
        if self.falls.get(merged as usize) != Some(&false) {
            return false;
        }
        let (mut read, mut write) = (0, 0);
        // The rank of the pair of the last written token and the one read next; looked up again if either is new.
        let mut was_merged = false;
        while read < ids.len() {
            let merges = ranks.get(read) == Some(&lowest);
            let id = if merges { merged } else { ids[read] };
            if write > 0 {
                ranks[write - 1] = match was_merged || merges {
                    true => self.rank(ids[write - 1], id),
                    false => ranks[read - 1],
                };
            }
            ids[write] = id;
            write += 1;
            read += if merges { 2 } else { 1 };
            was_merged = merges;
        }
        ids.truncate(write);
        ranks.truncate(write - 1);
        true
    }

    fn apply_with_heap(&self, ids: &[u32], ranks: &[u32], out: &mut Vec<u32>) {
        let len = ids.len();
        let mut links: Vec<Link> = (0..len)
            .map(|at| Link {
                id: ids[at],
                rank: ranks.get(at).copied().unwrap_or(NEVER),
                previous: at.wrapping_sub(1),
                next: at + 1,
            })
            .collect();
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.rank != NEVER)
            .map(|(at, link)| Reverse((link.rank, at)))
            .collect();
        while let Some(Reverse((rank, at))) = heap.pop() {
            // An entry is stale once its left token has merged into something else.
            if links[at].rank != rank {
                continue;
            }
            let gone = links[at].next;
            let next = links[gone].next;
            links[gone].rank = NEVER;
            links[at].id = self.result(rank);
            links[at].next = next;
            links[at].rank = NEVER;
            if next < len {
                links[next].previous = at;
                links[at].rank = self.rank(links[at].id, links[next].id);
                if links[at].rank != NEVER {
                    heap.push(Reverse((links[at].rank, at)));
                }
            }
            let previous = links[at].previous;
            if previous < len {
                links[previous].rank = self.rank(links[previous].id, links[at].id);
                if links[previous].rank != NEVER {
                    heap.push(Reverse((links[previous].rank, previous)));
                }
            }
        }
        let mut at = 0;
        while at < len {
            out.push(links[at].id);
            at = links[at].next;
        }
    }
}

/// One token of a piece being merged with a heap, and its neighbours.
struct Link {
    id: u32,
    /// Rank of the pair of this token and the next.
    rank: u32,
    previous: usize,
    next: usize,
}

/// Left, right and resulting id of one line of the merge list.
fn read_merge(
    tokens: &Tokens,
    index: usize,
    merge: &str,
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
    let result = tokens
        .find(buffer)
        .ok_or_else(|| missing(format!("{left}{right}")))?;
    Ok((left_id, right_id, result))
}
