//! Truncation and the draw when more tokens are left than can be sorted in the time of a token.
//!
//! A flat distribution keeps 150,000 tokens at top-p 0.95, and sorting them takes 3 ms. Here tokens are put in groups by
//! logit, 1/32 nat wide, of which at first only the mass is known. Every cut, and the draw, falls into one group; only that
//! group's tokens, a few hundred, are gathered and sorted. The result is that of sorting everything.

use super::Settings;
use super::truncate::{Candidate, likelier, shortest};
use super::vocabulary::{CHUNK, Summary, Visit, each_chunk, exp_negative};

/// Groups per nat; a power of two, so that multiplying is exact.
const PER_NAT: f32 = 32.0;
/// Nats below the likeliest token at which probabilities are zero.
const DEPTH: f32 = 88.0;
/// Two more than the whole range takes, for the ends of groups that are not aligned to it.
const GROUPS: usize = 88 * 32 + 2;
/// Room for all of them; a power of two, so that an index needs no check.
const TABLE: usize = 4096;
const _: () = assert!(GROUPS <= TABLE);

/// The tokens that are still in the running, likeliest group first.
pub(super) struct Groups<'a> {
    logits: &'a [f32],
    summary: &'a Summary,
    scale: Scale,
    kept: Vec<Group>,
}

/// Some tokens of similar logit.
struct Group {
    index: usize,
    /// Sum of the probabilities, where the likeliest token's is 1.
    mass: f64,
    /// Its tokens, likeliest first, once a cut went through it.
    listed: Option<Vec<Candidate>>,
}

/// How a logit becomes the number of its group.
#[derive(Clone, Copy)]
struct Scale {
    /// The largest logit.
    maximum: f32,
    /// A border between groups lies this far below it.
    center: f32,
    /// The number of the group that begins at that border.
    first: i32,
}

impl Scale {
    fn new(maximum: f32, center: f32) -> Self {
        let first = (center * PER_NAT).ceil() as i32;
        Scale {
            maximum,
            center,
            first,
        }
    }

    /// How far a logit lies below the border, in nats.
    #[inline(always)]
    fn below_center(&self, logit: f32) -> f32 {
        (self.maximum - logit).min(DEPTH) - self.center
    }

    #[inline(always)]
    fn group(&self, logit: f32) -> i32 {
        // A whole number added to 1.5 * 2^23 stands in the low bits of the sum. A cast with its checks for what is no number
        // keeps loops over this from becoming vector code.
        const WHOLE: f32 = 12_582_912.0;
        let whole = (self.below_center(logit) * PER_NAT).floor() + WHOLE;
        let group = whole.to_bits() as i32 - WHOLE.to_bits() as i32 + self.first;
        group.clamp(0, GROUPS as i32 - 1)
    }
}

impl<'a> Groups<'a> {
    /// What survives the typical, top-p and min-p settings. `summary` was read from these logits at temperature 1.
    pub fn surviving(logits: &'a [f32], summary: &'a Summary, settings: &Settings) -> Self {
        let is_typical = settings.typical_p < 1.0;
        // The expected surprise, counted from the likeliest token's, is the expected depth.
        let center = match is_typical {
            true => (expected_depth(logits, summary.maximum) / summary.total) as f32,
            false => 0.0,
        };
        let scale = Scale::new(summary.maximum, center);
        let masses = masses(logits, scale, summary.maximum, 1.0);
        let masses = masses.into_iter().enumerate();
        let mut groups = Groups {
            logits,
            summary,
            scale,
            kept: masses
                .filter(|&(_, mass)| mass > 0.0)
                .map(|(index, mass)| Group {
                    index,
                    mass,
                    listed: None,
                })
                .collect(),
        };
        let mut total = summary.total;
        if is_typical {
            groups.typical(f64::from(settings.typical_p) * total);
            total = groups.kept.iter().map(|group| group.mass).sum();
        }
        if settings.top_p < 1.0 {
            groups.top_p(f64::from(settings.top_p) * total);
        }
        if settings.min_p > 0.0 {
            groups.min_p(settings.min_p);
        }
        groups
    }

    /// The tokens of a group, likeliest first.
    fn tokens(&self, index: usize) -> Vec<Candidate> {
        let mut found = Vec::new();
        gather(self.logits, self.scale, index as i32, &mut |token| {
            // The last chunk was filled up.
            let Some(&logit) = self.logits.get(token) else {
                return;
            };
            let probability = self.summary.probability(logit);
            if probability > 0.0 {
                found.push(Candidate {
                    token: token as u32,
                    logit,
                    probability,
                });
            }
        });
        found.sort_unstable_by(likelier);
        found
    }

    /// Makes sure that a kept group's tokens are listed, and gives them.
    fn listed(&mut self, at: usize) -> &mut Vec<Candidate> {
        let tokens = match self.kept[at].listed.take() {
            Some(tokens) => tokens,
            None => self.tokens(self.kept[at].index),
        };
        self.kept[at].listed.insert(tokens)
    }

    /// Keeps the tokens nearest to the border at the center that together hold `wanted`.
    fn typical(&mut self, wanted: f64) {
        let first = self.scale.first;
        // Groups n above and n below the border are equally far from it.
        let steps = |group: &Group| match group.index as i32 - first {
            below @ 0.. => below,
            above => -1 - above,
        };
        let mut by_step = vec![0.0; GROUPS * 2];
        for group in &self.kept {
            by_step[steps(group) as usize] += group.mass;
        }
        let mut running = 0.0;
        let last = by_step.iter().position(|mass| {
            running += mass;
            running >= wanted
        });
        let Some(last) = last else { return };
        running -= by_step[last];
        self.kept.retain(|group| steps(group) as usize <= last);
        let at_edge = |group: &Group| steps(group) as usize == last;
        let edges: Vec<usize> = (0..self.kept.len())
            .filter(|&at| at_edge(&self.kept[at]))
            .collect();
        let mut tokens = Vec::new();
        for &at in &edges {
            tokens.append(self.listed(at));
        }
        let distance = |it: &Candidate| self.scale.below_center(it.logit).abs();
        tokens.sort_unstable_by(|a, b| {
            let nearer = distance(a).total_cmp(&distance(b));
            nearer.then_with(|| likelier(a, b))
        });
        shortest(&mut tokens, wanted - running);
        for at in edges {
            let group = self.kept[at].index as i32;
            let scale = self.scale;
            let mut own: Vec<Candidate> = tokens
                .iter()
                .filter(|it| scale.group(it.logit) == group)
                .copied()
                .collect();
            own.sort_unstable_by(likelier);
            self.set_listed(at, own);
        }
        self.kept.retain(|group| group.mass > 0.0);
    }

    fn set_listed(&mut self, at: usize, tokens: Vec<Candidate>) {
        self.kept[at].mass = tokens.iter().map(|it| f64::from(it.probability)).sum();
        self.kept[at].listed = Some(tokens);
    }

    /// Keeps the likeliest tokens that together hold `wanted`.
    fn top_p(&mut self, wanted: f64) {
        let mut running = 0.0;
        let last = self.kept.iter().position(|group| {
            running += group.mass;
            running >= wanted
        });
        let Some(last) = last else { return };
        self.kept.truncate(last + 1);
        let before = running - self.kept[last].mass;
        let mut tokens = std::mem::take(self.listed(last));
        shortest(&mut tokens, wanted - before);
        self.set_listed(last, tokens);
    }

    /// Keeps tokens of at least this probability, where the likeliest token's is 1; one at least.
    fn min_p(&mut self, least: f32) {
        while let Some(last) = self.kept.len().checked_sub(1) {
            let mut tokens = std::mem::take(self.listed(last));
            let enough = tokens.partition_point(|it| it.probability >= least);
            let is_first = last == 0;
            tokens.truncate(enough.max(usize::from(is_first)));
            if tokens.is_empty() {
                self.kept.truncate(last);
                continue;
            }
            self.set_listed(last, tokens);
            return;
        }
    }

    /// The token at the fraction `unit` of the cumulative distribution at this temperature, likeliest first.
    pub fn draw(mut self, temperature: f32, unit: f64) -> u32 {
        // What weights are relative to must be likely itself, or they are all zero at a low temperature.
        let maximum = self.scale.maximum;
        let reference = match self.kept[0].index as i32 == self.scale.group(maximum) {
            true => maximum,
            false => self.listed(0)[0].logit,
        };
        let weight = |it: &Candidate| f64::from(exp_negative((it.logit - reference) / temperature));
        if temperature != 1.0 {
            let masses = masses(self.logits, self.scale, reference, 1.0 / temperature);
            for group in &mut self.kept {
                group.mass = match &group.listed {
                    Some(tokens) => tokens.iter().map(weight).sum(),
                    None => masses[group.index],
                };
            }
        }
        let total: f64 = self.kept.iter().map(|group| group.mass).sum();
        let mut target = unit * total;
        let mut at = 0;
        while at + 1 < self.kept.len() && self.kept[at].mass <= target {
            target -= self.kept[at].mass;
            at += 1;
        }
        // The group's mass counts from the likeliest of all if the temperature is 1.
        let unit = target / self.kept[at].mass;
        let tokens = self.listed(at);
        let target = unit * tokens.iter().map(weight).sum::<f64>();
        let mut running = 0.0;
        let chosen = tokens.iter().find(|it| {
            running += weight(it);
            running > target
        });
        chosen.or(tokens.last()).map_or(0, |it| it.token)
    }

    /// Everything that is kept, likeliest first.
    #[cfg(test)]
    pub fn candidates(mut self) -> Vec<Candidate> {
        let groups = 0..self.kept.len();
        groups
            .flat_map(|at| std::mem::take(self.listed(at)))
            .collect()
    }
}

/// Sum of the depths below `maximum`, weighted by probability.
fn expected_depth(logits: &[f32], maximum: f32) -> f64 {
    let mut sum = 0.0;
    each_chunk(
        logits,
        &mut Depth {
            maximum,
            sum: &mut sum,
        },
    );
    sum
}

/// Sum of `exp((logit - reference) * inverse_temperature)` over each group.
fn masses(
    logits: &[f32],
    scale: Scale,
    reference: f32,
    inverse_temperature: f32,
) -> Box<[f64; TABLE]> {
    let mut masses = Box::new([0.0; TABLE]);
    each_chunk(
        logits,
        &mut Masses {
            scale,
            reference,
            inverse_temperature,
            masses: &mut masses,
        },
    );
    masses
}

/// Calls `found` with every token of a group.
fn gather(logits: &[f32], scale: Scale, group: i32, found: &mut dyn FnMut(usize)) {
    let mut start = 0;
    each_chunk(
        logits,
        &mut Gather {
            scale,
            group,
            start: &mut start,
            found,
        },
    );
}

struct Depth<'s> {
    maximum: f32,
    sum: &'s mut f64,
}

impl Visit for Depth<'_> {
    #[inline(always)]
    fn visit(&mut self, logits: &[f32; CHUNK]) {
        let mut sums = [0.0f32; 16];
        for group in logits.as_chunks::<16>().0 {
            for (sum, logit) in sums.iter_mut().zip(group) {
                let depth = (self.maximum - logit).min(DEPTH);
                *sum += depth * exp_negative(-depth);
            }
        }
        *self.sum += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
}

struct Masses<'s> {
    scale: Scale,
    reference: f32,
    inverse_temperature: f32,
    masses: &'s mut [f64; TABLE],
}

impl Visit for Masses<'_> {
    #[inline(always)]
    fn visit(&mut self, logits: &[f32; CHUNK]) {
        // Loops of their own, over values of one width, become code of the widest vectors.
        let mut weights = [0.0f32; CHUNK];
        for (weight, &logit) in weights.iter_mut().zip(logits) {
            // Tokens likelier than the reference are in no kept group: their weight only has to be a number.
            let below = (logit - self.reference).min(0.0);
            *weight = exp_negative(below * self.inverse_temperature);
        }
        let mut groups = [0i32; CHUNK];
        for (group, &logit) in groups.iter_mut().zip(logits) {
            *group = self.scale.group(logit);
        }
        for (weight, group) in weights.into_iter().zip(groups) {
            self.masses[group as usize % TABLE] += f64::from(weight);
        }
    }
}

struct Gather<'s> {
    scale: Scale,
    group: i32,
    start: &'s mut usize,
    found: &'s mut dyn FnMut(usize),
}

impl Visit for Gather<'_> {
    #[inline(always)]
    fn visit(&mut self, logits: &[f32; CHUNK]) {
        let mut groups = [0i32; CHUNK];
        for (group, &logit) in groups.iter_mut().zip(logits) {
            *group = self.scale.group(logit);
        }
        for (part, groups) in groups.as_chunks::<16>().0.iter().enumerate() {
            // Nearly always none: one comparison of vectors.
            let matches = groups
                .iter()
                .fold(false, |any, &it| any | (it == self.group));
            if matches {
                for (lane, &group) in groups.iter().enumerate() {
                    if group == self.group {
                        (self.found)(*self.start + part * 16 + lane);
                    }
                }
            }
        }
        *self.start += CHUNK;
    }
}
