//! The router, in f32: which experts a token is sent to, and with which weights.

use super::Kernels;
use super::isa::{Isa, Task};
use crate::threads::Pool;
use crate::work::{Items, Parts};

/// Experts of a work item, and tokens: four rows of weights stay in the first-level cache for all of its tokens.
const EXPERTS: usize = 4;
const TOKENS: usize = 16;

/// The router of one layer.
pub struct Router<'a> {
    /// `(experts, dim)`
    pub weight: &'a [f32],
    /// `(experts)`
    pub bias: &'a [f32],
}

impl Kernels {
    /// Computes the logits `(tokens, experts)`, then each token's `used` experts with the highest ones.
    pub fn route(
        &self,
        pool: &Pool,
        router: &Router,
        x: &[f32],
        used: usize,
        logits: &mut Vec<f32>,
        routes: &mut Vec<(usize, f32)>,
    ) {
        let experts = router.bias.len();
        let dim = router.weight.len() / experts;
        let tokens = x.len() / dim;
        assert!(router.weight.len() == experts * dim && x.len() == tokens * dim && used <= experts);
        logits.resize(tokens * experts, 0.0);
        routes.resize(tokens * used, (0, 0.0));
        let blocks = experts.div_ceil(EXPERTS);
        let items = Items::new(tokens.div_ceil(TOKENS) * blocks);
        let parts = Parts::new(logits);
        pool.run(|_| {
            while let Some(item) = items.next() {
                let first = item / blocks * TOKENS;
                let expert = item % blocks * EXPERTS;
                self.call(Logits {
                    router,
                    x,
                    tokens: first..(first + TOKENS).min(tokens),
                    experts: expert..(expert + EXPERTS).min(experts),
                    out: &parts,
                });
            }
        });
        for (logits, routes) in logits
            .chunks_exact(experts)
            .zip(routes.chunks_exact_mut(used))
        {
            choose(logits, routes);
        }
    }
}

/// Logits of some tokens for some experts.
struct Logits<'a> {
    router: &'a Router<'a>,
    x: &'a [f32],
    tokens: std::ops::Range<usize>,
    experts: std::ops::Range<usize>,
    out: &'a Parts<'a, f32>,
}

impl Task for Logits<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (tokens, experts) = (self.tokens.clone(), self.experts.clone());
        if experts.len() < EXPERTS {
            for token in tokens {
                for expert in experts.clone() {
                    self.block::<I, 1, 1>(isa, token, expert);
                }
            }
            return;
        }
        // Two tokens share each load of a weight.
        let pairs = tokens.end - tokens.len() % 2;
        for token in (tokens.start..pairs).step_by(2) {
            self.block::<I, 2, EXPERTS>(isa, token, experts.start);
        }
        for token in pairs..tokens.end {
            self.block::<I, 1, EXPERTS>(isa, token, experts.start);
        }
    }
}

impl Logits<'_> {
    /// Of `T` tokens and `N` experts, from these on.
    #[inline(always)]
    fn block<I: Isa, const T: usize, const N: usize>(&self, isa: I, token: usize, expert: usize) {
        let experts = self.router.bias.len();
        let dim = self.router.weight.len() / experts;
        let x = std::array::from_fn(|t| &self.x[(token + t) * dim..][..dim]);
        let weights = std::array::from_fn(|n| &self.router.weight[(expert + n) * dim..][..dim]);
        let products: [[f32; N]; T] = dots(isa, x, weights);
        for (token, products) in (token..).zip(products) {
            for (expert, product) in (expert..).zip(products) {
                // SAFETY: this token and expert belong to this item alone.
                let out = unsafe { self.out.element(token * experts + expert) };
                *out = product + self.router.bias[expert];
            }
        }
    }
}

/// Products of some vectors with several others, each in two independent sums.
#[inline(always)]
fn dots<I: Isa, const T: usize, const N: usize>(
    isa: I,
    x: [&[f32]; T],
    weights: [&[f32]; N],
) -> [[f32; N]; T] {
    let mut sums = [[[isa.splat(0.0); 2]; N]; T];
    let step = 2 * I::LANES;
    let len = x[0].len();
    let whole = len / step * step;
    assert!(x.iter().chain(&weights).all(|list| list.len() == len));
    for start in (0..whole).step_by(step) {
        for half in 0..2 {
            let at = start + half * I::LANES;
            // SAFETY: whole vectors below the length, which is the same for all.
            unsafe {
                let x = x.map(|x| isa.load(x.as_ptr().add(at)));
                for n in 0..N {
                    let weight = isa.load(weights[n].as_ptr().add(at));
                    for t in 0..T {
                        sums[t][n][half] = isa.fma(weight, x[t], sums[t][n][half]);
                    }
                }
            }
        }
    }
    let mut out = [[0.0; N]; T];
    for t in 0..T {
        for n in 0..N {
            let [a, b] = sums[t][n];
            let rest = x[t][whole..].iter().zip(&weights[n][whole..]);
            let rest: f32 = rest.map(|(x, weight)| x * weight).sum();
            out[t][n] = isa.sum(isa.add(a, b)) + rest;
        }
    }
    out
}

/// The experts with the highest logits, lower numbers first among equals, weighted by the softmax over those alone.
fn choose(logits: &[f32], routes: &mut [(usize, f32)]) {
    // Looking each expert up among the routes would be cubic, and a file may say that all of its thousands are used.
    let mut taken = vec![false; logits.len()];
    for route in &mut *routes {
        let mut best: Option<(usize, f32)> = None;
        for (expert, &logit) in logits.iter().enumerate() {
            if !taken[expert] && best.is_none_or(|best| logit > best.1) {
                best = Some((expert, logit));
            }
        }
        if let Some((expert, _)) = best {
            taken[expert] = true;
        }
        *route = best.unwrap_or((0, f32::NEG_INFINITY));
    }
    let highest = routes.first().map_or(0.0, |route| route.1);
    let mut sum = 0.0;
    for (_, weight) in routes.iter_mut() {
        *weight = (*weight - highest).exp();
        sum += *weight;
    }
    for (_, weight) in routes {
        *weight /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_logits_win_and_ties_go_to_the_lower_number() {
        let mut routes = [(0, 0.0); 3];
        choose(&[1.0, 3.0, 2.0, 3.0, 2.0], &mut routes);
        assert_eq!(routes.map(|route| route.0), [1, 3, 2]);
        let total = 2.0 + (-1f32).exp();
        assert_eq!(routes[0].1, 1.0 / total);
        assert_eq!(routes[2].1, (-1f32).exp() / total);
    }

    /// Cubic, this takes minutes.
    #[test]
    fn all_of_thousands_of_experts_can_be_chosen() {
        const EXPERTS: usize = 8192;
        // Each value comes several times.
        let logits: Vec<f32> = (0..EXPERTS).map(|i| (i * 37 % 1000) as f32).collect();
        let mut routes = vec![(0, 0.0); EXPERTS];
        choose(&logits, &mut routes);
        let mut expected: Vec<usize> = (0..EXPERTS).collect();
        expected.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let chosen: Vec<usize> = routes.iter().map(|route| route.0).collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn every_token_and_expert_has_its_own_logit_at_any_size() {
        let pool = Pool::new(2);
        for kernels in Kernels::available() {
            for (tokens, experts, dim) in [(1, 5, 40), (37, 9, 33), (3, 32, 96)] {
                let number = |i: usize| ((i * 37 + 11) % 17) as f32 - 8.0;
                let x: Vec<f32> = (0..tokens * dim).map(number).collect();
                let weight: Vec<f32> = (0..experts * dim).map(|i| number(i + 5)).collect();
                let bias: Vec<f32> = (0..experts).map(|i| i as f32).collect();
                let router = Router {
                    weight: &weight,
                    bias: &bias,
                };
                let (mut logits, mut routes) = (Vec::new(), Vec::new());
                kernels.route(&pool, &router, &x, 2, &mut logits, &mut routes);
                for (i, logit) in logits.iter().enumerate() {
                    let (x, weight) = (&x[i / experts * dim..], &weight[i % experts * dim..]);
                    // Small integers: exact in any order.
                    let product: f32 = x[..dim]
                        .iter()
                        .zip(&weight[..dim])
                        .map(|(a, b)| a * b)
                        .sum();
                    assert_eq!(
                        *logit,
                        product + (i % experts) as f32,
                        "{} {i}",
                        kernels.isa()
                    );
                }
                assert_eq!(routes.len(), 2 * tokens);
            }
        }
    }
}
