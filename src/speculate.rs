//! Speculation without a second model: what followed the same few tokens before may follow again.
//!
//! Code that is edited and text that is quoted repeat long passages of the prompt. [`Lookup`] finds
//! them and proposes their continuation; the model checks the whole proposal in one pass, which
//! reads the weights once for many tokens. Every token is still chosen from its own logits, so the
//! output does not change; only the time does. [`Pace`] decides how much to propose from what was
//! accepted and what wider passes really cost here: a mixture of experts reads more weights for
//! every further token, so a guess must be good to pay.

use std::collections::HashMap;
use std::time::Duration;

/// Tokens that must agree before a continuation is proposed. Two find too many chance repetitions
/// ("of the"), four start too late to copy short lines.
const KEY: usize = 3;

/// Earlier places remembered for one key; the longest agreement among them wins.
const PLACES: usize = 8;

/// The longest proposal. Beyond it a pass costs as much per token as prefill does.
pub const LONGEST_DRAFT: usize = 16;

/// Finds earlier occurrences of the text's end.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    tokens: Vec<u32>,
    /// Where each run of [`KEY`] tokens ended, newest last.
    places: HashMap<[u32; KEY], Vec<usize>>,
}

/// A proposal and how well its beginning agreed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The proposed continuation.
    pub tokens: Vec<u32>,
    /// How many tokens before it agreed, up to [`LONGEST_DRAFT`].
    pub agreement: usize,
}

impl Lookup {
    /// Knows these tokens.
    pub fn new(tokens: &[u32]) -> Self {
        let mut lookup = Self::default();
        tokens.iter().for_each(|&token| lookup.push(token));
        lookup
    }

    /// Takes the next token.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        let end = self.tokens.len();
        if let Some(key) = self.tokens.last_chunk::<KEY>() {
            let places = self.places.entry(*key).or_default();
            if places.len() == PLACES {
                places.remove(0);
            }
            places.push(end);
        }
    }

    /// Proposes at most `most` tokens to follow.
    pub fn draft(&self, most: usize) -> Draft {
        let end = self.tokens.len();
        let places = self
            .tokens
            .last_chunk::<KEY>()
            .and_then(|key| self.places.get(key));
        let earlier = places.into_iter().flatten().filter(|&&place| place < end);
        let agreement = |place: usize| {
            let pairs = self.tokens[..place]
                .iter()
                .rev()
                .zip(self.tokens.iter().rev());
            pairs
                .take(LONGEST_DRAFT)
                .take_while(|(a, b)| a == b)
                .count()
        };
        // The newest of equally good places.
        let best = earlier.map(|&place| (agreement(place), place)).max();
        let Some((agreement, place)) = best else {
            return Draft::default();
        };
        let last = (place + most.min(LONGEST_DRAFT)).min(end);
        Draft {
            tokens: self.tokens[place..last].to_vec(),
            agreement,
        }
    }
}

/// What proposals brought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Tokens proposed.
    pub drafted: u64,
    /// Tokens of them that the model chose too.
    pub accepted: u64,
    /// Forward passes.
    pub passes: u64,
    /// Tokens that came out of those passes.
    pub tokens: u64,
}

/// Decides how many tokens to propose.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Share of single tokens accepted, by how long the agreement was.
    acceptance: [f64; CLASSES],
    /// Seconds of a pass, by its number of tokens; 0 where none was seen.
    seconds: [f64; LONGEST_DRAFT + 2],
    /// Drafts since the last that was tried, so that a bad start is tried again some day.
    quiet: u32,
    /// What has happened so far.
    pub statistics: Statistics,
}

/// Agreements of 3, of 4 to 7, and of 8 or more tokens are different games.
const CLASSES: usize = 3;

/// Weight of the newest observation in the running means.
const NEW: f64 = 0.15;

/// Drafts left untried after which one of any class gets another chance.
const RETRY: u32 = 64;

impl Default for Pace {
    fn default() -> Self {
        Self {
            // Seen on code edits with gpt-oss-like vocabularies; a few passes correct them.
            acceptance: [0.45, 0.7, 0.9],
            seconds: [0.0; LONGEST_DRAFT + 2],
            quiet: 0,
            statistics: Statistics::default(),
        }
    }
}

impl Pace {
    /// How many tokens of a draft to check; 0 decodes plainly.
    pub fn width(&mut self, agreement: usize) -> usize {
        let acceptance = self.acceptance[class(agreement)];
        let mut best = (1.0 / self.cost(1), 0);
        let mut expected = 1.0;
        let mut chance = 1.0;
        for width in 1..=LONGEST_DRAFT {
            chance *= acceptance;
            expected += chance;
            let rate = expected / self.cost(width + 1);
            // Five percent: less is within the noise of the clock.
            if rate > best.0 * 1.05 {
                best = (rate, width);
            }
        }
        self.quiet += 1;
        if best.1 > 0 || self.quiet > RETRY {
            self.quiet = 0;
            return best.1.max(2);
        }
        0
    }

    /// Seconds of a pass over `tokens`, relative to unknown units while nothing was measured.
    fn cost(&self, tokens: usize) -> f64 {
        let measured = |tokens: usize| self.seconds[tokens] > 0.0;
        // Each further token brings its own experts: between a quarter and a third of a pass
        // for 4 of 32, less for models whose attention and head weigh more.
        let guessed = |tokens: usize| 1.0 + 0.3 * (tokens - 1) as f64;
        if measured(tokens) {
            return self.seconds[tokens];
        }
        let below = (1..tokens).rev().find(|&t| measured(t));
        let above = (tokens + 1..self.seconds.len()).find(|&t| measured(t));
        match (below, above) {
            (Some(a), Some(b)) => {
                let slope = (self.seconds[b] - self.seconds[a]) / (b - a) as f64;
                self.seconds[a] + slope * (tokens - a) as f64
            }
            (Some(a), None) => self.seconds[a] * (1.0 + 0.3 * (tokens - a) as f64 / a as f64),
            (None, Some(b)) => self.seconds[b] * guessed(tokens) / guessed(b),
            (None, None) => guessed(tokens),
        }
    }

    /// Learns from a pass over `drafted + 1` tokens of which `accepted` drafts held.
    pub fn learn(&mut self, agreement: usize, drafted: usize, accepted: usize, time: Duration) {
        let statistics = &mut self.statistics;
        statistics.passes += 1;
        statistics.tokens += accepted as u64 + 1;
        statistics.drafted += drafted as u64;
        statistics.accepted += accepted as u64;
        let seconds = &mut self.seconds[drafted.min(LONGEST_DRAFT) + 1];
        let new = if *seconds == 0.0 { 1.0 } else { NEW };
        *seconds += new * (time.as_secs_f64().max(1e-9) - *seconds);
        if drafted == 0 {
            return;
        }
        // Each accepted token is a success; the first that was not is the only failure seen.
        let share = &mut self.acceptance[class(agreement)];
        for _ in 0..accepted {
            *share += NEW * 0.5 * (1.0 - *share);
        }
        if accepted < drafted {
            *share -= NEW * *share;
        }
    }
}

fn class(agreement: usize) -> usize {
    match agreement {
        0..4 => 0,
        4..8 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_continuation_of_the_longest_agreement_is_proposed() {
        // "2 3 4" occurs twice: once after 1, as at the end, and once, later, after 9.
        let lookup = Lookup::new(&[1, 2, 3, 4, 50, 51, 52, 9, 2, 3, 4, 60, 61, 1, 2, 3, 4]);
        let draft = lookup.draft(2);
        assert_eq!(draft.tokens, [50, 51]);
        assert_eq!(draft.agreement, 4);
    }

    #[test]
    fn the_newest_of_equal_places_wins_and_a_short_text_proposes_nothing() {
        let lookup = Lookup::new(&[7, 1, 2, 3, 40, 8, 1, 2, 3, 41, 9, 1, 2, 3]);
        assert_eq!(lookup.draft(1).tokens, [41]);
        assert_eq!(Lookup::new(&[1, 2]).draft(4), Draft::default());
        assert_eq!(Lookup::new(&[1, 2, 3, 4, 5]).draft(4), Draft::default());
    }

    #[test]
    fn a_loop_proposes_itself() {
        let mut lookup = Lookup::new(&[5, 6, 5, 6, 5, 6]);
        assert_eq!(lookup.draft(8).tokens, [5, 6]);
        for token in [5, 6, 5, 6, 5, 6, 5, 6, 5, 6] {
            lookup.push(token);
        }
        assert!(lookup.draft(8).tokens.starts_with(&[5, 6]));
    }

    fn milliseconds(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn good_guesses_get_longer_and_bad_ones_end() {
        let mut pace = Pace::default();
        pace.learn(0, 0, 0, milliseconds(10));
        for _ in 0..50 {
            pace.learn(9, 8, 8, milliseconds(20));
        }
        assert!(pace.width(9) >= 8, "{pace:?}");
        for _ in 0..50 {
            pace.learn(9, 8, 0, milliseconds(20));
        }
        assert_eq!(pace.width(9), 0);
        // After long enough it tries again.
        let tried = (0..=RETRY).any(|_| pace.width(9) > 0);
        assert!(tried);
    }

    #[test]
    fn passes_that_cost_per_token_do_not_pay() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.learn(0, 0, 0, milliseconds(10));
            pace.learn(3, 2, 1, milliseconds(30));
            pace.learn(3, 8, 2, milliseconds(90));
        }
        assert_eq!(pace.width(3), 0, "{pace:?}");
    }

    #[test]
    fn statistics_add_up() {
        let mut pace = Pace::default();
        pace.learn(3, 4, 2, milliseconds(1));
        pace.learn(0, 0, 0, milliseconds(1));
        let wanted = Statistics {
            drafted: 4,
            accepted: 2,
            passes: 2,
            tokens: 4,
        };
        assert_eq!(pace.statistics, wanted);
    }
}
