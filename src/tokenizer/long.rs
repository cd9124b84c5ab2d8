//! Merging pieces without a natural end, such as a megabyte of one letter, in linear time: block by block.
//!
//! Tokens are the right ones for some bytes exactly if every two neighbours are the right ones for their own bytes. Nothing
//! outside two neighbours takes part in the order of the merges inside them, so the first merge across their border would
//! happen to the two alone just as it happens in the whole. So blocks are merged on their own, and where two of them meet a
//! few tokens on both sides are merged again, as many as it takes until the outermost come out as they were.

use super::merges::{Merges, NEVER, SHORT};
use super::tokens::Tokens;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Results kept for bytes that come again, by their number: with them the same letter over and over is merged once only,
/// though its tokens are a hundred bytes long.
const MEMOS: usize = 16;

/// Bytes that may be merged again at the seams, for each byte of the piece. Every vocabulary in use needs fewer than two; one
/// made to need more gets the heap, which always takes n log n.
const REPAIRS: usize = 8;

/// A long piece being merged.
pub struct Long<'a> {
    merges: &'a Merges,
    tokens: &'a Tokens,
    piece: &'a [u8],
    out: &'a mut Vec<u32>,
    /// Where this piece's tokens begin in `out`.
    base: usize,
    /// Bytes that may still be merged again.
    budget: usize,
    /// The tokens of the block that is being joined.
    block: Vec<u32>,
    memos: [Memo; MEMOS],
}

/// Where in the piece some bytes stand, and their tokens.
#[derive(Default)]
struct Memo {
    bytes: Range<usize>,
    ids: Vec<u32>,
}

impl<'a> Long<'a> {
    /// Tokens will be appended to `out`.
    pub fn new(
        merges: &'a Merges,
        tokens: &'a Tokens,
        piece: &'a [u8],
        out: &'a mut Vec<u32>,
    ) -> Self {
        Long {
            merges,
            tokens,
            piece,
            base: out.len(),
            out,
            budget: piece.len().saturating_mul(REPAIRS),
            block: Vec::new(),
            memos: Default::default(),
        }
    }

    /// Merges the piece.
    pub fn apply(mut self) {
        let mut start = 0;
        while start < self.piece.len() {
            let end = block_end(self.piece, start);
            let memo = self.merge(start..end);
            self.block.clone_from(&self.memos[memo].ids);
            if !self.join(start) {
                self.out.truncate(self.base);
                return apply_with_heap(self.merges, self.piece, self.out);
            }
            start = end;
        }
    }

    /// Merges some bytes of the piece on their own, and says which memo has the result.
    fn merge(&mut self, range: Range<usize>) -> usize {
        let bytes = &self.piece[range.clone()];
        // Seams between blocks of one letter are whole blocks long: those lengths must not share a place.
        let at = (bytes.len() + bytes.len() / SHORT) % MEMOS;
        let memo = &mut self.memos[at];
        if &self.piece[memo.bytes.clone()] != bytes {
            memo.bytes = range;
            memo.ids.clear();
            if bytes.len() <= SHORT {
                self.merges.apply_short(bytes, &mut memo.ids);
            } else {
                apply_with_heap(self.merges, bytes, &mut memo.ids);
            }
        }
        at
    }

    /// Appends the block that begins at `start`. False when the budget is used up.
    fn join(&mut self, start: usize) -> bool {
        let (mut before, mut after) = (1, 1);
        loop {
            before = before.min(self.out.len() - self.base);
            after = after.min(self.block.len());
            let kept = self.out.len() - before;
            let (left, right) = (&self.out[kept..], &self.block[..after]);
            let length = |ids: &[u32]| ids.iter().map(|&id| self.tokens.get(id).len()).sum();
            let (left_length, right_length): (usize, usize) = (length(left), length(right));
            let (first, last) = (left.first().copied(), right.last().copied());
            let memo = self.merge(start - left_length..start + right_length);
            let seam = &self.memos[memo].ids;
            let left_holds = kept == self.base || seam.first() == first.as_ref();
            let right_holds = after == self.block.len() || seam.last() == last.as_ref();
            if left_holds && right_holds {
                self.out.truncate(kept);
                self.out.extend_from_slice(seam);
                self.out.extend_from_slice(&self.block[after..]);
                return true;
            }
            match self.budget.checked_sub(left_length + right_length) {
                Some(rest) => self.budget = rest,
                None => return false,
            }
            before <<= u32::from(!left_holds);
            after <<= u32::from(!right_holds);
        }
    }
}

/// The end of the block that begins at `start`: between characters, so that fewer seams need repair.
fn block_end(piece: &[u8], start: usize) -> usize {
    let end = start + SHORT;
    if end >= piece.len() {
        return piece.len();
    }
    let is_inside = |at: &usize| piece[*at] & 0xC0 == 0x80;
    (end - 3..=end)
        .rev()
        .find(|at| !is_inside(at))
        .unwrap_or(end)
}

/// Merges with a heap of the pairs by rank.
fn apply_with_heap(merges: &Merges, piece: &[u8], out: &mut Vec<u32>) {
    let len = piece.len();
    let mut links: Vec<Link> = (0..len)
        .map(|at| Link {
            id: merges.byte_id(piece[at]),
            rank: match piece.get(at + 1) {
                Some(&next) => merges.byte_rank(piece[at], next),
                None => NEVER,
            },
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
        links[at].id = merges.result(rank);
        links[at].next = next;
        links[at].rank = NEVER;
        if next < len {
            links[next].previous = at;
            links[at].rank = merges.rank(links[at].id, links[next].id);
            if links[at].rank != NEVER {
                heap.push(Reverse((links[at].rank, at)));
            }
        }
        let previous = links[at].previous;
        if previous < len {
            links[previous].rank = merges.rank(links[previous].id, links[at].id);
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

/// One token of a piece being merged with a heap, and its neighbours.
struct Link {
    id: u32,
    /// Rank of the pair of this token and the next.
    rank: u32,
    previous: usize,
    next: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Random;

    /// The 256 bytes, and words over three letters made by joining earlier tokens: their merges come in no sensible order.
    fn random_vocabulary(random: &mut Random, by_rank: bool) -> (Tokens, Merges) {
        let mut below = |count: usize| (random.unit() * count as f64) as usize;
        let mut tokens = Tokens::with_capacity(300, 1000);
        let mut push = |bytes: &[u8]| {
            let filled = tokens.push(true, |out| {
                out.extend_from_slice(bytes);
                Ok(())
            });
            filled.is_ok()
        };
        assert!((0..=255).all(|byte| push(&[byte])));
        let mut words: Vec<Vec<u8>> = b"abc".iter().map(|&letter| vec![letter]).collect();
        let mut list = Vec::new();
        for _ in 0..below(40) {
            let (left, right) = (below(words.len()), below(words.len()));
            let word = [words[left].as_slice(), &words[right]].concat();
            let line = [left, right].map(|at| String::from_utf8_lossy(&words[at]).into_owned());
            if words.contains(&word) || push(&word) {
                list.insert(below(list.len() + 1), line.join(" "));
                words.push(word);
            }
        }
        let merges = match by_rank {
            true => Merges::from_ranks(&tokens),
            false => Merges::from_list(&tokens, &list),
        };
        (tokens, merges.unwrap_or_else(|error| panic!("{error}")))
    }

    /// The definition: the lowest rank first, the leftmost on ties.
    fn slowly(merges: &Merges, piece: &[u8]) -> Vec<u32> {
        let mut ids: Vec<u32> = piece.iter().map(|&byte| merges.byte_id(byte)).collect();
        loop {
            let ranks = ids.windows(2).map(|pair| merges.rank(pair[0], pair[1]));
            match ranks.enumerate().min_by_key(|&(_, rank)| rank) {
                Some((at, rank)) if rank != NEVER => {
                    ids[at] = merges.result(rank);
                    ids.remove(at + 1);
                }
                _ => return ids,
            }
        }
    }

    #[test]
    fn blocks_and_heap_give_what_the_definition_gives() {
        let mut random = Random::new(9);
        for round in 0..400 {
            let (tokens, merges) = random_vocabulary(&mut random, round % 2 == 0);
            let letters = 1 + round % 3;
            let length = (random.unit() * 400.0) as usize;
            let letter = |_| b'a' + (random.unit() * letters as f64) as u8;
            let piece: Vec<u8> = (0..length).map(letter).collect();
            let wanted = slowly(&merges, &piece);
            let mut ids = vec![7];
            merges.apply(&tokens, &piece, &mut ids);
            assert_eq!(ids[1..], wanted, "round {round}");
            ids.clear();
            apply_with_heap(&merges, &piece, &mut ids);
            assert_eq!(ids, wanted, "round {round}, heap");
        }
    }

    /// Every byte merges with the one before it in the alphabet, the later in the piece the sooner: which bytes become pairs is
    /// decided at the end of the piece, however far that is.
    #[test]
    fn what_is_decided_far_behind_reaches_the_first_block() {
        let mut tokens = Tokens::with_capacity(600, 2000);
        let mut push = |bytes: &[u8]| {
            let filled = tokens.push(true, |out| {
                out.extend_from_slice(bytes);
                Ok(())
            });
            filled.unwrap();
        };
        (0..=255).for_each(|byte| push(&[byte]));
        (0..255).for_each(|low| push(&[low + 1, low]));
        let merges = Merges::from_ranks(&tokens).unwrap();
        for last in [0, 1] {
            let piece: Vec<u8> = (last..=255).rev().collect();
            let mut ids = Vec::new();
            merges.apply(&tokens, &piece, &mut ids);
            assert_eq!(ids, slowly(&merges, &piece));
            assert_eq!(ids[0] == 255, last == 1, "{last}");
        }
    }
}
