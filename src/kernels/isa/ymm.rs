//! 256-bit vectors: 8 lanes, 16 registers, the instructions of AVX2, FMA and F16C.
//!
//! How bytes are multiplied is a parameter, since that is where AVX2 alone (`avx2.rs`) and AVX-VNNI (`avxvnni.rs`) differ.

use super::{Isa, Task};
use std::arch::x86_64::*;

const LANES: usize = 8;

/// How a 256-bit instruction set multiplies bytes. A value proves that this CPU has the instructions, and AVX2, FMA and F16C.
pub trait Products: Copy + Send + Sync + 'static {
    /// See [`Isa::NAME`].
    const NAME: &'static str;
    /// See [`Isa::PAIRS`].
    const PAIRS: bool;
    /// See [`Isa::call`].
    fn call<T: Task>(isa: Ymm<Self>, task: T) -> T::Out;
    /// See [`Isa::dot`].
    fn dot(self, sums: __m256i, weights: __m256i, inputs: __m256i, largest: u32) -> __m256i;
    /// See [`Isa::dot16`].
    /// # Safety
    /// See [`Isa::dot16`].
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[__m256i; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        largest: u32,
    );
}

/// An instruction set of 256-bit vectors.
#[derive(Clone, Copy, Debug)]
pub struct Ymm<P>(pub P);

/// 16 bytes of rows `first` and `first + 4`.
/// # Safety
/// As for [`Isa::columns`], on a CPU with AVX2.
#[inline(always)]
unsafe fn two_rows(rows: *const u8, stride: usize, first: usize) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let low = _mm_loadu_si128(rows.add(first * stride).cast());
        let high = _mm_loadu_si128(rows.add((first + 4) * stride).cast());
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
    }
}

/// The same vector, which the compiler knows nothing of: it would take sums in another order, for which there are too few registers, and two
/// thirds of the speed would be left. Not `pure`, because only then is the order of several such vectors kept.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn as_it_is(mut vector: __m256i) -> __m256i {
    // SAFETY: no instruction.
    unsafe {
        std::arch::asm!("/* {0} */", inout(ymm_reg) vector, options(nomem, nostack, preserves_flags));
    }
    vector
}

impl<P: Products> Isa for Ymm<P> {
    const NAME: &'static str = P::NAME;
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;
    const PAIRS: bool = P::PAIRS;
    type Floats = __m256;
    type Ints = __m256i;

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Out {
        P::call(self, task)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m256 {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const i8) -> __m256 {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        // SAFETY: self proves the instructions.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        // SAFETY: self proves the instructions.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn load_ints(self, from: *const u8) -> __m256i {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_ints(self, to: *mut u8, value: __m256i) {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm256_storeu_si256(to.cast(), value) }
    }
    #[inline(always)]
    unsafe fn store_as_bytes(self, to: *mut i8, value: __m256i) {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe {
            let high = _mm256_extracti128_si256::<1>(value);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(value), high);
            _mm_storel_epi64(to.cast(), _mm_packs_epi16(words, words));
        }
    }
    #[inline(always)]
    fn as_floats(self, a: __m256i) -> __m256 {
        // SAFETY: a cast, no instruction.
        unsafe { _mm256_castsi256_ps(a) }
    }
    #[inline(always)]
    fn as_ints(self, a: __m256) -> __m256i {
        // SAFETY: a cast, no instruction.
        unsafe { _mm256_castps_si256(a) }
    }
    #[inline(always)]
    fn nearest(self, a: __m256) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_cvtps_epi32(a) }
    }
    #[inline(always)]
    fn widen_f16(self, a: __m256i) -> __m256 {
        // SAFETY: self proves the instructions.
        unsafe {
            let low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
            let high = _mm256_extracti128_si256::<1>(low);
            _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), high))
        }
    }
    #[inline(always)]
    fn add_ints(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_ints(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn min_ints(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_min_epi32(a, b) }
    }
    #[inline(always)]
    fn max_ints(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_max_epi32(a, b) }
    }
    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn shift_left(self, a: __m256i, count: u32) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_sllv_epi32(a, _mm256_set1_epi32(count as i32)) }
    }
    #[inline(always)]
    fn shift_left_each(self, a: __m256i, counts: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_sllv_epi32(a, counts) }
    }
    #[inline(always)]
    fn shift_right(self, a: __m256i, count: u32) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_srlv_epi32(a, _mm256_set1_epi32(count as i32)) }
    }
    #[inline(always)]
    fn sum_ints(self, a: __m256i) -> i32 {
        // SAFETY: self proves the instructions.
        unsafe {
            let four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        }
    }
    #[inline(always)]
    fn largest_int(self, a: __m256i) -> i32 {
        // SAFETY: self proves the instructions.
        unsafe {
            let four = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        }
    }

    #[inline(always)]
    unsafe fn columns(self, rows: *const u8, stride: usize) -> [__m256i; 4] {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe {
            let a = two_rows(rows, stride, 0);
            let b = two_rows(rows, stride, 1);
            let c = two_rows(rows, stride, 2);
            let d = two_rows(rows, stride, 3);
            let ab_low = _mm256_unpacklo_epi32(a, b);
            let ab_high = _mm256_unpackhi_epi32(a, b);
            let cd_low = _mm256_unpacklo_epi32(c, d);
            let cd_high = _mm256_unpackhi_epi32(c, d);
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }
    #[inline(always)]
    unsafe fn pieces(self, from: *const u8, stride: usize) -> __m256i {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe {
            let low = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
            _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(from.add(stride).cast()))
        }
    }
    #[inline(always)]
    fn sums_of_four(self, [a, b, c, d]: [__m256i; 4]) -> __m256i {
        // SAFETY: self proves the instructions.
        unsafe { _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d)) }
    }
    #[inline(always)]
    fn turn_quarters(self, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        // SAFETY: self proves the instructions.
        unsafe {
            let low = _mm256_permute2x128_si256::<0x20>(a, b);
            [low, _mm256_permute2x128_si256::<0x31>(a, b), c, d]
        }
    }
    #[inline(always)]
    fn table(self, entries: &[i8; 16]) -> __m256i {
        // SAFETY: self proves the instruction; a reference to 16 bytes is readable.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(entries.as_ptr().cast())) }
    }
    #[inline(always)]
    fn look_up_low(self, table: __m256i, index: __m256i) -> __m256i {
        // SAFETY: self proves the instructions.
        unsafe { _mm256_shuffle_epi8(table, _mm256_and_si256(index, _mm256_set1_epi8(15))) }
    }
    #[inline(always)]
    fn look_up_high(self, table: __m256i, index: __m256i) -> __m256i {
        // SAFETY: self proves the instructions.
        unsafe {
            let index = _mm256_and_si256(_mm256_srli_epi16::<4>(index), _mm256_set1_epi8(15));
            _mm256_shuffle_epi8(table, index)
        }
    }
    #[inline(always)]
    fn add_bytes(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_add_epi8(a, b) }
    }
    #[inline(always)]
    fn spread_bits(self, a: __m256i, first: u32) -> __m256i {
        // SAFETY: self proves the instructions.
        unsafe {
            // The byte that holds the four bits, four times over, then one of the bits of each copy.
            let byte = _mm256_set1_epi32((first / 8 * 0x01010101) as i32);
            let lane =
                _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
            let spread = _mm256_shuffle_epi8(a, _mm256_or_si256(lane, byte));
            let wanted = _mm256_set1_epi32((0x08040201u32 << (first % 8)) as i32);
            let found = _mm256_cmpeq_epi8(_mm256_and_si256(spread, wanted), wanted);
            _mm256_and_si256(found, _mm256_set1_epi8(1))
        }
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, weights: __m256i, inputs: __m256i, largest: u32) -> __m256i {
        self.0.dot(sums, weights, inputs, largest)
    }

    #[inline(always)]
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[__m256i; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        largest: u32,
    ) {
        // SAFETY: the caller's promises are the same.
        unsafe { self.0.dot16(sums, weights, inputs, largest) }
    }

    #[inline(always)]
    unsafe fn pairs16<const G: usize, const T: usize>(
        self,
        sums: &mut [[__m256i; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
    ) {
        for column in 0..4 {
            // SAFETY: self proves the instructions, the caller the memory.
            unsafe {
                let mut tokens = [_mm256_setzero_si256(); T];
                for t in 0..T {
                    let input = inputs[t].cast::<i32>().add(column).read_unaligned();
                    tokens[t] = _mm256_set1_epi32(input);
                }
                for g in 0..G {
                    let row = _mm256_load_si256(weights[g].add(column * 32).cast());
                    for t in 0..T {
                        sums[g][t] = as_it_is(self.pairs(sums[g][t], row, tokens[t]));
                    }
                }
            }
        }
    }
    #[inline(always)]
    fn pairs(self, sums: __m256i, weights: __m256i, inputs: __m256i) -> __m256i {
        // SAFETY: self proves the instructions.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, inputs)) }
    }
    #[inline(always)]
    fn sums_of_four_pairs(self, vectors: [__m256i; 4]) -> __m256i {
        // SAFETY: self proves the instructions.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            // A lane's sum fits into 16 bits, so that two vectors fit into one: fewer instructions than three horizontal additions.
            let two = |a, b| {
                let (a, b) = (_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
                _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones)
            };
            let [a, b, c, d] = vectors;
            _mm256_hadd_epi32(two(a, b), two(c, d))
        }
    }
    #[inline(always)]
    fn add_pairs(self, pairs: __m256i, factors: __m256i) -> __m256i {
        // SAFETY: self proves the instruction.
        unsafe { _mm256_madd_epi16(pairs, factors) }
    }
}
