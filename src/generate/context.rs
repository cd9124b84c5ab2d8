//! The tokens that a cache holds, and how much of it a new prompt can keep.
//!
//! A turn should cost its new tokens only. Harmony drops the thinking of finished turns, so the next
//! prompt agrees with the cache up to where the last answer began and then goes another way; the
//! windowed layers have forgotten that place by then. So every answer begins with a mark: a
//! snapshot, a few MB, to which the cache can return.

use super::Error;
use crate::model::persist::{self, Get, Put};
use crate::model::{self, Batch, Logits, Model, Sequence, Snapshot};
use std::io::{self, Read};
use std::sync::Arc;

/// More marks than anyone edits back to; each holds the windowed layers' pages (3 MB for the 20b).
const MOST_MARKS: usize = 32;

/// One cache and what is in it.
pub struct Context {
    model: Arc<Model>,
    sequence: Sequence,
    tokens: Vec<u32>,
    /// By position.
    marks: Vec<Mark>,
}

/// Marks that keep their logits, so that answering again costs nothing; 0.8 MB each.
const MARKS_WITH_LOGITS: usize = 4;

/// Where a mark without logits has them in a file: no part is at its beginning.
const NO_LOGITS: u64 = 0;

/// A position to return to.
struct Mark {
    snapshot: Snapshot,
    logits: Option<Logits>,
}

/// What reading a prompt took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefill {
    /// Tokens that the cache held already.
    pub cached: usize,
    /// Tokens that were computed.
    pub computed: usize,
}

impl Context {
    /// An empty cache.
    pub fn new(model: Arc<Model>) -> Self {
        let sequence = model.new_sequence();
        Self {
            model,
            sequence,
            tokens: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The model it belongs to.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many tokens there may be.
    pub fn limit(&self) -> usize {
        self.sequence.limit()
    }

    /// Bytes of the cache.
    pub fn bytes(&self) -> u64 {
        self.sequence.bytes()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sequence = self.model.new_sequence();
        self.tokens.clear();
        self.marks.clear();
    }

    /// The position to continue from, and the mark that leads there if the cache itself cannot.
    fn plan(&self, prompt: &[u32]) -> (usize, Option<usize>) {
        let pairs = self.tokens.iter().zip(prompt);
        let common = pairs.take_while(|(a, b)| a == b).count();
        let mark_at = |position: usize| {
            let mut marks = self.marks.iter();
            marks.position(|mark| mark.snapshot.position() == position && mark.logits.is_some())
        };
        if common == prompt.len()
            && let Some(mark) = mark_at(common)
        {
            return (common, Some(mark));
        }
        // The last token is computed again, because its logits are wanted.
        let wanted = common.min(prompt.len().saturating_sub(1));
        if wanted == self.tokens.len() || wanted >= self.sequence.earliest() {
            return (wanted, None);
        }
        let mark = self
            .marks
            .iter()
            .rposition(|mark| mark.snapshot.position() <= wanted);
        match mark {
            Some(mark) => (self.marks[mark].snapshot.position(), Some(mark)),
            None => (0, None),
        }
    }

    /// Makes the cache hold exactly `prompt`, and gives the logits after its last token.
    ///
    /// `go_on` is asked with the number of tokens done after every chunk; if it says no, what was
    /// computed stays in the cache.
    pub fn prefill(
        &mut self,
        prompt: &[u32],
        logits: &mut Logits,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Prefill, Error> {
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if prompt.len() > self.limit() {
            return Err(Error::TooLong {
                tokens: prompt.len(),
                limit: self.limit(),
                model: self.model.config().context,
            });
        }
        let (position, mark) = self.plan(prompt);
        self.return_to(position, mark)?;
        if position == prompt.len() {
            let kept = mark.and_then(|mark| self.marks[mark].logits.as_ref());
            logits.clone_from(kept.ok_or(Error::EmptyPrompt)?);
        }
        for chunk in prompt[position..].chunks(self.model.chunk()) {
            self.extend(chunk, logits)?;
            if !go_on(self.tokens.len()) {
                return Err(Error::Interrupted);
            }
        }
        Ok(Prefill {
            cached: position,
            computed: prompt.len() - position,
        })
    }

    fn return_to(&mut self, position: usize, mark: Option<usize>) -> Result<(), Error> {
        match mark {
            Some(mark) => self.sequence.restore(&self.marks[mark].snapshot),
            None => self.sequence.truncate(position)?,
        }
        self.forget_after(position);
        Ok(())
    }

    fn forget_after(&mut self, position: usize) {
        self.tokens.truncate(position);
        self.marks
            .retain(|mark| mark.snapshot.position() <= position);
    }

    /// Remembers the present position and its logits.
    pub fn mark(&mut self, logits: &Logits) {
        let position = self.tokens.len();
        self.marks
            .retain(|mark| mark.snapshot.position() < position);
        if self.marks.len() == MOST_MARKS {
            // The first mark stays: it is the one that a new conversation returns to.
            self.marks.remove(1);
        }
        self.marks.push(Mark {
            snapshot: self.sequence.snapshot(),
            logits: Some(logits.clone()),
        });
        let old = self.marks.len().saturating_sub(MARKS_WITH_LOGITS);
        self.marks[..old]
            .iter_mut()
            .for_each(|mark| mark.logits = None);
    }

    /// Appends tokens; the logits are those after the last.
    pub fn extend(&mut self, tokens: &[u32], logits: &mut Logits) -> Result<(), Error> {
        self.extend_wanting(tokens, 1, logits)
    }

    /// Appends tokens; the logits are those after each of the last `wanted`.
    pub fn extend_wanting(
        &mut self,
        tokens: &[u32],
        wanted: usize,
        logits: &mut Logits,
    ) -> Result<(), Error> {
        let start = self.tokens.len();
        let mut batch = Batch::new();
        for (index, &token) in tokens.iter().enumerate() {
            batch.push(token, 0, start + index, index + wanted >= tokens.len());
        }
        let done = self
            .model
            .forward(&batch, &mut [&mut self.sequence], logits);
        if matches!(done, Err(model::Error::Device(_))) {
            // What the GPU held is lost, so nothing is cached: the conversation can still be saved, and read again.
            self.clear();
            return Ok(done?);
        }
        // After an error the cache may hold some of them: it says itself how many.
        let held = self.sequence.len() - start;
        self.tokens.extend_from_slice(&tokens[..held]);
        Ok(done?)
    }

    /// Puts the parts of the cache and its marks, and writes the table of them.
    pub fn save(&self, put: &mut Put, table: &mut Vec<u8>) -> io::Result<()> {
        let snapshots: Vec<&Snapshot> = self.marks.iter().map(|mark| &mark.snapshot).collect();
        persist::save(&self.sequence, &snapshots, put, table)?;
        for mark in &self.marks {
            let place = match &mark.logits {
                Some(logits) => {
                    let bytes = logits.last().iter().flat_map(|logit| logit.to_le_bytes());
                    put(&bytes.collect::<Vec<u8>>())?
                }
                None => NO_LOGITS,
            };
            table.extend(place.to_le_bytes());
        }
        Ok(())
    }

    /// Takes over what [`Context::save`] wrote, and the tokens that belong to it.
    pub fn load(
        &mut self,
        tokens: Vec<u32>,
        table: &mut dyn Read,
        get: &mut Get,
    ) -> io::Result<()> {
        let (sequence, snapshots) = persist::load(&self.model, table, get)?;
        let vocabulary = self.model.config().vocabulary;
        let mut marks: Vec<Mark> = Vec::new();
        for snapshot in snapshots {
            let earlier = marks.last().map_or(0, |mark| mark.snapshot.position());
            if snapshot.position() < earlier || snapshot.position() > tokens.len() {
                return Err(io::Error::other("its marks are out of order"));
            }
            let mut place = [0; 8];
            table.read_exact(&mut place)?;
            let logits = match u64::from_le_bytes(place) {
                NO_LOGITS => None,
                place => Some(read_logits(vocabulary, place, get)?),
            };
            marks.push(Mark { snapshot, logits });
        }
        let is_known = |&token: &u32| (token as usize) < vocabulary;
        if sequence.len() != tokens.len() || !tokens.iter().all(is_known) {
            return Err(io::Error::other("its tokens are not those of its cache"));
        }
        *self = Self {
            model: Arc::clone(&self.model),
            sequence,
            tokens,
            marks,
        };
        Ok(())
    }

    /// Takes back the newest tokens.
    pub fn truncate(&mut self, length: usize) -> Result<(), Error> {
        if length < self.tokens.len() {
            self.sequence.truncate(length)?;
            self.forget_after(length);
        }
        Ok(())
    }
}

/// The logits of a mark: one row.
fn read_logits(vocabulary: usize, place: u64, get: &mut Get) -> io::Result<Logits> {
    let mut bytes = vec![0; vocabulary * 4];
    get(place, &mut bytes)?;
    let (values, _) = bytes.as_chunks::<4>();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
    Ok(Logits::from_row(values.collect()))
}
