//! Scales that are powers of two, as MXFP4's are: the steps of a chunk share one multiplication with a scale.
//!
//! A row's chunk has a *base*, its largest exponent less three, and each step the *factor* 2^(its exponent - base): 1, 2, 4 or 8, and a
//! fraction only where exponents differ by more than three. Then
//!
//! ```text
//! value  = fma(MAGIC + dot, factor, MAGIC - MAGIC * factor)    MAGIC + dot * factor: exact, or of a fraction the nearest integer
//! sum    = fma(value, scale of the input, sum)                 from -MAGIC * sum of the chunk's input scales
//! result = fma(sum, 2^base, result)
//! ```
//!
//! The weights of a step are at most 12, times 8 still bytes. So where all rows of a panel have whole factors in a chunk, the bytes carry them,
//! the first line falls away, and one fma for each step is left, to the same bits: prompts are 5 % faster with AVX-512. AVX2, whose products of
//! eight bits are slow, multiplies by the factors where it makes sums of 32 bits out of pairs of 16 anyway.
//!
//! The inputs' scales alternate in sign (see [`super::activations`]), which keeps `sum` below MAGIC times a scale or two, so a step is rounded
//! by about one unit: the last bit of an input times half the smallest weight at the base. Where the demo model talks, the squared
//! error of its logits grew by 1.5 % in the median. Blocks with an exponent some twenty below their chunk's largest vanish, and inputs beyond
//! some 10^26 give NaN.

use super::isa::Isa;
use super::panel::MAGIC;

/// How far the base is below the largest exponent.
const RANGE: i32 = 3;

/// What the steps of a chunk share in each row.
pub(super) struct Base<I: Isa> {
    /// The exponent, as the type has it.
    pub exponent: I::Ints,
    /// Whether all factors are whole.
    pub whole: bool,
}

/// The base of `steps` steps, whose exponents are vectors one after the other.
/// # Safety
/// They are readable.
#[inline(always)]
pub(super) unsafe fn base<I: Isa>(isa: I, exponents: *const u32, steps: usize) -> Base<I> {
    let mut largest = isa.splat_int(i32::MIN);
    let mut smallest = isa.splat_int(i32::MAX);
    for step in 0..steps {
        // SAFETY: promised by the caller.
        let exponent = unsafe { isa.load_ints(exponents.add(step * I::LANES).cast()) };
        largest = isa.max_ints(largest, exponent);
        smallest = isa.min_ints(smallest, exponent);
    }
    let exponent = isa.sub_ints(largest, isa.splat_int(RANGE));
    let whole = isa.largest_int(isa.sub_ints(exponent, smallest)) <= 0;
    Base { exponent, whole }
}

/// 2^(exponent - base), or zero if that is below 2^-126.
#[inline(always)]
pub(super) fn factor<I: Isa>(isa: I, exponent: I::Ints, base: I::Ints) -> I::Floats {
    let biased = isa.add_ints(isa.sub_ints(exponent, base), isa.splat_int(127));
    isa.as_floats(isa.shift_left(isa.max_ints(biased, isa.splat_int(0)), 23))
}

/// A step's dot product, read as a float that is MAGIC more, times its factor, and MAGIC more again.
#[inline(always)]
pub(super) fn value<I: Isa>(isa: I, dot: I::Floats, exponent: I::Ints, base: I::Ints) -> I::Floats {
    let factor = factor(isa, exponent, base);
    isa.fma(dot, factor, back(isa, factor))
}

/// What is added to `(MAGIC + dot) * factor` to make it `MAGIC + dot * factor`.
#[inline(always)]
pub(super) fn back<I: Isa>(isa: I, factor: I::Floats) -> I::Floats {
    isa.fma(factor, isa.splat(-MAGIC), isa.splat(MAGIC))
}
