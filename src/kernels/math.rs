//! Functions of vectors, made of [`Isa`] operations so that every instruction set gives the same bits.

use super::isa::Isa;

/// e^x to about 1 ulp for x from -87.3 to 88.3, and no further: what lies beyond counts as the end. NaN stays NaN.
#[inline(always)]
pub fn exp<I: Isa>(isa: I, x: I::Floats) -> I::Floats {
    // The order of the operands keeps NaN: both return the second one then.
    let x = isa.max(isa.splat(-87.3), isa.min(isa.splat(88.3), x));
    // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to an integer. ln 2 in two parts, the first of few bits, so that n times it is exact.
    const ROUND: f32 = 12582912.0;
    let shifted = isa.fma(x, isa.splat(std::f32::consts::LOG2_E), isa.splat(ROUND));
    let n = isa.sub(shifted, isa.splat(ROUND));
    let r = isa.fma(n, isa.splat(-0.693_145_75), x);
    let r = isa.fma(n, isa.splat(-1.428_606_8e-6), r);
    // Taylor's series to the seventh power is good to 2e-8 there.
    let mut sum = isa.splat(1.0 / 5040.0);
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = isa.fma(sum, r, isa.splat(coefficient));
    }
    let bias = isa.splat_int(127 - ROUND.to_bits() as i32);
    let power = isa.shift_left(isa.add_ints(isa.as_ints(shifted), bias), 23);
    isa.mul(sum, isa.as_floats(power))
}

/// gpt-oss's gated unit: `min(gate, limit) * sigmoid(alpha * gate) * (clamp(up) + 1)`.
#[inline(always)]
pub fn swiglu<I: Isa>(isa: I, gate: I::Floats, up: I::Floats, limit: f32, alpha: f32) -> I::Floats {
    let limit = isa.splat(limit);
    let one = isa.splat(1.0);
    let gate = isa.min(limit, gate);
    let up = isa.max(isa.sub(isa.splat(0.0), limit), isa.min(limit, up));
    let power = exp(isa, isa.mul(gate, isa.splat(-alpha)));
    let gated = isa.div(gate, isa.add(one, power));
    isa.mul(gated, isa.add(up, one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dispatch::Chosen;
    use crate::kernels::isa::Task;

    struct Exp(f32);
    impl Task for Exp {
        type Out = f32;
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> f32 {
            isa.largest(exp(isa, isa.splat(self.0)))
        }
    }

    #[test]
    fn exp_is_close_and_the_same_everywhere() {
        for i in -8700..8830 {
            let x = i as f32 * 0.01;
            let expected = f64::from(x).exp();
            let all: Vec<f32> = Chosen::available()
                .iter()
                .map(|isa| isa.call(Exp(x)))
                .collect();
            let error = (f64::from(all[0]) - expected).abs() / expected;
            assert!(error < 2e-7, "exp({x}) is {} and off by {error:e}", all[0]);
            assert!(
                all.iter().all(|y| y.to_bits() == all[0].to_bits()),
                "{all:?}"
            );
        }
    }

    struct Swiglu(f32, f32, f32);
    impl Task for Swiglu {
        type Out = f32;
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> f32 {
            let (gate, up) = (isa.splat(self.0), isa.splat(self.1));
            isa.sum(swiglu(isa, gate, up, self.2, 1.702)) / I::LANES as f32
        }
    }

    #[test]
    fn swiglu_clamps_the_gate_above_and_the_rest_on_both_sides() {
        for isa in Chosen::available() {
            for (gate, up) in [
                (0.5, 0.25),
                (9.0, 1.0),
                (-9.0, 1.0),
                (1.0, 9.0),
                (1.0, -9.0),
            ] {
                let g = f64::min(gate, 7.0);
                let u = f64::clamp(up, -7.0, 7.0);
                let expected = g / (1.0 + (-1.702 * g).exp()) * (u + 1.0);
                let got = f64::from(isa.call(Swiglu(gate as f32, up as f32, 7.0)));
                assert!(
                    (got - expected).abs() <= 1e-6 * expected.abs(),
                    "{gate} {up}: {got} {expected}"
                );
            }
            assert!(isa.call(Swiglu(f32::NAN, 1.0, 7.0)).is_nan());
            assert!(isa.call(Swiglu(1.0, f32::NAN, 7.0)).is_nan());
        }
    }
}
