//! From logits to the next token.
//!
//! The order is fixed: bias, repetition penalties and DRY change single logits; top-k, typical,
//! top-p and min-p cut the tail, judged at temperature 1; the temperature reshapes what is left;
//! one random number picks. With the model's recommended settings (temperature 1, nothing cut) the
//! vocabulary is read once and nothing is sorted or copied.
//!
//! The pick depends on the logits, the seed and the number of tokens drawn so far, and on nothing
//! else: no threads, no instruction set, no clock. One random number is drawn per token, whatever
//! the settings, so a check of drafted tokens draws the very tokens that plain decoding would.

mod constraint;
mod groups;
mod penalty;
mod random;
mod stop;
mod truncate;
mod vocabulary;

pub use constraint::{Constraint, ConstraintError, Grammars, Vocabulary};
pub use penalty::{Dry, Repetition};
pub use random::Random;
pub use stop::StopStrings;

use serde::{Deserialize, Deserializer, Serialize};
use truncate::Candidate;
use vocabulary::Summary;

/// How to choose a token. The default is what OpenAI recommends for its models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// 0 always takes the likeliest token; larger values flatten the distribution.
    pub temperature: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest tokens that together hold this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this likely relative to the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Keep the tokens nearest to the expected surprise up to this probability; 1 keeps all.
    pub typical_p: f32,
    /// Penalties on tokens that occurred.
    pub repetition: Repetition,
    /// Penalty on repeated passages.
    pub dry: Dry,
    /// Added to the logits of named tokens.
    #[serde(deserialize_with = "biases")]
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens without penalties: the format's own markers, which must be free to recur. The vocabulary knows them.
    #[serde(skip)]
    pub exempt: Vec<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition: Repetition::default(),
            dry: Dry::default(),
            logit_bias: Vec::new(),
            exempt: Vec::new(),
        }
    }
}

/// JSON has no infinity: `serde_json` writes null for the bias that forbids a token.
fn biases<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<(u32, f32)>, D::Error> {
    let biases = Vec::<(u32, Option<f32>)>::deserialize(json)?.into_iter();
    Ok(biases
        .map(|(token, bias)| (token, bias.unwrap_or(f32::NEG_INFINITY)))
        .collect())
}

/// Why no token could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Setting {
        /// The option's name on the command line, without dashes.
        name: &'static str,
        /// What was given.
        value: f32,
        /// The range in words.
        expected: &'static str,
    },
    /// The model computed something that is no number.
    #[error(
        "the model's output is not finite after {tokens} tokens: the file is damaged or its numbers overflow; check it with `fourfold inspect --check`"
    )]
    NotFinite {
        /// Tokens accepted so far, prompt included.
        tokens: usize,
    },
}

impl Settings {
    /// Refuses values that no distribution can be made from.
    pub fn check(&self) -> Result<(), Error> {
        let fraction = "a number from 0 to 1";
        let positive = "a number above 0";
        let any = "a finite number";
        let rules = [
            ("temp", self.temperature, 0.0..=1e6, "0 or more"),
            ("top-p", self.top_p, 0.0..=1.0, fraction),
            ("min-p", self.min_p, 0.0..=1.0, fraction),
            ("typical", self.typical_p, 0.0..=1.0, fraction),
            (
                "repeat-penalty",
                self.repetition.repeat,
                1e-6..=1e6,
                positive,
            ),
            (
                "presence-penalty",
                self.repetition.presence,
                -1e6..=1e6,
                any,
            ),
            (
                "frequency-penalty",
                self.repetition.frequency,
                -1e6..=1e6,
                any,
            ),
            (
                "dry-multiplier",
                self.dry.multiplier,
                0.0..=1e6,
                "0 or more",
            ),
            (
                "dry-base",
                self.dry.base,
                1.0..=100.0,
                "a number from 1 to 100",
            ),
        ];
        for (name, value, range, expected) in rules {
            if !range.contains(&value) {
                return Err(Error::Setting {
                    name,
                    value,
                    expected,
                });
            }
        }
        let is_bias = |bias: &f32| !bias.is_nan() && *bias != f32::INFINITY;
        match self.logit_bias.iter().find(|(_, bias)| !is_bias(bias)) {
            Some(&(_, value)) => Err(Error::Setting {
                name: "logit-bias",
                value,
                expected: "a number, or -inf to forbid the token",
            }),
            None => Ok(()),
        }
    }

    fn truncates(&self) -> bool {
        self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0 || self.typical_p < 1.0
    }
}

/// Chooses tokens one after another.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Settings,
    random: Random,
    history: Vec<u32>,
    summary: Summary,
    kept: Vec<Candidate>,
}

impl Sampler {
    /// A sampler whose choices are fixed by `seed`.
    pub fn new(settings: Settings, seed: u64) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self {
            settings,
            random: Random::new(seed),
            history: Vec::new(),
            summary: Summary::default(),
            kept: Vec::new(),
        })
    }

    /// Tells the sampler which token came next, chosen or given: penalties look back at them.
    pub fn accept(&mut self, token: u32) {
        self.history.push(token);
    }

    /// Replaces what penalties look back at.
    pub fn set_history(&mut self, tokens: &[u32]) {
        self.history.clear();
        self.history.extend_from_slice(tokens);
    }

    /// The random state, to be stored in a session.
    pub fn random_state(&self) -> u64 {
        self.random.state()
    }

    /// Chooses a token. Changes `logits` (penalties); minus infinity there forbids a token.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, Error> {
        let settings = &self.settings;
        penalty::add_bias(&settings.logit_bias, logits);
        settings
            .repetition
            .apply(&self.history, &settings.exempt, logits);
        settings.dry.apply(&self.history, &settings.exempt, logits);
        let unit = self.random.unit();
        // What is smaller than the smallest normal number has no reciprocal.
        let greedy = !settings.temperature.is_normal();
        let read_at = if greedy || settings.truncates() {
            1.0
        } else {
            settings.temperature
        };
        if !self.summary.read(logits, read_at) {
            return Err(Error::NotFinite {
                tokens: self.history.len(),
            });
        }
        if greedy {
            return Ok(self.summary.largest(logits));
        }
        if !settings.truncates() {
            return Ok(self.summary.draw(logits, unit));
        }
        Ok(truncate::choose(
            logits,
            &self.summary,
            settings,
            &mut self.kept,
            unit,
        ))
    }
}

#[cfg(test)]
mod tests;
