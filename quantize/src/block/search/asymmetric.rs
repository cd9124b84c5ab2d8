//! Scale and offset for levels `0..=n`: each trial rounds with one inverse scale, then solves for the
//! best scale and offset of those levels. A trial that wins moves the offset from which later trials round. Used by Q2_K, Q4_K, Q5_K, and Q4_1 / Q5_1 with importance.

use super::Fit;
use crate::block::lanes::{Isa, Lanes};
use crate::block::number::{ROUNDER, clamp, round_even};

/// The trials: inverse scales `(first + step * t + n) / (largest value - offset)` for t in `0..=count`.
#[derive(Clone, Copy)]
pub struct Trials {
    /// The largest level.
    pub n: f32,
    /// See above.
    pub first: f32,
    /// See above.
    pub step: f32,
    /// See above.
    pub count: u8,
    /// Measure the error by magnitude instead of by square.
    pub absolute: bool,
}

impl Trials {
    #[inline(always)]
    fn numerator(&self, t: u8) -> f32 {
        (self.first + self.step * f32::from(t)) + self.n
    }

    /// The trials all formats use when they have importance weights.
    pub const fn with_importance(n: f32) -> Self {
        Self {
            n,
            first: -0.9,
            step: 0.05,
            count: 36,
            absolute: false,
        }
    }
}

/// Fits one group.
pub fn scalar(x: &[f32], w: &[f32], trials: &Trials) -> Fit {
    let (mut low, mut high) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (0.0, 0.0);
    for (&x, &w) in x.iter().zip(w) {
        low = if x < low { x } else { low };
        high = if x > high { x } else { high };
        sum_w += w;
        sum_x += w * x;
    }
    let mut offset = if low > 0.0 { 0.0 } else { low };
    let usable = high > offset;
    if !usable {
        return Fit {
            minimum: -offset,
            ..Fit::default()
        };
    }
    let level =
        |inverse: f32, base: f32, x: f32| clamp(round_even(inverse * (x - base)), 0.0, trials.n);
    let error = |inverse: f32, base: f32, scale: f32, offset: f32| {
        let mut sum = 0.0;
        for (&x, &w) in x.iter().zip(w) {
            let d = (scale * level(inverse, base, x) + offset) - x;
            sum += w * if trials.absolute { d.abs() } else { d * d };
        }
        sum
    };
    let (mut inverse, mut base) = (trials.n / (high - offset), offset);
    let mut scale = 1.0 / inverse;
    let mut best = error(inverse, base, scale, offset);
    for t in 0..=trials.count {
        let (trial, from) = (trials.numerator(t) / (high - offset), offset);
        let (mut sum_l, mut sum_ll, mut sum_xl) = (0.0, 0.0, 0.0);
        for (&x, &w) in x.iter().zip(w) {
            let l = level(trial, from, x);
            sum_l += w * l;
            sum_ll += (w * l) * l;
            sum_xl += (w * l) * x;
        }
        let determinant = sum_w * sum_ll - sum_l * sum_l;
        if determinant > 0.0 {
            let mut a = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut b = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
            if b > 0.0 {
                b = 0.0;
                a = sum_xl / sum_ll;
            }
            let err = error(trial, from, a, b);
            if err < best {
                (inverse, base, scale, offset, best) = (trial, from, a, b, err);
            }
        }
    }
    Fit {
        scale,
        minimum: -offset,
        inverse,
        base,
    }
}

/// The level of each lane's value.
#[inline(always)]
fn lane_level<I: Isa>(isa: I, n: f32, inverse: I::F, base: I::F, x: I::F) -> I::F {
    let rounder = isa.splat(ROUNDER);
    ((inverse * (x - base) + rounder) - rounder)
        .or_larger(isa.splat(0.0))
        .or_smaller(isa.splat(n))
}

/// The error of the levels in `l`.
#[inline(always)]
fn lane_error<I: Isa>(
    isa: I,
    [x, w, l]: [&[I::F]; 3],
    absolute: bool,
    scale: I::F,
    offset: I::F,
) -> I::F {
    let mut sum = isa.splat(0.0);
    for ((&x, &w), &l) in x.iter().zip(w).zip(l) {
        let d = (scale * l + offset) - x;
        sum = sum + w * if absolute { d.abs() } else { d * d };
    }
    sum
}

/// Fits as many groups as there are lanes: scale, minimum, inverse, base.
#[inline(always)]
pub fn lanes<I: Isa>(isa: I, x: &[I::F], w: &[I::F], trials: &Trials) -> [I::F; 4] {
    let zero = isa.splat(0.0);
    let (mut low, mut high) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (zero, zero);
    for (&x, &w) in x.iter().zip(w) {
        low = x.or_smaller(low);
        high = x.or_larger(high);
        sum_w = sum_w + w;
        sum_x = sum_x + w * x;
    }
    let first_offset = I::F::choose(low.greater(zero), zero, low);
    let usable = high.greater(first_offset);
    let mut levels = [zero; super::LONGEST];
    let levels = &mut levels[..x.len()];
    let (mut base, mut offset) = (first_offset, first_offset);
    let mut inverse = isa.splat(trials.n) / (high - offset);
    let mut scale = isa.splat(1.0) / inverse;
    for (l, &x) in levels.iter_mut().zip(x) {
        *l = lane_level(isa, trials.n, inverse, base, x);
    }
    let mut best = lane_error(isa, [x, w, levels], trials.absolute, scale, offset);
    for t in 0..=trials.count {
        let (trial, from) = (isa.splat(trials.numerator(t)) / (high - offset), offset);
        let (mut sum_l, mut sum_ll, mut sum_xl) = (zero, zero, zero);
        for ((&x, &w), kept) in x.iter().zip(w).zip(levels.iter_mut()) {
            let l = lane_level(isa, trials.n, trial, from, x);
            let wl = w * l;
            sum_l = sum_l + wl;
            sum_ll = sum_ll + wl * l;
            sum_xl = sum_xl + wl * x;
            *kept = l;
        }
        let determinant = sum_w * sum_ll - sum_l * sum_l;
        let a = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let b = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
        let above = b.greater(zero);
        let a = I::F::choose(above, sum_xl / sum_ll, a);
        let b = I::F::choose(above, zero, b);
        let err = lane_error(isa, [x, w, levels], trials.absolute, a, b);
        let better = I::F::both(determinant.greater(zero), best.greater(err));
        inverse = I::F::choose(better, trial, inverse);
        base = I::F::choose(better, from, base);
        scale = I::F::choose(better, a, scale);
        offset = I::F::choose(better, b, offset);
        best = I::F::choose(better, err, best);
    }
    let offset = I::F::choose(usable, offset, first_offset);
    [
        I::F::choose(usable, scale, zero),
        isa.splat(-0.0) - offset,
        I::F::choose(usable, inverse, zero),
        I::F::choose(usable, base, zero),
    ]
}
