//! What this machine can do at most, measured: reading memory in order, and multiplying bytes without doing anything else.

use super::Kernels;
use super::isa::{Isa, Task};
use super::weight::STEP;
use crate::threads::Pool;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

/// Reads `bytes` once, each worker a contiguous part, and returns GB/s. What is not in memory yet is read from the disk.
pub fn read(kernels: &Kernels, pool: &Pool, bytes: &[u8]) -> f64 {
    let start = Instant::now();
    let kept = AtomicI32::new(0);
    pool.run(|worker| {
        let share = pool.share(worker, bytes.len(), 4096);
        kept.fetch_add(kernels.call(Read(&bytes[share])), Ordering::Relaxed);
    });
    std::hint::black_box(kept.into_inner());
    bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e9
}

struct Read<'a>(&'a [u8]);
impl Task for Read<'_> {
    type Out = i32;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> i32 {
        let mut sums = [isa.splat_int(0); 4];
        for run in self.0.chunks_exact(16 * I::LANES) {
            for (index, sum) in sums.iter_mut().enumerate() {
                // SAFETY: four vectors make up the run.
                let vector = unsafe { isa.load_ints(run.as_ptr().add(index * 4 * I::LANES)) };
                *sum = isa.add_ints(*sum, vector);
            }
        }
        isa.sum_ints(isa.add_ints(
            isa.add_ints(sums[0], sums[1]),
            isa.add_ints(sums[2], sums[3]),
        ))
    }
}

/// Multiplies bytes that stay in the first-level cache for about `seconds` on all workers, and returns GMAC/s: billions of products, each added up.
///
/// Of two shapes the faster one counts: with 16 registers the larger may not fit, and the smaller may wait for its sums.
pub fn multiply(kernels: &Kernels, pool: &Pool, seconds: f64) -> f64 {
    let speed = |large| {
        let start = Instant::now();
        let products: std::sync::atomic::AtomicU64 = 0.into();
        pool.run(|_| {
            let mut mine = 0;
            while start.elapsed().as_secs_f64() < seconds / 2.0 {
                let rounds = 2000;
                mine += kernels.call(Multiply { rounds, large });
            }
            products.fetch_add(mine, Ordering::Relaxed);
        });
        products.into_inner() as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    f64::max(speed(false), speed(true))
}

struct Multiply {
    rounds: u64,
    large: bool,
}
impl Task for Multiply {
    type Out = u64;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        if self.large && I::PAIRS {
            tile::<I, 4, 2>(isa, self.rounds)
        } else if self.large {
            tile::<I, 2, 6>(isa, self.rounds)
        } else {
            tile::<I, 1, 4>(isa, self.rounds)
        }
    }
}

#[inline(always)]
fn tile<I: Isa, const G: usize, const T: usize>(isa: I, rounds: u64) -> u64 {
    #[repr(align(64))]
    struct Bytes<T>(T);
    // Every group of rows and every token in a place of its own: of products that are the same AVX2's could be computed once.
    let weights = std::hint::black_box(Bytes([[3u8; 256]; G]));
    let inputs = std::hint::black_box(Bytes([[5i8; STEP]; T]));
    let mut sums = [[isa.splat_int(0); T]; G];
    for _ in 0..rounds {
        let weights = std::hint::black_box(&weights).0.each_ref();
        let inputs = std::hint::black_box(&inputs).0.each_ref();
        let weights = weights.map(|row| row.as_ptr());
        let inputs = inputs.map(|token| token.as_ptr());
        // SAFETY: eight vectors of eight lanes, or four of sixteen, for each pointer to weights and 32 bytes for each to inputs are there.
        unsafe {
            if I::PAIRS {
                // As the products do it: sums of 16 bits, widened after 32 columns.
                let mut pairs = [[isa.splat_int(0); T]; G];
                isa.pairs16(&mut pairs, weights, inputs);
                let (weights, inputs) = (
                    weights.map(|row| row.add(16 * I::LANES)),
                    inputs.map(|token| token.add(16)),
                );
                isa.pairs16(&mut pairs, weights, inputs);
                for g in 0..G {
                    for t in 0..T {
                        let sum = isa.add_pairs(pairs[g][t], isa.splat_int(0x10001));
                        sums[g][t] = isa.add_ints(sums[g][t], sum);
                    }
                }
            } else {
                isa.dot16(&mut sums, weights, inputs, 31);
            }
        }
    }
    let mut sum = isa.splat_int(0);
    for one in sums.as_flattened() {
        sum = isa.add_ints(sum, *one);
    }
    std::hint::black_box(isa.sum_ints(sum));
    let columns = if I::PAIRS { STEP } else { 16 };
    rounds * (G * T * columns * I::LANES) as u64
}
