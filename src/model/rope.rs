//! Rotary positions with YaRN: which angle each pair of a head turns by at each position.
//!
//! Pairs are half a head apart: element `i` turns with element `i + dimensions / 2`.
//!
//! Frequencies and angles are rounded to f32 in the same places as in the reference. That is no more exact, but it is
//! what the model was trained and is judged with: beyond position 4096 the difference to angles in f64 shows in the
//! fourth digit of logits, and with these roundings `--exact` equals transformers in the fifth.

use std::f64::consts::TAU;

use super::config::{RopeConfig, Scaling, Yarn};

/// The frequencies of a model.
#[derive(Clone, Debug)]
pub struct Rope {
    full: Vec<f32>,
    windowed: Vec<f32>,
    /// Multiplies cosine and sine, and so attention scores by its square.
    magnitude: f64,
}

/// Cosines and sines for the tokens of a batch: what the layers multiply by.
#[derive(Default)]
pub struct Turns {
    /// Pairs that are turned; the rest of a head stays as it is.
    pub pairs: usize,
    full: Vec<(f32, f32)>,
    /// Empty if windowed layers use the same frequencies.
    windowed: Vec<(f32, f32)>,
}

impl Rope {
    /// Computes the frequencies.
    pub fn new(config: &RopeConfig) -> Self {
        let frequencies = |base: f64| -> Vec<f32> {
            (0..config.dimensions / 2)
                .map(|pair| frequency(config, base, pair))
                .collect()
        };
        let magnitude = match &config.scaling {
            Scaling::Yarn(yarn) if yarn.factor > 1.0 => {
                yarn.attention_factor * (0.1 * yarn.factor.ln() + 1.0)
            }
            Scaling::Yarn(yarn) => yarn.attention_factor,
            Scaling::None | Scaling::Linear(_) => 1.0,
        };
        Self {
            full: frequencies(config.base),
            windowed: frequencies(config.window_base),
            magnitude,
        }
    }

    /// The angle that each pair turns by per position.
    pub fn frequencies(&self, windowed: bool) -> &[f32] {
        if windowed { &self.windowed } else { &self.full }
    }

    /// What multiplies cosine and sine.
    pub fn magnitude(&self) -> f64 {
        self.magnitude
    }

    /// Fills `turns` for tokens at these positions; every layer of a forward pass uses them.
    pub fn turn(&self, positions: impl Iterator<Item = usize> + Clone, turns: &mut Turns) {
        let fill = |frequencies: &[f32], out: &mut Vec<(f32, f32)>| {
            out.clear();
            for position in positions.clone() {
                out.extend(frequencies.iter().map(|frequency| {
                    let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                    ((cos * self.magnitude) as f32, (sin * self.magnitude) as f32)
                }));
            }
        };
        turns.pairs = self.full.len();
        fill(&self.full, &mut turns.full);
        turns.windowed.clear();
        if self.windowed != self.full {
            fill(&self.windowed, &mut turns.windowed);
        }
    }
}

impl Turns {
    /// Cosine and sine of each pair for one token of the batch.
    pub fn of(&self, token: usize, windowed: bool) -> &[(f32, f32)] {
        let all = if windowed && !self.windowed.is_empty() {
            &self.windowed
        } else {
            &self.full
        };
        &all[token * self.pairs..][..self.pairs]
    }
}

/// Turns one head by the cosines and sines of its position.
pub fn turn_head(head: &mut [f32], turns: &[(f32, f32)]) {
    let (first, rest) = head.split_at_mut(turns.len());
    for ((a, b), (cos, sin)) in first.iter_mut().zip(rest).zip(turns) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Radians per position of one pair.
fn frequency(config: &RopeConfig, base: f64, pair: usize) -> f32 {
    let dimensions = config.dimensions as f32;
    let period = (base as f32).powf(2.0 * pair as f32 / dimensions);
    match &config.scaling {
        Scaling::None => 1.0 / period,
        Scaling::Linear(factor) => 1.0 / period / *factor as f32,
        Scaling::Yarn(yarn) => {
            let (low, high) = ramp_ends(yarn, base, config.dimensions as f64);
            let range = (high - low).max(0.001) as f32;
            let kept = 1.0 - ((pair as f32 - low as f32) / range).clamp(0.0, 1.0);
            let stretched = 1.0 / (yarn.factor as f32 * period);
            stretched * (1.0 - kept) + 1.0 / period * kept
        }
    }
}

/// The pairs between which YaRN passes from keeping a frequency to stretching it.
fn ramp_ends(yarn: &Yarn, base: f64, dimensions: f64) -> (f64, f64) {
    let pair_with_turns =
        |turns: f64| dimensions * (yarn.original_context / (turns * TAU)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (
        pair_with_turns(yarn.beta_fast),
        pair_with_turns(yarn.beta_slow),
    );
    if yarn.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low.max(0.0), high.min(dimensions - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpt_oss(truncate: bool) -> Rope {
        Rope::new(&RopeConfig {
            dimensions: 64,
            base: 150_000.0,
            window_base: 150_000.0,
            scaling: Scaling::Yarn(Yarn {
                factor: 32.0,
                original_context: 4096.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                attention_factor: 1.0,
                truncate,
            }),
        })
    }

    #[test]
    fn frequencies_and_turns_are_those_of_both_variants() {
        let text = include_str!("../../tests/fixtures/rope_yarn.json");
        let golden: serde_json::Value = serde_json::from_str(text).expect("the fixture is JSON");
        let number = |value: &serde_json::Value| value.as_f64().expect("a number");
        for (truncate, variant) in [
            (false, "reference_no_truncate"),
            (true, "llama_cpp_truncate"),
        ] {
            let (rope, golden) = (gpt_oss(truncate), &golden["variants"][variant]);
            for (pair, found) in rope.full.iter().enumerate() {
                let expected = number(&golden["inv_freq"][pair]);
                let error = (f64::from(*found) - expected).abs() / expected;
                assert!(
                    error < 1e-6,
                    "{variant}: frequency {pair} is {found}, not {expected}"
                );
            }
            // An f32 angle of 4096 radians is exact to 0.0002.
            for (position, bound) in [(0, 1e-6), (1, 1e-6), (127, 2e-5), (4095, 5e-4)] {
                let mut turns = Turns::default();
                rope.turn([position].into_iter(), &mut turns);
                let golden = &golden["cos_sin_scaled"][position.to_string()];
                for (pair, (cos, sin)) in turns.of(0, true).iter().enumerate() {
                    let expected = [&golden[pair][0], &golden[pair][1]].map(number);
                    for (found, expected) in [cos, sin].into_iter().zip(expected) {
                        let error = (f64::from(*found) - expected).abs();
                        assert!(
                            error < bound,
                            "{variant}: pair {pair} at {position}: {error}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_windowed_base_of_its_own_changes_only_windowed_layers() {
        let mut config = RopeConfig {
            dimensions: 4,
            base: 100.0,
            window_base: 100.0,
            scaling: Scaling::Linear(2.0),
        };
        let mut turns = Turns::default();
        Rope::new(&config).turn([6].into_iter(), &mut turns);
        let same = turns.of(0, true).to_vec();
        assert_eq!(turns.of(0, false), same);
        assert_eq!(same[0], (3f32.cos(), 3f32.sin()));
        config.window_base = 10.0;
        Rope::new(&config).turn([6].into_iter(), &mut turns);
        assert_eq!(turns.of(0, false), same);
        assert_ne!(turns.of(0, true), same);
    }
}
