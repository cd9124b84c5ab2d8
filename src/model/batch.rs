//! What one forward pass works on: tokens, each with its sequence and its position there.

use super::{Error, Sequence};

/// Tokens of one or many sequences, in any mixture: a long prompt, one step of each, or both.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) tokens: Vec<BatchToken>,
}

/// One token of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchToken {
    pub token: u32,
    /// Index into the sequences that are given to the forward pass.
    pub sequence: usize,
    pub position: usize,
    /// Whether its logits are wanted.
    pub logits: bool,
}

impl Batch {
    /// A batch without tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens that continue a sequence of `start` tokens, the only one of the batch. Wanted are the last logits.
    pub fn continuing(start: usize, tokens: &[u32]) -> Self {
        let mut batch = Self::new();
        for (index, &token) in tokens.iter().enumerate() {
            batch.push(token, 0, start + index, index + 1 == tokens.len());
        }
        batch
    }

    /// Adds a token. The tokens of one sequence come in the order of their positions, which continue that sequence.
    pub fn push(&mut self, token: u32, sequence: usize, position: usize, logits: bool) {
        self.tokens.push(BatchToken {
            token,
            sequence,
            position,
            logits,
        });
    }

    /// Asks for the logits of all tokens.
    pub fn want_all_logits(&mut self) {
        for token in &mut self.tokens {
            token.logits = true;
        }
    }

    /// Forgets the tokens, keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Checks ids, sequence indices, the order of positions, and that every sequence has room.
    pub(super) fn check(
        &self,
        vocabulary: usize,
        sequences: &[&mut Sequence],
    ) -> Result<(), Error> {
        let mut ends: Vec<usize> = sequences.iter().map(|sequence| sequence.len()).collect();
        for (index, token) in self.tokens.iter().enumerate() {
            if token.token as usize >= vocabulary {
                return Err(Error::Token {
                    token: token.token,
                    vocabulary,
                });
            }
            let Some(end) = ends.get_mut(token.sequence) else {
                return Err(Error::Batch(format!(
                    "token {index} belongs to sequence {}, but {} were given",
                    token.sequence,
                    sequences.len()
                )));
            };
            if token.position != *end {
                return Err(Error::Batch(format!(
                    "token {index} has position {}, but the next one of its sequence is {end}",
                    token.position
                )));
            }
            *end += 1;
        }
        for (sequence, end) in sequences.iter().zip(ends) {
            sequence.check_room(end)?;
        }
        Ok(())
    }
}

/// A run of a batch's tokens that attend together: neighbours in one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Index of the first token among those that attend.
    pub first: usize,
    pub tokens: usize,
    pub sequence: usize,
    /// Position of the first token.
    pub position: usize,
}

impl Tile {
    /// Cuts tokens into tiles of at most `most`.
    pub fn cut(tokens: &[BatchToken], most: usize, tiles: &mut Vec<Tile>) {
        tiles.clear();
        for (index, token) in tokens.iter().enumerate() {
            match tiles.last_mut() {
                Some(tile)
                    if tile.sequence == token.sequence
                        && tile.position + tile.tokens == token.position
                        && tile.tokens < most =>
                {
                    tile.tokens += 1;
                }
                _ => tiles.push(Tile {
                    first: index,
                    tokens: 1,
                    sequence: token.sequence,
                    position: token.position,
                }),
            }
        }
    }
}
