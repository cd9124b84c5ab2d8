//! Scale for non-negative values and levels `0..=n`: nine trials, then up to five sweeps that move one
//! level at a time. Fits the scales and minimums of a super-block when there are importance weights.

use crate::block::lanes::{Isa, Lanes};
use crate::block::number::{EPSILON, ROUNDER, byte, clamp, round_even};

const SWEEPS: usize = 5;

/// Fits one group and writes its levels.
pub fn scalar(x: &[f32], w: &[f32], n: f32, levels: &mut [u8]) -> f32 {
    let mut most = 0.0;
    for &v in x {
        most = if v > most { v } else { most };
    }
    if most < EPSILON {
        levels.fill(0);
        return 0.0;
    }
    let level = |v: f32| clamp(round_even(v), 0.0, n);
    let error = |inverse: f32| {
        let scale = 1.0 / inverse;
        let mut sum = 0.0;
        for (&x, &w) in x.iter().zip(w) {
            let d = x - scale * level(inverse * x);
            sum += (w * d) * d;
        }
        sum
    };
    let mut inverse = n / most;
    let mut best = error(inverse);
    for t in (-4..=4).filter(|&t| t != 0) {
        let trial = (0.1 * t as f32 + n) / most;
        let err = error(trial);
        if err < best {
            (inverse, best) = (trial, err);
        }
    }
    let (mut sum_a, mut sum_b) = (0.0, 0.0);
    for ((&x, &w), out) in x.iter().zip(w).zip(levels.iter_mut()) {
        let l = level(inverse * x);
        sum_a += (w * x) * l;
        sum_b += (w * l) * l;
        *out = byte(l);
    }
    for _ in 0..SWEEPS {
        let mut changed = false;
        for ((&x, &w), out) in x.iter().zip(w).zip(levels.iter_mut()) {
            let l = f32::from(*out);
            let mut a = sum_a - (w * x) * l;
            let mut b = sum_b - (w * l) * l;
            if a > 0.0 && b > 0.0 {
                let next = level((x * b) / a);
                if next != l {
                    a += (w * x) * next;
                    b += (w * next) * next;
                    if (a * a) * sum_b > (sum_a * sum_a) * b {
                        (sum_a, sum_b, changed) = (a, b, true);
                        *out = byte(next);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if sum_b != 0.0 { sum_a / sum_b } else { 0.0 }
}

#[inline(always)]
fn lane_level<I: Isa>(isa: I, n: f32, v: I::F) -> I::F {
    let rounder = isa.splat(ROUNDER);
    ((v + rounder) - rounder)
        .or_larger(isa.splat(0.0))
        .or_smaller(isa.splat(n))
}

#[inline(always)]
fn lane_error<I: Isa>(isa: I, x: &[I::F], w: &[I::F], n: f32, inverse: I::F) -> I::F {
    let scale = isa.splat(1.0) / inverse;
    let mut sum = isa.splat(0.0);
    for (&x, &w) in x.iter().zip(w) {
        let d = x - scale * lane_level(isa, n, inverse * x);
        sum = sum + (w * d) * d;
    }
    sum
}

/// Fits as many groups as there are lanes and writes their levels.
#[inline(always)]
pub fn lanes<I: Isa>(isa: I, x: &[I::F], w: &[I::F], n: f32, levels: &mut [I::F]) -> I::F {
    let zero = isa.splat(0.0);
    let mut most = zero;
    for &v in x {
        most = v.or_larger(most);
    }
    let empty = isa.splat(EPSILON).greater(most);
    let mut inverse = isa.splat(n) / most;
    let mut best = lane_error(isa, x, w, n, inverse);
    for t in -4..=4i8 {
        if t == 0 {
            continue;
        }
        let trial = isa.splat(0.1 * f32::from(t) + n) / most;
        let err = lane_error(isa, x, w, n, trial);
        let better = best.greater(err);
        inverse = I::F::choose(better, trial, inverse);
        best = I::F::choose(better, err, best);
    }
    let (mut sum_a, mut sum_b) = (zero, zero);
    for ((&x, &w), out) in x.iter().zip(w).zip(levels.iter_mut()) {
        let l = lane_level(isa, n, inverse * x);
        sum_a = sum_a + (w * x) * l;
        sum_b = sum_b + (w * l) * l;
        *out = l;
    }
    // A lane whose sweep changes nothing stays as it is in the sweeps other lanes still need.
    for _ in 0..SWEEPS {
        let mut changed = false;
        for ((&x, &w), l) in x.iter().zip(w).zip(levels.iter_mut()) {
            let a = sum_a - (w * x) * *l;
            let b = sum_b - (w * *l) * *l;
            let possible = I::F::both(a.greater(zero), b.greater(zero));
            let next = lane_level(isa, n, (x * b) / a);
            let a = a + (w * x) * next;
            let b = b + (w * next) * next;
            let better = ((a * a) * sum_b).greater((sum_a * sum_a) * b);
            let moved = I::F::both(possible, I::F::both(next.differs(*l), better));
            sum_a = I::F::choose(moved, a, sum_a);
            sum_b = I::F::choose(moved, b, sum_b);
            *l = I::F::choose(moved, next, *l);
            changed |= I::F::any(moved);
        }
        if !changed {
            break;
        }
    }
    for l in levels {
        *l = I::F::choose(empty, zero, *l);
    }
    let scale = I::F::choose(sum_b.differs(zero), sum_a / sum_b, zero);
    I::F::choose(empty, zero, scale)
}
