//! Scale for signed levels `-n..=n-1`: the first guess maps the largest value to `-n`, 18 trials around
//! it compete by weighted squared error. Used by Q6_K, Q3_K scales, and Q4_0 / Q5_0 with importance.

use super::Fit;
use crate::block::lanes::{Isa, Lanes};
use crate::block::number::{EPSILON, ROUNDER, clamp, round_even};

/// Fits one group.
pub fn scalar(x: &[f32], w: &[f32], n: f32) -> Fit {
    let mut most = 0.0;
    for &v in x {
        if v.abs() > f32::abs(most) {
            most = v;
        }
    }
    if most.abs() < EPSILON {
        return Fit {
            inverse: f32::NAN,
            ..Fit::default()
        };
    }
    let sums = |inverse: f32| {
        let (mut a, mut b) = (0.0, 0.0);
        for (&x, &w) in x.iter().zip(w) {
            let l = clamp(round_even(inverse * x), -n, n - 1.0);
            a += (w * x) * l;
            b += (w * l) * l;
        }
        (a, b)
    };
    let mut inverse = -n / most;
    let (a, b) = sums(inverse);
    let mut scale = if b != 0.0 { a / b } else { 0.0 };
    let mut best = scale * a;
    for t in (-9..=9).filter(|&t| t != 0) {
        let trial = -(n + 0.1 * t as f32) / most;
        let (a, b) = sums(trial);
        if b > 0.0 && a * a > best * b {
            inverse = trial;
            scale = a / b;
            best = scale * a;
        }
    }
    Fit {
        scale,
        inverse,
        ..Fit::default()
    }
}

/// The two sums of a trial, for as many groups as there are lanes.
#[inline(always)]
fn lane_sums<I: Isa>(isa: I, x: &[I::F], w: &[I::F], n: f32, inverse: I::F) -> (I::F, I::F) {
    let (low, high, rounder) = (isa.splat(-n), isa.splat(n - 1.0), isa.splat(ROUNDER));
    let (mut a, mut b) = (isa.splat(0.0), isa.splat(0.0));
    for (&x, &w) in x.iter().zip(w) {
        let l = ((inverse * x + rounder) - rounder)
            .or_larger(low)
            .or_smaller(high);
        a = a + (w * x) * l;
        b = b + (w * l) * l;
    }
    (a, b)
}

/// Fits as many groups as there are lanes: scale, minimum, inverse, base.
#[inline(always)]
pub fn lanes<I: Isa>(isa: I, x: &[I::F], w: &[I::F], n: f32) -> [I::F; 4] {
    let zero = isa.splat(0.0);
    let mut most = zero;
    for &v in x {
        most = I::F::choose(v.abs().greater(most.abs()), v, most);
    }
    let empty = isa.splat(EPSILON).greater(most.abs());
    let mut inverse = isa.splat(-n) / most;
    let (a, b) = lane_sums(isa, x, w, n, inverse);
    let mut scale = I::F::choose(b.differs(zero), a / b, zero);
    let mut best = scale * a;
    for t in -9..=9i8 {
        if t == 0 {
            continue;
        }
        let trial = isa.splat(-(n + 0.1 * f32::from(t))) / most;
        let (a, b) = lane_sums(isa, x, w, n, trial);
        let better = I::F::both(b.greater(zero), (a * a).greater(best * b));
        inverse = I::F::choose(better, trial, inverse);
        scale = I::F::choose(better, a / b, scale);
        best = I::F::choose(better, (a / b) * a, best);
    }
    let scale = I::F::choose(empty, zero, scale);
    let inverse = I::F::choose(empty, isa.splat(f32::NAN), inverse);
    [scale, zero, inverse, zero]
}
