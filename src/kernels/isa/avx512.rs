//! AVX-512 with VNNI and VBMI: 16 lanes, 32 registers, four products of bytes in one instruction.

use super::{Isa, Task};
use std::arch::x86_64::*;

const LANES: usize = 16;

/// Proof that this CPU has AVX-512 F, BW, VL, DQ, VNNI and VBMI.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, if this CPU can give it.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vbmi"))
        .then_some(Self(()))
    }
}

/// Four pieces of 16 bytes.
/// # Safety
/// As for [`Isa::pieces`], on a CPU with AVX-512.
#[inline(always)]
unsafe fn four_pieces(from: *const u8, stride: usize) -> __m512i {
    // SAFETY: promised by the caller.
    unsafe {
        let piece = |index: usize| _mm_loadu_si128(from.add(index * stride).cast());
        let out = _mm512_castsi128_si512(piece(0));
        let out = _mm512_inserti32x4::<1>(out, piece(1));
        let out = _mm512_inserti32x4::<2>(out, piece(2));
        _mm512_inserti32x4::<3>(out, piece(3))
    }
}

impl Isa for Avx512 {
    const NAME: &'static str = "avx512";
    const LANES: usize = LANES;
    const REGISTERS: usize = 32;
    const LOOKS_UP_SIX: bool = true;
    const PAIRS: bool = false;
    type Floats = __m512;
    type Ints = __m512i;

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Out {
        #[target_feature(
            enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c"
        )]
        #[inline(never)]
        fn outlined<T: Task>(isa: Avx512, task: T) -> T::Out {
            task.run(isa)
        }
        // SAFETY: self proves the features; AVX-512 implies the older ones.
        unsafe { outlined(self, task) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m512 {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const i8) -> __m512 {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        // SAFETY: self proves the instructions.
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        // SAFETY: self proves the instructions.
        unsafe { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn load_ints(self, from: *const u8) -> __m512i {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_ints(self, to: *mut u8, value: __m512i) {
        // SAFETY: self proves the instruction, the caller the memory.
        unsafe { _mm512_storeu_si512(to.cast(), value) }
    }
    #[inline(always)]
    unsafe fn store_as_bytes(self, to: *mut i8, value: __m512i) {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(value)) }
    }
    #[inline(always)]
    fn as_floats(self, a: __m512i) -> __m512 {
        // SAFETY: a cast, no instruction.
        unsafe { _mm512_castsi512_ps(a) }
    }
    #[inline(always)]
    fn as_ints(self, a: __m512) -> __m512i {
        // SAFETY: a cast, no instruction.
        unsafe { _mm512_castps_si512(a) }
    }
    #[inline(always)]
    fn nearest(self, a: __m512) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_cvtps_epi32(a) }
    }
    #[inline(always)]
    fn widen_f16(self, a: __m512i) -> __m512 {
        // SAFETY: self proves the instructions.
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)) }
    }
    #[inline(always)]
    fn add_ints(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_ints(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn min_ints(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_min_epi32(a, b) }
    }
    #[inline(always)]
    fn max_ints(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_max_epi32(a, b) }
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn shift_left(self, a: __m512i, count: u32) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_sllv_epi32(a, _mm512_set1_epi32(count as i32)) }
    }
    #[inline(always)]
    fn shift_left_each(self, a: __m512i, counts: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_sllv_epi32(a, counts) }
    }
    #[inline(always)]
    fn shift_right(self, a: __m512i, count: u32) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_srlv_epi32(a, _mm512_set1_epi32(count as i32)) }
    }
    #[inline(always)]
    fn repeat_byte(self, a: __m512i) -> __m512i {
        // SAFETY: self proves the instructions.
        unsafe {
            let lowest = _mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c);
            _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(lowest))
        }
    }
    #[inline(always)]
    fn sum_ints(self, a: __m512i) -> i32 {
        // SAFETY: self proves the instructions.
        unsafe { _mm512_reduce_add_epi32(a) }
    }
    #[inline(always)]
    fn largest_int(self, a: __m512i) -> i32 {
        // SAFETY: self proves the instructions.
        unsafe { _mm512_reduce_max_epi32(a) }
    }

    #[inline(always)]
    unsafe fn columns(self, rows: *const u8, stride: usize) -> [__m512i; 4] {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe {
            let a = four_pieces(rows, 4 * stride);
            let b = four_pieces(rows.add(stride), 4 * stride);
            let c = four_pieces(rows.add(2 * stride), 4 * stride);
            let d = four_pieces(rows.add(3 * stride), 4 * stride);
            let ab_low = _mm512_unpacklo_epi32(a, b);
            let ab_high = _mm512_unpackhi_epi32(a, b);
            let cd_low = _mm512_unpacklo_epi32(c, d);
            let cd_high = _mm512_unpackhi_epi32(c, d);
            [
                _mm512_unpacklo_epi64(ab_low, cd_low),
                _mm512_unpackhi_epi64(ab_low, cd_low),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store_bytes_of_rows(self, rows: *const u8, stride: usize, to: *mut u32) {
        // SAFETY: self proves the instructions, the caller the memory.
        unsafe {
            // Fifteen strides fit into an i32: `Matrix::new` sees to it.
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let at = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32));
            let bytes = _mm512_i32gather_epi32::<1>(at, rows.cast());
            _mm512_storeu_si512(to.cast(), _mm512_and_si512(bytes, _mm512_set1_epi32(255)));
        }
    }
    #[inline(always)]
    unsafe fn pieces(self, from: *const u8, stride: usize) -> __m512i {
        // SAFETY: promised by the caller.
        unsafe { four_pieces(from, stride) }
    }
    #[inline(always)]
    fn sums_of_four(self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        // SAFETY: self proves the instructions.
        unsafe {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        }
    }
    #[inline(always)]
    fn turn_quarters(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: self proves the instructions.
        unsafe {
            let ab_low = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
            let ab_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b);
            let cd_low = _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d);
            let cd_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d);
            [
                _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_low, cd_low),
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_low, cd_low),
                _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_high, cd_high),
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_high, cd_high),
            ]
        }
    }
    #[inline(always)]
    fn table(self, entries: &[i8; 16]) -> __m512i {
        // vpermb looks at six bits of an index: with the table written four times the upper two do not matter, and no mask is needed.
        // SAFETY: self proves the instruction; a reference to 16 bytes is readable.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(entries.as_ptr().cast())) }
    }
    #[inline(always)]
    fn look_up_six(self, table: &[u8; 64], index: __m512i) -> __m512i {
        // SAFETY: self proves the instructions, and the table has 64 bytes.
        unsafe {
            let table = _mm512_loadu_si512(table.as_ptr().cast());
            _mm512_permutexvar_epi8(index, table)
        }
    }
    #[inline(always)]
    fn look_up_low(self, table: __m512i, index: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_permutexvar_epi8(index, table) }
    }
    #[inline(always)]
    fn look_up_high(self, table: __m512i, index: __m512i) -> __m512i {
        // SAFETY: self proves the instructions.
        unsafe { _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(index), table) }
    }
    #[inline(always)]
    fn add_bytes(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_add_epi8(a, b) }
    }
    #[inline(always)]
    fn spread_bits(self, a: __m512i, first: u32) -> __m512i {
        // SAFETY: self proves the instructions.
        unsafe {
            // Byte i of a lane: the lane shifted down by first + i, whose lowest bit is the one wanted.
            let byte = _mm512_set1_epi32((first / 8 * 0x01010101) as i32);
            let lane =
                _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
            let spread = _mm512_shuffle_epi8(a, _mm512_or_si512(lane, byte));
            let wanted = _mm512_set1_epi32((0x08040201u32 << (first % 8)) as i32);
            _mm512_maskz_set1_epi8(_mm512_test_epi8_mask(spread, wanted), 1)
        }
    }

    #[inline(always)]
    fn dot(self, sums: __m512i, weights: __m512i, inputs: __m512i, _largest: u32) -> __m512i {
        // SAFETY: self proves the instruction.
        unsafe { _mm512_dpbusd_epi32(sums, weights, inputs) }
    }

    #[inline(always)]
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[__m512i; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        _largest: u32,
    ) {
        // Each input is broadcast once, by a load that needs no arithmetic port, and serves G vectors of rows. With the token in the
        // inner loop there are G * T sums to work on, more than the latency of vpdpbusd needs.
        for column in 0..4 {
            // SAFETY: self proves the instructions, the caller the memory.
            unsafe {
                let mut rows = [_mm512_setzero_si512(); G];
                for g in 0..G {
                    rows[g] = _mm512_load_si512(weights[g].add(column * 64).cast());
                }
                for t in 0..T {
                    let input = inputs[t].cast::<i32>().add(column).read_unaligned();
                    let input = _mm512_set1_epi32(input);
                    for g in 0..G {
                        sums[g][t] = _mm512_dpbusd_epi32(sums[g][t], rows[g], input);
                    }
                }
            }
        }
    }
}
