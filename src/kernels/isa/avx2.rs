//! AVX2 without the newer products of bytes: they are added in pairs to 16 bits.

#[cfg(doc)]
use super::Isa;
use super::Task;
use super::ymm::{Products, Ymm, as_it_is};
use std::arch::x86_64::*;

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Maddubs(());

/// AVX2 without the newer products.
pub type Avx2 = Ymm<Maddubs>;

impl Avx2 {
    /// The proof, if this CPU can give it.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(Maddubs(())))
    }
}

impl Products for Maddubs {
    const NAME: &'static str = "avx2";
    const PAIRS: bool = true;

    #[inline(always)]
    fn call<T: Task>(isa: Avx2, task: T) -> T::Out {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn outlined<T: Task>(isa: Avx2, task: T) -> T::Out {
            task.run(isa)
        }
        // SAFETY: isa proves the features.
        unsafe { outlined(isa, task) }
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, weights: __m256i, inputs: __m256i, largest: u32) -> __m256i {
        // SAFETY: self proves the instructions.
        unsafe {
            let pairs = if largest > 63 {
                let inputs = _mm256_sign_epi8(inputs, weights);
                _mm256_maddubs_epi16(_mm256_abs_epi8(weights), inputs)
            } else {
                _mm256_maddubs_epi16(weights, inputs)
            };
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[__m256i; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        largest: u32,
    ) {
        // A pair of products is at most 2 * 127 * largest: with weights to 31 four pairs fit into 16 bits, with weights to 63 two.
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut pairs = [[_mm256_setzero_si256(); T]; G];
            for column in 0..4 {
                for g in 0..G {
                    let row = _mm256_load_si256(weights[g].add(column * 32).cast());
                    for t in 0..T {
                        let input = inputs[t].cast::<i32>().add(column).read_unaligned();
                        let input = _mm256_set1_epi32(input);
                        let products = if largest > 63 {
                            // The sign of the weight moves to the input: |weight| <= 128, so a pair is at most 32512.
                            let input = _mm256_sign_epi8(input, row);
                            _mm256_maddubs_epi16(_mm256_abs_epi8(row), input)
                        } else {
                            _mm256_maddubs_epi16(row, input)
                        };
                        let fresh = column == 0 || largest > 63 || (largest > 31 && column == 2);
                        pairs[g][t] = if fresh {
                            products
                        } else {
                            as_it_is(_mm256_add_epi16(pairs[g][t], products))
                        };
                        if column == 3 || largest > 63 || (largest > 31 && column == 1) {
                            let four = _mm256_madd_epi16(pairs[g][t], ones);
                            sums[g][t] = as_it_is(_mm256_add_epi32(sums[g][t], four));
                        }
                    }
                }
            }
        }
    }
}
