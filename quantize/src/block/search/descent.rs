//! Scale for signed levels `-4..=3` by coordinate descent: start from the largest value, then up to five
//! sweeps that move one level at a time while the fit improves. Q3_K without importance.

use crate::block::lanes::{Isa, Lanes};
use crate::block::number::{EPSILON, ROUNDER, byte, clamp, round_even};

/// Levels are `-N..N`.
pub const N: f32 = 4.0;
const SWEEPS: usize = 5;

/// Fits one group and writes its levels plus `N`; an all-zero group gets zeros.
pub fn scalar(x: &[f32], w: &[f32], levels: &mut [u8]) -> f32 {
    let mut most = 0.0;
    for &v in x {
        if v.abs() > f32::abs(most) {
            most = v;
        }
    }
    if most.abs() < EPSILON {
        levels.fill(0);
        return 0.0;
    }
    let level = |v: f32| clamp(round_even(v), -N, N - 1.0);
    let inverse = -N / most;
    let (mut sum_a, mut sum_b) = (0.0, 0.0);
    for ((&x, &w), out) in x.iter().zip(w).zip(levels.iter_mut()) {
        let l = level(inverse * x);
        sum_a += (w * x) * l;
        sum_b += (w * l) * l;
        *out = byte(l + N);
    }
    for _ in 0..SWEEPS {
        let mut changed = false;
        for ((&x, &w), out) in x.iter().zip(w).zip(levels.iter_mut()) {
            let l = f32::from(*out) - N;
            let mut a = sum_a - (w * x) * l;
            if a > 0.0 {
                let mut b = sum_b - (w * l) * l;
                let next = level((x * b) / a);
                if next != l {
                    a += (w * x) * next;
                    b += (w * next) * next;
                    if b > 0.0 && (a * a) * sum_b > (sum_a * sum_a) * b {
                        (sum_a, sum_b, changed) = (a, b, true);
                        *out = byte(next + N);
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
fn lane_level<I: Isa>(isa: I, v: I::F) -> I::F {
    let rounder = isa.splat(ROUNDER);
    ((v + rounder) - rounder)
        .or_larger(isa.splat(-N))
        .or_smaller(isa.splat(N - 1.0))
}

/// Fits as many groups as there are lanes and writes their levels, without adding `N`.
#[inline(always)]
pub fn lanes<I: Isa>(isa: I, x: &[I::F], w: &[I::F], levels: &mut [I::F]) -> I::F {
    let zero = isa.splat(0.0);
    let low = isa.splat(-N);
    let mut most = zero;
    for &v in x {
        most = I::F::choose(v.abs().greater(most.abs()), v, most);
    }
    let empty = isa.splat(EPSILON).greater(most.abs());
    let inverse = low / most;
    let (mut sum_a, mut sum_b) = (zero, zero);
    for ((&x, &w), out) in x.iter().zip(w).zip(levels.iter_mut()) {
        let l = lane_level(isa, inverse * x);
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
            let possible = a.greater(zero);
            let next = lane_level(isa, (x * b) / a);
            let a = a + (w * x) * next;
            let b = b + (w * next) * next;
            let better = ((a * a) * sum_b).greater((sum_a * sum_a) * b);
            let better = I::F::both(b.greater(zero), better);
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
        *l = I::F::choose(empty, low, *l);
    }
    let scale = I::F::choose(sum_b.differs(zero), sum_a / sum_b, zero);
    I::F::choose(empty, zero, scale)
}
