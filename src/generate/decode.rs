//! Choosing tokens one after another: sampled, forced, or drafted and checked.

use super::{Context, Error};
use crate::model::Logits;
use crate::sample::{Constraint, Sampler};
use crate::speculate::{Lookup, Pace};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The state between two tokens.
///
/// `logits` has a row for the last settled token and one for each drafted token after it. A chosen
/// token that equals the draft is in the cache already; any other takes the draft back and waits
/// in `pending` for the next pass.
pub(super) struct Decoder {
    logits: Logits,
    /// The row to choose the next token from.
    row: usize,
    rows: usize,
    /// Tokens in the cache that nobody has chosen yet.
    drafted: VecDeque<u32>,
    /// Chosen tokens that are not in the cache yet.
    pending: Vec<u32>,
    /// Tokens that come next whatever the model thinks.
    forced: VecDeque<u32>,
    constraint: Option<Armed>,
    /// Tokens that are not chosen while no constraint is at work.
    forbidden: Vec<u32>,
    speculation: Option<Speculation>,
    pass: Pass,
}

/// A constraint at work, and the token that ends its text.
struct Armed {
    constraint: Constraint,
    end: u32,
}

struct Speculation {
    lookup: Lookup,
    pace: Pace,
}

/// The last forward pass, to learn from once it is known how much of it held.
#[derive(Default)]
struct Pass {
    agreement: usize,
    drafted: usize,
    accepted: usize,
    time: Duration,
}

impl Decoder {
    /// Continues after the tokens in `context`; `logits` are those after the last of them.
    pub fn new(context: &Context, logits: Logits, pace: Option<Pace>) -> Self {
        Self {
            logits,
            row: 0,
            rows: 1,
            drafted: VecDeque::new(),
            pending: Vec::new(),
            forced: VecDeque::new(),
            constraint: None,
            forbidden: Vec::new(),
            speculation: pace.map(|pace| Speculation {
                lookup: Lookup::new(context.tokens()),
                pace,
            }),
            pass: Pass::default(),
        }
    }

    /// From the next token on only what `constraint` allows, until `end`.
    pub fn constrain(&mut self, mut constraint: Constraint, end: u32) {
        self.forced.extend(constraint.forced());
        self.constraint = Some(Armed { constraint, end });
    }

    /// These tokens are not chosen outside of constrained text.
    pub fn forbid(&mut self, tokens: Vec<u32>) {
        self.forbidden = tokens;
    }

    /// The constrained text is over.
    pub fn release(&mut self) {
        self.constraint = None;
    }

    /// Whether a constraint is at work.
    pub fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// These tokens come next.
    pub fn force(&mut self, tokens: &[u32]) {
        self.forced.extend(tokens);
    }

    /// The next token.
    pub fn next(&mut self, context: &mut Context, sampler: &mut Sampler) -> Result<u32, Error> {
        if let Some(token) = self.forced.pop_front() {
            self.settle(token, context, sampler)?;
            return Ok(token);
        }
        if self.row == self.rows {
            self.pass(context)?;
        }
        let logits = self.logits.row_mut(self.row);
        if let Some(armed) = &mut self.constraint {
            armed.constraint.mask(logits, armed.end)?;
        } else {
            for &token in &self.forbidden {
                logits[token as usize] = f32::NEG_INFINITY;
            }
        }
        let token = sampler.sample(logits)?;
        if let Some(armed) = &mut self.constraint {
            armed.constraint.accept(token)?;
            if token != armed.end {
                self.forced.extend(armed.constraint.forced());
            }
        }
        self.settle(token, context, sampler)?;
        Ok(token)
    }

    /// Takes back what was drafted but never chosen; gives back what was learned.
    pub fn finish(mut self, context: &mut Context) -> Result<Option<Pace>, Error> {
        self.take_back(context)?;
        Ok(self.speculation.map(|speculation| speculation.pace))
    }

    /// Notes a chosen token.
    fn settle(
        &mut self,
        token: u32,
        context: &mut Context,
        sampler: &mut Sampler,
    ) -> Result<(), Error> {
        sampler.accept(token);
        if let Some(speculation) = &mut self.speculation {
            speculation.lookup.push(token);
        }
        if self.drafted.front() == Some(&token) {
            self.drafted.pop_front();
            self.row += 1;
            self.pass.accepted += 1;
            return Ok(());
        }
        self.take_back(context)?;
        self.pending.push(token);
        Ok(())
    }

    /// Ends the pass: the rest of its draft leaves the cache.
    fn take_back(&mut self, context: &mut Context) -> Result<(), Error> {
        context.truncate(context.tokens().len() - self.drafted.len())?;
        self.drafted.clear();
        self.row = self.rows;
        if let Some(speculation) = &mut self.speculation {
            let pass = std::mem::take(&mut self.pass);
            if pass.time > Duration::ZERO {
                speculation
                    .pace
                    .learn(pass.agreement, pass.drafted, pass.accepted, pass.time);
            }
        }
        Ok(())
    }

    /// Runs the model over the pending tokens and a draft after them.
    fn pass(&mut self, context: &mut Context) -> Result<(), Error> {
        let room = context
            .limit()
            .saturating_sub(context.tokens().len() + self.pending.len());
        let mut agreement = 0;
        let mut drafted = VecDeque::new();
        if let Some(Speculation { lookup, pace }) = &mut self.speculation
            && self.pending.len() == 1
        {
            let mut draft = lookup.draft(crate::speculate::LONGEST_DRAFT.min(room));
            if !draft.tokens.is_empty() {
                draft.tokens.truncate(pace.width(draft.agreement));
                agreement = draft.agreement;
                drafted = VecDeque::from(draft.tokens);
            }
        }
        let settled = self.pending.len();
        let wanted = drafted.len() + 1;
        let start = Instant::now();
        let tokens: Vec<u32> = self.pending.iter().chain(&drafted).copied().collect();
        let before = context.tokens().len();
        if let Err(error) = context.extend_wanting(&tokens, wanted, &mut self.logits) {
            // Whatever a failed pass left in the cache, it is not more than was settled; what failed is the error to tell.
            let _ = context.truncate(before.min(context.tokens().len()));
            return Err(error);
        }
        self.drafted = drafted;
        self.pass = Pass {
            agreement,
            drafted: self.drafted.len(),
            accepted: 0,
            // A pass over several settled tokens says nothing about the cost of a draft.
            time: if settled == 1 {
                start.elapsed()
            } else {
                Duration::ZERO
            },
        };
        self.pending.clear();
        self.row = 0;
        self.rows = wanted;
        Ok(())
    }
}
