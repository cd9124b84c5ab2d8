//! Several f32 side by side, one trait for every instruction set, and the choice among them.
//!
//! An operation on lanes is the IEEE operation on each lane and nothing else: no fused multiply-add and
//! no sums across lanes. A search that gives each group of weights a lane of its own therefore takes
//! exactly the decisions of the scalar text. Intrinsics live in this file only.
//!
//! Tried and dropped: two vectors side by side, to overlap their chains of additions. The searches are
//! bound by arithmetic, not by latency: Q4_K stayed the same, Q6_K became 30 % slower.
//!
//! Code that is generic over an instruction set must be a function with `inline(always)`, never a
//! closure: a closure does not inherit the instruction set, and every operation in it becomes a call.

use std::ops::{Add, Div, Mul, Sub};

/// A vector of f32.
pub trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// One truth value for each lane.
    type Mask: Copy;
    /// `self > other`; false where either is NaN.
    fn greater(self, other: Self) -> Self::Mask;
    /// `self >= other`; false where either is NaN.
    fn at_least(self, other: Self) -> Self::Mask;
    /// `self != other`; true where either is NaN.
    fn differs(self, other: Self) -> Self::Mask;
    /// True where both are.
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Whether any lane is true.
    fn any(mask: Self::Mask) -> bool;
    /// `yes` where the mask is true, `no` elsewhere.
    fn choose(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// Magnitudes.
    fn abs(self) -> Self;
    /// The largest lane, if none is NaN.
    fn largest(self) -> f32;

    /// `self > other ? self : other`, so NaN gives `other`.
    #[inline(always)]
    fn or_larger(self, other: Self) -> Self {
        Self::choose(self.greater(other), self, other)
    }

    /// `self < other ? self : other`, so NaN gives `other`.
    #[inline(always)]
    fn or_smaller(self, other: Self) -> Self {
        Self::choose(other.greater(self), self, other)
    }
}

/// Proof that this CPU has an instruction set: a value exists only if it was detected.
pub trait Isa: Copy {
    /// Its vector of f32.
    type F: Lanes;
    /// Lanes in that vector.
    const COUNT: usize;
    /// The same value in every lane.
    fn splat(self, v: f32) -> Self::F;
    /// Loads `COUNT` values from the start of a slice that has at least as many.
    fn load(self, from: &[f32]) -> Self::F;
    /// Stores `COUNT` values at the start of a slice that has at least as many.
    fn store(self, v: Self::F, to: &mut [f32]);
    /// Bit 4 of each byte: bit k of the little-endian result belongs to byte k.
    fn fifth_bits(self, bytes: &[u8; 32]) -> [u8; 4];
}

/// Lanes in the widest vector.
pub const MOST: usize = 16;

/// Which of the code paths to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The specification: one value at a time, on any CPU.
    Scalar,
    /// Eight lanes.
    Avx2,
    /// Sixteen lanes.
    Avx512,
}

impl Level {
    /// The fastest path this CPU has.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if x86::Avx512::detect().is_some() {
                return Self::Avx512;
            }
            if x86::Avx2::detect().is_some() {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// Every path this CPU has.
    pub fn available() -> impl Iterator<Item = Self> {
        let best = Self::best();
        [Self::Scalar, Self::Avx2, Self::Avx512]
            .into_iter()
            .filter(move |&level| level as u8 <= best as u8)
    }
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    //! AVX2 and AVX-512.

    use super::{Add, Div, Isa, Lanes, Mul, Sub};
    use std::arch::x86_64::*;

    /// AVX2 and F16C were detected.
    #[derive(Clone, Copy)]
    pub struct Avx2(());

    /// AVX-512 F, BW, DQ and VL were detected.
    #[derive(Clone, Copy)]
    pub struct Avx512(());

    impl Avx2 {
        /// The proof, if the CPU has it.
        #[inline]
        pub fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c"))
                .then_some(Self(()))
        }
    }

    impl Avx512 {
        /// The proof, if the CPU has it.
        #[inline]
        pub fn detect() -> Option<Self> {
            (Avx2::detect().is_some()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl"))
            .then_some(Self(()))
        }
    }

    /// Eight lanes; made only from an [`Avx2`].
    #[derive(Clone, Copy)]
    pub struct Eight(__m256);

    /// Sixteen lanes; made only from an [`Avx512`].
    #[derive(Clone, Copy)]
    pub struct Sixteen(__m512);

    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn fifth_bits(bytes: &[u8; 32]) -> [u8; 4] {
        // SAFETY: promised by the caller; the array holds 32 bytes.
        let bits = unsafe {
            let bytes = _mm256_loadu_si256(bytes.as_ptr().cast());
            _mm256_movemask_epi8(_mm256_slli_epi16::<3>(bytes))
        };
        bits.to_le_bytes()
    }

    impl Isa for Avx2 {
        type F = Eight;
        const COUNT: usize = 8;

        #[inline(always)]
        fn splat(self, v: f32) -> Eight {
            // SAFETY: self proves AVX2.
            Eight(unsafe { _mm256_set1_ps(v) })
        }

        #[inline(always)]
        fn load(self, from: &[f32]) -> Eight {
            let from: &[f32; 8] = &from.as_chunks().0[0];
            // SAFETY: self proves AVX2; the array holds 8 values.
            Eight(unsafe { _mm256_loadu_ps(from.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, v: Eight, to: &mut [f32]) {
            let to: &mut [f32; 8] = &mut to.as_chunks_mut().0[0];
            // SAFETY: self proves AVX2; the array has room for 8 values.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v.0) }
        }

        #[inline(always)]
        fn fifth_bits(self, bytes: &[u8; 32]) -> [u8; 4] {
            // SAFETY: self proves AVX2.
            unsafe { fifth_bits(bytes) }
        }
    }

    impl Isa for Avx512 {
        type F = Sixteen;
        const COUNT: usize = 16;

        #[inline(always)]
        fn splat(self, v: f32) -> Sixteen {
            // SAFETY: self proves AVX-512.
            Sixteen(unsafe { _mm512_set1_ps(v) })
        }

        #[inline(always)]
        fn load(self, from: &[f32]) -> Sixteen {
            let from: &[f32; 16] = &from.as_chunks().0[0];
            // SAFETY: self proves AVX-512; the array holds 16 values.
            Sixteen(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, v: Sixteen, to: &mut [f32]) {
            let to: &mut [f32; 16] = &mut to.as_chunks_mut().0[0];
            // SAFETY: self proves AVX-512; the array has room for 16 values.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v.0) }
        }

        #[inline(always)]
        fn fifth_bits(self, bytes: &[u8; 32]) -> [u8; 4] {
            // SAFETY: self proves AVX-512, which is only detected beside AVX2.
            unsafe { fifth_bits(bytes) }
        }
    }

    impl Lanes for Eight {
        type Mask = __m256;

        #[inline(always)]
        fn greater(self, other: Self) -> __m256 {
            // SAFETY: an Eight exists, so AVX2 was detected.
            unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn at_least(self, other: Self) -> __m256 {
            // SAFETY: an Eight exists, so AVX2 was detected.
            unsafe { _mm256_cmp_ps::<_CMP_GE_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn differs(self, other: Self) -> __m256 {
            // SAFETY: an Eight exists, so AVX2 was detected.
            unsafe { _mm256_cmp_ps::<_CMP_NEQ_UQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn both(a: __m256, b: __m256) -> __m256 {
            // SAFETY: masks come from comparing Eights, so AVX2 was detected.
            unsafe { _mm256_and_ps(a, b) }
        }

        #[inline(always)]
        fn any(mask: __m256) -> bool {
            // SAFETY: a mask comes from comparing Eights, so AVX2 was detected.
            unsafe { _mm256_movemask_ps(mask) != 0 }
        }

        #[inline(always)]
        fn choose(mask: __m256, yes: Self, no: Self) -> Self {
            // SAFETY: an Eight exists, so AVX2 was detected.
            Self(unsafe { _mm256_blendv_ps(no.0, yes.0, mask) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: an Eight exists, so AVX2 was detected.
            Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: an Eight exists, so AVX2 was detected.
            unsafe {
                let high = _mm256_extractf128_ps::<1>(self.0);
                let four = _mm_max_ps(_mm256_castps256_ps128(self.0), high);
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        fn or_larger(self, other: Self) -> Self {
            // SAFETY: an Eight exists, so AVX2 was detected. The instruction gives `other` for NaN.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn or_smaller(self, other: Self) -> Self {
            // SAFETY: an Eight exists, so AVX2 was detected. The instruction gives `other` for NaN.
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }
    }

    impl Lanes for Sixteen {
        type Mask = __mmask16;

        #[inline(always)]
        fn greater(self, other: Self) -> __mmask16 {
            // SAFETY: a Sixteen exists, so AVX-512 was detected.
            unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn at_least(self, other: Self) -> __mmask16 {
            // SAFETY: a Sixteen exists, so AVX-512 was detected.
            unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn differs(self, other: Self) -> __mmask16 {
            // SAFETY: a Sixteen exists, so AVX-512 was detected.
            unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn both(a: __mmask16, b: __mmask16) -> __mmask16 {
            a & b
        }

        #[inline(always)]
        fn any(mask: __mmask16) -> bool {
            mask != 0
        }

        #[inline(always)]
        fn choose(mask: __mmask16, yes: Self, no: Self) -> Self {
            // SAFETY: a Sixteen exists, so AVX-512 was detected.
            Self(unsafe { _mm512_mask_blend_ps(mask, no.0, yes.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: a Sixteen exists, so AVX-512 was detected.
            Self(unsafe { _mm512_abs_ps(self.0) })
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: a Sixteen exists, so AVX-512 was detected.
            unsafe { _mm512_reduce_max_ps(self.0) }
        }

        #[inline(always)]
        fn or_larger(self, other: Self) -> Self {
            // SAFETY: a Sixteen exists, so AVX-512 was detected. The instruction gives `other` for NaN.
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn or_smaller(self, other: Self) -> Self {
            // SAFETY: a Sixteen exists, so AVX-512 was detected. The instruction gives `other` for NaN.
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }
    }

    /// The four operators of one vector type.
    macro_rules! arithmetic {
        ($vector:ident, $($name:ident $method:ident $intrinsic:ident),*) => {$(
            impl $name for $vector {
                type Output = Self;

                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    // SAFETY: a value of this type exists, so its instruction set was detected.
                    Self(unsafe { $intrinsic(self.0, other.0) })
                }
            }
        )*};
    }
    arithmetic!(Eight, Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
    arithmetic!(Sixteen, Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
}
