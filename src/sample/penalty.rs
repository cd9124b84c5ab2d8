//! Changing single logits before anything is drawn: bias and the penalties on repetition.
//!
//! All of them touch only tokens that were seen or named, never the whole vocabulary.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Penalties on tokens that already occurred in the last `window` tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// Positive logits are divided by this, negative ones multiplied. 1 is off.
    pub repeat: f32,
    /// Subtracted once from every token that occurred. 0 is off.
    pub presence: f32,
    /// Subtracted once per occurrence. 0 is off.
    pub frequency: f32,
    /// How many tokens back to look.
    pub window: usize,
}

impl Default for Repetition {
    fn default() -> Self {
        Self {
            repeat: 1.0,
            presence: 0.0,
            frequency: 0.0,
            window: 64,
        }
    }
}

impl Repetition {
    /// Lowers the logits of the tokens in the tail of `history`.
    pub(super) fn apply(&self, history: &[u32], exempt: &[u32], logits: &mut [f32]) {
        if (self.repeat, self.presence, self.frequency) == (1.0, 0.0, 0.0) {
            return;
        }
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for token in &history[history.len().saturating_sub(self.window)..] {
            *counts.entry(*token).or_default() += 1;
        }
        for (token, count) in counts {
            let Some(logit) = logits.get_mut(token as usize) else {
                continue;
            };
            if exempt.contains(&token) {
                continue;
            }
            *logit = if *logit > 0.0 {
                *logit / self.repeat
            } else {
                *logit * self.repeat
            };
            *logit -= self.presence + self.frequency * count as f32;
        }
    }
}

/// "Don't repeat yourself": a penalty that grows with the length of the passage a token would
/// continue to repeat. Short repetitions, which every language needs, stay free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dry {
    /// The penalty at the first punished length. 0 is off.
    pub multiplier: f32,
    /// Growth per further token.
    pub base: f32,
    /// The longest repetition that is free.
    pub allowed_length: usize,
    /// How many tokens back to look.
    pub window: usize,
    /// Tokens that end a passage (line breaks, quotes): nothing is compared across them.
    pub breakers: Vec<u32>,
}

impl Default for Dry {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            window: usize::MAX,
            breakers: Vec::new(),
        }
    }
}

/// A longer repetition is punished no harder: 1.75^50 is 10^12 already, and no logit survives that.
const LONGEST_REPEAT: usize = 50;

impl Dry {
    /// Lowers the logits of the tokens that would extend a repetition.
    pub(super) fn apply(&self, history: &[u32], exempt: &[u32], logits: &mut [f32]) {
        if self.multiplier == 0.0 {
            return;
        }
        let history = &history[history.len().saturating_sub(self.window)..];
        for (token, length) in self.repetitions(history) {
            let Some(logit) = logits.get_mut(token as usize) else {
                continue;
            };
            if length >= self.allowed_length && !exempt.contains(&token) {
                *logit -= self.multiplier * self.base.powi((length - self.allowed_length) as i32);
            }
        }
    }

    /// For each token that once followed the passage the history ends with: the length of the
    /// longest such passage.
    fn repetitions(&self, history: &[u32]) -> HashMap<u32, usize> {
        let mut longest: HashMap<u32, usize> = HashMap::new();
        let is_breaker = |token: &u32| self.breakers.contains(token);
        // The passage at the end stops at the newest breaker.
        let tail: Vec<u32> = history
            .iter()
            .rev()
            .take(LONGEST_REPEAT)
            .take_while(|token| !is_breaker(token))
            .copied()
            .collect();
        for next in 1..history.len() {
            let earlier = history[..next].iter().rev();
            let length = earlier.zip(&tail).take_while(|(a, b)| a == b).count();
            if length > 0 {
                let known = longest.entry(history[next]).or_default();
                *known = length.max(*known);
            }
        }
        longest
    }
}

/// Adds to the logits of named tokens; minus infinity forbids one.
pub(super) fn add_bias(bias: &[(u32, f32)], logits: &mut [f32]) {
    for &(token, amount) in bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_lowers_what_was_seen_in_the_window() {
        let penalty = Repetition {
            repeat: 2.0,
            presence: 0.5,
            frequency: 0.25,
            window: 4,
        };
        // Token 5 lies outside the window, token 9 outside the vocabulary, token 3 is exempt.
        let mut logits = [4.0, -4.0, 1.0, 1.0, 1.0, 1.0];
        penalty.apply(&[5, 3, 0, 0, 1, 9][..5], &[3], &mut logits);
        assert_eq!(
            logits,
            [2.0 - 0.5 - 0.5, -8.0 - 0.5 - 0.25, 1.0, 1.0, 1.0, 1.0]
        );
        penalty.apply(&[9, 9], &[], &mut logits);
    }

    #[test]
    fn dry_grows_with_the_repeated_passage() {
        let dry = Dry {
            multiplier: 1.0,
            base: 2.0,
            allowed_length: 2,
            ..Dry::default()
        };
        // "1 2 3 4 … 1 2 3": token 4 would make the repetition of three one longer.
        let mut logits = [0.0; 10];
        dry.apply(&[1, 2, 3, 4, 9, 1, 2, 3], &[], &mut logits);
        assert_eq!(logits[4], -2.0);
        assert_eq!(logits.iter().sum::<f32>(), -2.0);
        // A repetition of one token is free.
        let mut logits = [0.0; 10];
        dry.apply(&[3, 4, 9, 3], &[], &mut logits);
        assert_eq!(logits, [0.0; 10]);
    }

    #[test]
    fn dry_does_not_look_across_breakers() {
        let dry = Dry {
            multiplier: 1.0,
            base: 2.0,
            allowed_length: 2,
            breakers: vec![2],
            ..Dry::default()
        };
        let mut logits = [0.0; 10];
        dry.apply(&[1, 2, 3, 4, 9, 1, 2, 3], &[], &mut logits);
        assert_eq!(logits, [0.0; 10]);
    }

    #[test]
    fn a_loop_is_punished_without_overflow() {
        let dry = Dry {
            multiplier: 0.8,
            ..Dry::default()
        };
        let mut logits = [0.0; 4];
        dry.apply(&[1; 100_000], &[], &mut logits);
        assert!(logits[1] < -1e9 && logits[1].is_finite());
    }

    #[test]
    fn bias_is_added_and_forbids() {
        let mut logits = [1.0, 1.0, 1.0];
        add_bias(&[(0, 2.5), (2, f32::NEG_INFINITY), (7, 1.0)], &mut logits);
        assert_eq!(logits, [3.5, 1.0, f32::NEG_INFINITY]);
    }
}
