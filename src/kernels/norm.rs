//! Root-mean-square normalization, in f32.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Kernels;
use super::isa::{Isa, Task};
use crate::threads::Pool;
use crate::work::Parts;

/// Below this many numbers, waking the other workers takes longer than the work.
const FEW: usize = 1 << 15;

impl Kernels {
    /// `out = x / root(mean(x * x) + epsilon) * weight` for every row of `x`.
    /// Says whether all rows were finite numbers, which costs nothing to know here.
    #[must_use]
    pub fn rmsnorm(
        &self,
        pool: &Pool,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        out: &mut [f32],
    ) -> bool {
        assert!(x.len() == out.len() && x.len().is_multiple_of(weight.len()));
        let dim = weight.len();
        if x.len() < FEW {
            return self.call(Rows {
                x,
                weight,
                epsilon,
                out,
            });
        }
        let finite = AtomicBool::new(true);
        let out = Parts::new(out);
        pool.run(|worker| {
            let range = pool.share(worker, x.len(), dim);
            // SAFETY: shares do not overlap.
            let out = unsafe { out.range(range.clone()) };
            let mine = self.call(Rows {
                x: &x[range],
                weight,
                epsilon,
                out,
            });
            if !mine {
                finite.store(false, Ordering::Relaxed);
            }
        });
        finite.into_inner()
    }
}

struct Rows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Task for Rows<'_> {
    type Out = bool;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let dim = self.weight.len();
        let mut finite = true;
        for (x, out) in self.x.chunks_exact(dim).zip(self.out.chunks_exact_mut(dim)) {
            let mean = sum_of_squares(isa, x) / dim as f32;
            finite &= mean.is_finite();
            let factor = 1.0 / (mean + self.epsilon).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(self.weight) {
                *out = x * factor * weight;
            }
        }
        finite
    }
}

/// In four independent vectors, so that additions do not wait for each other.
#[inline(always)]
fn sum_of_squares<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let mut sums = [isa.splat(0.0); 4];
    let blocks = x.chunks_exact(4 * I::LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block.chunks_exact(I::LANES)) {
            // SAFETY: `x` is one vector long.
            let x = unsafe { isa.load(x.as_ptr()) };
            *sum = isa.fma(x, x, *sum);
        }
    }
    let [a, b, c, d] = sums;
    let total = isa.sum(isa.add(isa.add(a, b), isa.add(c, d)));
    total + rest.iter().map(|x| x * x).sum::<f32>()
}
