//! AVX-VNNI: 256-bit vectors with four products of bytes in one instruction; most consumer CPUs since 2021.
//!
//! The instruction exists in two encodings. CPUs with AVX-512 may know only the newer prefix, so there is a twin with that one:
//! it computes the same, and lets such a CPU test this code.

#[cfg(doc)]
use super::Isa;
use super::Task;
use super::avx2::Avx2;
use super::ymm::{Products, Ymm};
use std::arch::x86_64::*;

/// The tile of [`Isa::dot16`] around one instruction: each input is broadcast once for the `G` vectors of rows.
/// # Safety
/// As for [`Isa::dot16`], on a CPU with AVX2.
#[inline(always)]
unsafe fn dot16<const G: usize, const T: usize>(
    sums: &mut [[__m256i; T]; G],
    weights: [*const u8; G],
    inputs: [*const i8; T],
    product: impl Fn(__m256i, __m256i, __m256i) -> __m256i,
) {
    for column in 0..4 {
        // SAFETY: promised by the caller.
        unsafe {
            let mut rows = [_mm256_setzero_si256(); G];
            for g in 0..G {
                rows[g] = _mm256_load_si256(weights[g].add(column * 32).cast());
            }
            for t in 0..T {
                let input = inputs[t].cast::<i32>().add(column).read_unaligned();
                let input = _mm256_set1_epi32(input);
                for g in 0..G {
                    sums[g][t] = product(sums[g][t], rows[g], input);
                }
            }
        }
    }
}

/// Proof of AVX-VNNI, and AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Vex(());

impl Ymm<Vex> {
    /// The proof, if this CPU can give it.
    pub fn detect() -> Option<Self> {
        Avx2::detect()?;
        (is_x86_feature_detected!("avxvnni")).then_some(Self(Vex(())))
    }
}

impl Products for Vex {
    const NAME: &'static str = "avxvnni";
    const PAIRS: bool = false;

    #[inline(always)]
    fn call<T: Task>(isa: Ymm<Self>, task: T) -> T::Out {
        #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
        #[inline(never)]
        fn outlined<T: Task>(isa: Ymm<Vex>, task: T) -> T::Out {
            task.run(isa)
        }
        // SAFETY: isa proves the features.
        unsafe { outlined(isa, task) }
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, weights: __m256i, inputs: __m256i, _largest: u32) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_dpbusd_avx_epi32(sums, weights, inputs) }
    }

    #[inline(always)]
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[__m256i; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        _largest: u32,
    ) {
        let product = |sum, row, input| {
            // SAFETY: self proves the instruction.
            unsafe { _mm256_dpbusd_avx_epi32(sum, row, input) }
        };
        // SAFETY: self proves AVX2, the caller the memory.
        unsafe { dot16(sums, weights, inputs, product) }
    }
}

/// Proof of AVX-512 VL and VNNI, and AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Evex(());

impl Ymm<Evex> {
    /// The proof, if this CPU can give it.
    pub fn detect() -> Option<Self> {
        Avx2::detect()?;
        (is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni"))
            .then_some(Self(Evex(())))
    }
}

impl Products for Evex {
    const NAME: &'static str = "avxvnni";
    const PAIRS: bool = false;

    #[inline(always)]
    fn call<T: Task>(isa: Ymm<Self>, task: T) -> T::Out {
        #[target_feature(enable = "avx512f,avx512vl,avx512vnni,avx2,fma,f16c")]
        #[inline(never)]
        fn outlined<T: Task>(isa: Ymm<Evex>, task: T) -> T::Out {
            task.run(isa)
        }
        // SAFETY: isa proves the features.
        unsafe { outlined(isa, task) }
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, weights: __m256i, inputs: __m256i, _largest: u32) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_dpbusd_epi32(sums, weights, inputs) }
    }

    #[inline(always)]
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[__m256i; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        _largest: u32,
    ) {
        let product = |sum, row, input| {
            // SAFETY: self proves the instruction.
            unsafe { _mm256_dpbusd_epi32(sum, row, input) }
        };
        // SAFETY: self proves AVX2, the caller the memory.
        unsafe { dot16(sums, weights, inputs, product) }
    }
}
