//! Scale for the non-linear four-bit table of IQ4_NL and IQ4_XS: 15 trials round to the nearest entry and
//! compete by weighted squared error.

use crate::block::lanes::{Isa, Lanes};
use crate::block::number::EPSILON;

/// The table.
pub const TABLE: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Half-way points between entries. A value on one belongs to the upper entry.
const MIDDLES: [f32; 15] = {
    let mut middles = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        middles[i] = (TABLE[i] as f32 + TABLE[i + 1] as f32) / 2.0;
        i += 1;
    }
    middles
};

/// Trial scales are `most / (127 - t)` for t in `-TRIALS..=TRIALS`.
const TRIALS: i8 = 7;

/// Index of the entry nearest to `v`: ties to the upper one, out of range to the end, NaN to 0.
#[inline(always)]
pub fn nearest(v: f32) -> usize {
    // Counting is the same as comparing distances: near a half-way point both distances are exact.
    MIDDLES.iter().filter(|&&middle| v >= middle).count()
}

/// [`nearest`] of a block, written for the vectorizer.
#[inline(always)]
pub fn count_below(x: &[f32; 32], inverse: f32) -> [u8; 32] {
    let mut codes = [0u32; 32];
    for (code, &v) in codes.iter_mut().zip(x) {
        let v = inverse * v;
        for middle in MIDDLES {
            *code += u32::from(v >= middle);
        }
    }
    codes.map(|code| code as u8)
}

/// Fits one group.
pub fn scalar(x: &[f32], w: &[f32]) -> f32 {
    let mut most = 0.0;
    for &v in x {
        if v.abs() > f32::abs(most) {
            most = v;
        }
    }
    if most.abs() < EPSILON {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut a, mut b) = (0.0, 0.0);
        for (&x, &w) in x.iter().zip(w) {
            let entry = f32::from(TABLE[nearest(inverse * x)]);
            a += (w * entry) * x;
            b += (w * entry) * entry;
        }
        (a, b)
    };
    let start = most / 127.0;
    let (a, b) = sums(1.0 / start);
    // Where all weights are zero, elsewhere 0/0 puts a NaN into the file; the first guess serves better.
    let mut scale = if b > 0.0 { a / b } else { start };
    let mut best = scale * a;
    for t in -TRIALS..=TRIALS {
        let (a, b) = sums((f32::from(t) - 127.0) / most);
        if b > 0.0 && a * a > best * b {
            scale = a / b;
            best = scale * a;
        }
    }
    scale
}

/// The table entry nearest to each lane.
#[inline(always)]
fn lane_entry<I: Isa>(isa: I, v: I::F) -> I::F {
    let mut entry = isa.splat(f32::from(TABLE[0]));
    for i in 0..15 {
        let reached = v.at_least(isa.splat(MIDDLES[i]));
        entry = I::F::choose(reached, isa.splat(f32::from(TABLE[i + 1])), entry);
    }
    entry
}

/// The two sums of a trial, for as many groups as there are lanes.
#[inline(always)]
fn lane_sums<I: Isa>(isa: I, x: &[I::F], w: &[I::F], inverse: I::F) -> (I::F, I::F) {
    let (mut a, mut b) = (isa.splat(0.0), isa.splat(0.0));
    for (&x, &w) in x.iter().zip(w) {
        let entry = lane_entry(isa, inverse * x);
        a = a + (w * entry) * x;
        b = b + (w * entry) * entry;
    }
    (a, b)
}

/// Fits as many groups as there are lanes.
#[inline(always)]
pub fn lanes<I: Isa>(isa: I, x: &[I::F], w: &[I::F]) -> I::F {
    let zero = isa.splat(0.0);
    let mut most = zero;
    for &v in x {
        most = I::F::choose(v.abs().greater(most.abs()), v, most);
    }
    let empty = isa.splat(EPSILON).greater(most.abs());
    let start = most / isa.splat(127.0);
    let (a, b) = lane_sums(isa, x, w, isa.splat(1.0) / start);
    let mut scale = I::F::choose(b.greater(zero), a / b, start);
    let mut best = scale * a;
    for t in -TRIALS..=TRIALS {
        let (a, b) = lane_sums(isa, x, w, isa.splat(f32::from(t) - 127.0) / most);
        let better = I::F::both(b.greater(zero), (a * a).greater(best * b));
        scale = I::F::choose(better, a / b, scale);
        best = I::F::choose(better, (a / b) * a, best);
    }
    I::F::choose(empty, zero, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The search as the text has it: compare the distances to the two neighbours.
    fn by_distance(v: f32) -> usize {
        let entry = |i: usize| f32::from(TABLE[i]);
        if v <= entry(0) {
            return 0;
        }
        let Some(upper) = (1..16).find(|&i| v < entry(i)) else {
            return 15;
        };
        upper - usize::from(v - entry(upper - 1) < entry(upper) - v)
    }

    #[test]
    fn counting_half_way_points_is_comparing_distances() {
        for middle in MIDDLES {
            for ulps in -1000..=1000 {
                let v = f32::from_bits(middle.to_bits().wrapping_add_signed(ulps));
                assert_eq!(nearest(v), by_distance(v), "{v}");
            }
        }
        for i in -1_400_000..1_400_000 {
            let v = i as f32 / 9973.0;
            assert_eq!(nearest(v), by_distance(v), "{v}");
        }
    }
}
