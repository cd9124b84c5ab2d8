//! Cutting the tail of the distribution: top-k, typical, top-p and min-p, in that order.
//!
//! None of them sorts the vocabulary. Each needs only the tokens above some logit, and the chunk
//! maxima of the [`Summary`] say which chunks can hold one; the few that remain are sorted. Where
//! they are not few, and for "typical", which any token may be, [`Groups`] does the same by value.

use super::Settings;
use super::groups::Groups;
use super::vocabulary::{CHUNK, Summary, exp_negative};
use std::cmp::Ordering;

/// A token that is still in the running.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub token: u32,
    pub logit: f32,
    /// Not normalized: 1 for the most likely token.
    pub probability: f32,
}

/// Likelier first; equal logits in id order, so that results do not depend on how we got here.
pub(super) fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// As many are sorted in a tenth of a millisecond.
const MOST_SORTED: usize = 4096;

/// The token at the fraction `unit` of the distribution that survives the truncations in
/// `settings`. `summary` was read from these logits at temperature 1.
pub(super) fn choose(
    logits: &[f32],
    summary: &Summary,
    settings: &Settings,
    kept: &mut Vec<Candidate>,
    unit: f64,
) -> u32 {
    match survivors(logits, summary, settings, kept) {
        true => draw(kept, settings.temperature, unit),
        false => Groups::surviving(logits, summary, settings).draw(settings.temperature, unit),
    }
}

/// The candidate at the fraction `unit` of the cumulative distribution at this temperature.
fn draw(kept: &[Candidate], temperature: f32, unit: f64) -> u32 {
    let likeliest = kept[0];
    let weight = |candidate: &Candidate| {
        f64::from(exp_negative(
            (candidate.logit - likeliest.logit) / temperature,
        ))
    };
    let target = unit * kept.iter().map(weight).sum::<f64>();
    let mut running = 0.0;
    let chosen = kept.iter().find(|candidate| {
        running += weight(candidate);
        running > target
    });
    chosen.unwrap_or(&likeliest).token
}

/// The tokens that survive every truncation, likeliest first, at least one. False if they are too
/// many to be sorted; `kept` means nothing then.
fn survivors(
    logits: &[f32],
    summary: &Summary,
    settings: &Settings,
    kept: &mut Vec<Candidate>,
) -> bool {
    kept.clear();
    let mut total = summary.total;
    let found = if settings.top_k > 0 {
        top_k(logits, summary, settings.top_k as usize, kept);
        total = mass(kept);
        true
    } else if settings.typical_p < 1.0 {
        false
    } else if settings.top_p < 1.0 {
        head(logits, summary, f64::from(settings.top_p), kept)
    } else {
        // One part in a thousand of slack: min_p below decides on the probability itself.
        let margin = settings.min_p.max(f32::MIN_POSITIVE).ln() - 1e-3;
        gather(logits, summary, summary.maximum + margin, MOST_SORTED, kept)
    };
    if !found {
        return false;
    }
    if settings.typical_p < 1.0 {
        typical(kept, summary.maximum, f64::from(settings.typical_p));
        total = mass(kept);
    }
    kept.sort_unstable_by(likelier);
    if settings.top_p < 1.0 {
        shortest(kept, f64::from(settings.top_p) * total);
    }
    if settings.min_p > 0.0 {
        let enough = kept.partition_point(|candidate| candidate.probability >= settings.min_p);
        kept.truncate(enough.max(1));
    }
    true
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| f64::from(c.probability)).sum()
}

/// Appends every token whose logit is at least `threshold`; false once these are more than `most`.
fn gather(
    logits: &[f32],
    summary: &Summary,
    threshold: f32,
    most: usize,
    into: &mut Vec<Candidate>,
) -> bool {
    for (index, chunk) in summary.chunks.iter().enumerate() {
        if chunk.maximum < threshold {
            continue;
        }
        let start = index * CHUNK;
        let end = (start + CHUNK).min(logits.len());
        for (offset, &logit) in logits[start..end].iter().enumerate() {
            if logit >= threshold {
                into.push(Candidate {
                    token: (start + offset) as u32,
                    logit,
                    probability: summary.probability(logit),
                });
            }
        }
        if into.len() > most {
            return false;
        }
    }
    true
}

/// The `k` likeliest tokens, in no particular order.
fn top_k(logits: &[f32], summary: &Summary, k: usize, kept: &mut Vec<Candidate>) {
    // The k-th largest chunk maximum is exceeded by k tokens at least, so it bounds the k-th token
    // from below: for k = 40 of 201,088 a few hundred candidates are left to select from.
    let mut maxima: Vec<f32> = summary.chunks.iter().map(|chunk| chunk.maximum).collect();
    let threshold = if k <= maxima.len() {
        let (_, kth, _) = maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        kth.max(f32::MIN)
    } else {
        f32::MIN
    };
    gather(logits, summary, threshold, usize::MAX, kept);
    if k < kept.len() {
        kept.select_nth_unstable_by(k, likelier);
        kept.truncate(k);
    }
}

/// At least the likeliest tokens that together hold the fraction `p`, in no particular order.
/// False if they are too many to be sorted.
fn head(logits: &[f32], summary: &Summary, p: f64, kept: &mut Vec<Candidate>) -> bool {
    // Four nats below the maximum is 1/55 of its probability; a peaked distribution is done after
    // one try or two, a flat one after a few.
    let mut depth = 4.0;
    loop {
        kept.clear();
        if !gather(logits, summary, summary.maximum - depth, MOST_SORTED, kept) {
            return false;
        }
        if depth > 87.0 || mass(kept) >= p * summary.total {
            return true;
        }
        depth += 4.0;
    }
}

/// Keeps the shortest beginning of the sorted candidates that holds `wanted`, one at least.
pub(super) fn shortest(kept: &mut Vec<Candidate>, wanted: f64) {
    let mut running = 0.0;
    let enough = kept.iter().position(|candidate| {
        running += f64::from(candidate.probability);
        running >= wanted
    });
    if let Some(last) = enough {
        kept.truncate(last + 1);
    }
}

/// Locally typical sampling: keeps the tokens whose surprise is closest to the expected surprise,
/// up to the fraction `p`. Surprise is counted from that of the token with the largest logit, so it
/// is how far a logit lies below the maximum.
fn typical(kept: &mut Vec<Candidate>, maximum: f32, p: f64) {
    let total = mass(kept);
    let depth = |candidate: &Candidate| maximum - candidate.logit;
    kept.retain(|candidate| candidate.probability > 0.0);
    let expected: f64 = kept
        .iter()
        .map(|candidate| f64::from(candidate.probability) * f64::from(depth(candidate)))
        .sum();
    let expected = (expected / total) as f32;
    let distance = |candidate: &Candidate| (depth(candidate) - expected).abs();
    kept.sort_unstable_by(|a, b| {
        distance(a)
            .total_cmp(&distance(b))
            .then_with(|| likelier(a, b))
    });
    shortest(kept, p * total);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Random;

    fn logits() -> Vec<f32> {
        let mut random = Random::new(21);
        (0..5000).map(|_| (random.unit() * 20.0) as f32).collect()
    }

    /// Every candidate, sorted: the slow way that the tests compare with.
    fn sorted(logits: &[f32]) -> Vec<Candidate> {
        let mut summary = Summary::default();
        assert!(summary.read(logits, 1.0));
        let mut all = Vec::new();
        gather(logits, &summary, f32::MIN, usize::MAX, &mut all);
        all.sort_unstable_by(likelier);
        all
    }

    fn survive(logits: &[f32], settings: Settings) -> Vec<Candidate> {
        let mut summary = Summary::default();
        assert!(summary.read(logits, 1.0));
        let mut kept = Vec::new();
        match survivors(logits, &summary, &settings, &mut kept) {
            true => kept,
            false => Groups::surviving(logits, &summary, &settings).candidates(),
        }
    }

    /// The same by sorting everything.
    fn survive_slowly(logits: &[f32], settings: &Settings) -> Vec<Candidate> {
        let mut kept = sorted(logits);
        if settings.typical_p < 1.0 {
            let maximum = kept[0].logit;
            typical(&mut kept, maximum, f64::from(settings.typical_p));
            kept.sort_unstable_by(likelier);
        }
        let total = mass(&kept);
        shortest(&mut kept, f64::from(settings.top_p) * total);
        let enough = kept.partition_point(|it| it.probability >= settings.min_p);
        kept.truncate(enough.max(1));
        kept
    }

    /// Of these shapes: flat, bell, all equal, few values, mostly forbidden, peaked.
    fn shapes(length: usize) -> Vec<Vec<f32>> {
        let mut random = Random::new(4);
        let mut logits = |shape: &mut dyn FnMut(f32) -> f32| -> Vec<f32> {
            (0..length).map(|_| shape(random.unit() as f32)).collect()
        };
        let mut round = 0;
        vec![
            logits(&mut |unit| unit * 9.0),
            logits(&mut |unit| (unit / (1.0 - unit)).ln() * 3.0),
            logits(&mut |_| 1.25),
            logits(&mut |unit| (unit * 7.0).floor()),
            logits(&mut |unit| match unit < 0.9 {
                true => f32::NEG_INFINITY,
                false => unit * 50.0,
            }),
            logits(&mut |unit| {
                round += 1;
                if round % 5000 == 7 {
                    30.0
                } else {
                    unit * 40.0 - 20.0
                }
            }),
        ]
    }

    #[test]
    fn groups_give_what_sorting_gives() {
        for (shape, logits) in shapes(30_011).into_iter().enumerate() {
            for (typical_p, top_p, min_p) in [
                (1.0, 0.95, 0.0),
                (1.0, 0.5, 0.0),
                (1.0, 1.0, 1e-4),
                (1.0, 0.99, 0.01),
                (0.9, 1.0, 0.0),
                (0.2, 1.0, 0.0),
                (0.95, 0.9, 0.02),
            ] {
                let settings = Settings {
                    typical_p,
                    top_p,
                    min_p,
                    ..Settings::default()
                };
                let mut summary = Summary::default();
                assert!(summary.read(&logits, 1.0));
                let wanted = survive_slowly(&logits, &settings);
                let case = format!("shape {shape}, {settings:?}");
                let groups = || Groups::surviving(&logits, &summary, &settings);
                assert!(groups().candidates() == wanted, "{case}");
                for temperature in [1.0, 0.3, 1.7] {
                    for step in 0..4 {
                        let unit = (f64::from(step) + 0.31) / 4.0;
                        let found = groups().draw(temperature, unit);
                        assert_eq!(found, draw(&wanted, temperature, unit), "{case}, {unit}");
                    }
                }
            }
        }
    }

    #[test]
    fn top_k_is_the_head_of_the_sorted_vocabulary() {
        let logits = logits();
        let all = sorted(&logits);
        for k in [1, 2, 19, 20, 21, 300, 4999, 5000, 9000] {
            let settings = Settings {
                top_k: k,
                ..Settings::default()
            };
            let wanted = &all[..(k as usize).min(5000)];
            assert_eq!(survive(&logits, settings), wanted, "k = {k}");
        }
    }

    #[test]
    fn top_k_breaks_ties_by_id() {
        let settings = Settings {
            top_k: 3,
            ..Settings::default()
        };
        let kept = survive(&[1.0; 2000], settings);
        let tokens: Vec<u32> = kept.iter().map(|candidate| candidate.token).collect();
        assert_eq!(tokens, [0, 1, 2]);
    }

    #[test]
    fn top_p_is_the_shortest_head_with_that_mass() {
        // Steep (few candidates), gentle and flat distributions take different numbers of tries.
        for scale in [1.0, 0.1, 0.0] {
            let logits: Vec<f32> = logits().iter().map(|logit| logit * scale).collect();
            let all = sorted(&logits);
            for p in [0.0f32, 0.1, 0.5, 0.9, 0.999] {
                let kept = survive(
                    &logits,
                    Settings {
                        top_p: p,
                        ..Settings::default()
                    },
                );
                assert_eq!(kept, all[..kept.len()], "p = {p}");
                let share = mass(&kept) / mass(&all);
                assert!(share > f64::from(p) - 1e-6, "p = {p}, kept {share}");
                let without_last = mass(&kept[..kept.len() - 1]) / mass(&all);
                assert!(without_last <= f64::from(p) + 1e-6, "p = {p}");
            }
        }
    }

    #[test]
    fn min_p_compares_with_the_likeliest() {
        let logits = logits();
        for min_p in [1e-6, 0.05, 0.5, 1.0] {
            let kept = survive(
                &logits,
                Settings {
                    min_p,
                    ..Settings::default()
                },
            );
            let all = sorted(&logits);
            let wanted: Vec<_> = all
                .into_iter()
                .filter(|candidate| candidate.probability >= min_p)
                .collect();
            assert_eq!(kept, wanted, "min_p = {min_p}");
        }
    }

    #[test]
    fn typical_drops_the_token_that_says_too_little() {
        // One token of probability 0.4 (surprise 0.92) and 60 of 0.01 (surprise 4.6); the entropy
        // is 3.13 nats, so the small ones are nearer to it and fill the first half.
        let mut logits = vec![0.01f32.ln(); 61];
        logits[30] = 0.4f32.ln();
        let kept = survive(
            &logits,
            Settings {
                typical_p: 0.495,
                ..Settings::default()
            },
        );
        assert_eq!(kept.len(), 50);
        assert!(kept.iter().all(|candidate| candidate.token != 30));
    }

    #[test]
    fn forbidden_tokens_never_survive() {
        let mut logits = vec![f32::NEG_INFINITY; 1000];
        logits[3] = 0.0;
        logits[900] = -1.0;
        for settings in [
            Settings {
                top_k: 50,
                ..Settings::default()
            },
            Settings {
                top_p: 0.9999,
                ..Settings::default()
            },
            Settings {
                typical_p: 0.9999,
                ..Settings::default()
            },
        ] {
            let tokens: Vec<u32> = survive(&logits, settings).iter().map(|c| c.token).collect();
            assert_eq!(tokens, [3, 900]);
        }
    }
}
