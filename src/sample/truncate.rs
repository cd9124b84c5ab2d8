//! Cutting the tail of the distribution: top-k, typical, top-p and min-p, in that order.
//!
//! None of them sorts the vocabulary. Each needs only the tokens above some logit, and the chunk
//! maxima of the [`Summary`] say which chunks can hold one; the few that remain are sorted.
//! "Typical" is the exception: any token may be typical, so it looks at all of them.

use super::Settings;
use super::vocabulary::{CHUNK, Summary};
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
fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// The tokens that survive every truncation in `settings`, likeliest first, at least one.
/// `summary` was read from these logits at temperature 1.
pub(super) fn survivors(
    logits: &[f32],
    summary: &Summary,
    settings: &Settings,
    kept: &mut Vec<Candidate>,
) {
    kept.clear();
    let mut total = summary.total;
    if settings.top_k > 0 {
        top_k(logits, summary, settings.top_k as usize, kept);
        total = mass(kept);
    } else if settings.typical_p < 1.0 {
        gather(logits, summary, f32::MIN, kept);
    } else if settings.top_p < 1.0 {
        head(logits, summary, f64::from(settings.top_p), kept);
    } else {
        // One part in a thousand of slack: min_p below decides on the probability itself.
        let margin = settings.min_p.max(f32::MIN_POSITIVE).ln() - 1e-3;
        gather(logits, summary, summary.maximum + margin, kept);
    }
    if settings.typical_p < 1.0 {
        typical(kept, f64::from(settings.typical_p));
        total = mass(kept);
    }
    kept.sort_unstable_by(likelier);
    if settings.top_p < 1.0 {
        top_p(kept, f64::from(settings.top_p) * total);
    }
    if settings.min_p > 0.0 {
        let enough = kept.partition_point(|candidate| candidate.probability >= settings.min_p);
        kept.truncate(enough.max(1));
    }
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| f64::from(c.probability)).sum()
}

/// Appends every token whose logit is at least `threshold`.
fn gather(logits: &[f32], summary: &Summary, threshold: f32, into: &mut Vec<Candidate>) {
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
    }
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
    gather(logits, summary, threshold, kept);
    if k < kept.len() {
        kept.select_nth_unstable_by(k, likelier);
        kept.truncate(k);
    }
}

/// At least the likeliest tokens that together hold the fraction `p`, in no particular order.
fn head(logits: &[f32], summary: &Summary, p: f64, kept: &mut Vec<Candidate>) {
    // Four nats below the maximum is 1/55 of its probability; a peaked distribution is done after
    // one try or two, a flat one after a few.
    let mut depth = 4.0;
    loop {
        kept.clear();
        gather(logits, summary, summary.maximum - depth, kept);
        if depth > 87.0 || mass(kept) >= p * summary.total {
            return;
        }
        depth += 4.0;
    }
}

/// Keeps the shortest prefix of the sorted candidates that holds `wanted`.
fn top_p(kept: &mut Vec<Candidate>, wanted: f64) {
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
/// up to the fraction `p`.
fn typical(kept: &mut Vec<Candidate>, p: f64) {
    let total = mass(kept);
    let surprise = |candidate: &Candidate| -(f64::from(candidate.probability) / total).ln();
    let entropy: f64 = kept
        .iter()
        .filter(|candidate| candidate.probability > 0.0)
        .map(|candidate| f64::from(candidate.probability) / total * surprise(candidate))
        .sum();
    kept.sort_by(|a, b| {
        let distance = |candidate| (surprise(candidate) - entropy).abs();
        distance(a)
            .total_cmp(&distance(b))
            .then_with(|| likelier(a, b))
    });
    top_p(kept, p * total);
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
        gather(logits, &summary, f32::MIN, &mut all);
        all.sort_unstable_by(likelier);
        all
    }

    fn survive(logits: &[f32], settings: Settings) -> Vec<Candidate> {
        let mut summary = Summary::default();
        assert!(summary.read(logits, 1.0));
        let mut kept = Vec::new();
        survivors(logits, &summary, &settings, &mut kept);
        kept
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
