//! Plain Rust: the specification that every other instruction set is compared with, and what runs on CPUs without their own file.

use super::{Isa, Task};
use half::f16;

/// No special instructions; always available. Eight lanes, and for tests sixteen: what is generic over them is run so on every CPU.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<const LANES: usize>;

#[inline(always)]
fn each<const LANES: usize, A: Copy, B: Copy, R: Copy + Default>(
    a: [A; LANES],
    b: [B; LANES],
    f: impl Fn(A, B) -> R,
) -> [R; LANES] {
    let mut out = [R::default(); LANES];
    for lane in 0..LANES {
        out[lane] = f(a[lane], b[lane]);
    }
    out
}

#[inline(always)]
fn each_byte<const LANES: usize>(
    a: [i32; LANES],
    b: [i32; LANES],
    f: impl Fn(u8, u8) -> u8,
) -> [i32; LANES] {
    each(a, b, |a, b| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        i32::from_le_bytes([f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])])
    })
}

impl<const LANES: usize> Isa for Scalar<LANES> {
    const NAME: &'static str = "scalar";
    const LANES: usize = LANES;
    const REGISTERS: usize = 2 * LANES;
    const LOOKS_UP_SIX: bool = LANES == 16;
    const PAIRS: bool = false;
    type Floats = [f32; LANES];
    type Ints = [i32; LANES];

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Out {
        #[inline(never)]
        fn outlined<const LANES: usize, T: Task>(isa: Scalar<LANES>, task: T) -> T::Out {
            task.run(isa)
        }
        outlined(self, task)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Floats {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::Floats {
        // SAFETY: the caller promises LANES readable floats.
        unsafe { from.cast::<Self::Floats>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Self::Floats) {
        // SAFETY: the caller promises LANES writable floats.
        unsafe { to.cast::<Self::Floats>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Self::Floats {
        // SAFETY: the caller promises LANES readable numbers.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const i8) -> Self::Floats {
        // SAFETY: the caller promises LANES readable bytes.
        let bytes = unsafe { from.cast::<[i8; LANES]>().read_unaligned() };
        bytes.map(f32::from)
    }
    #[inline(always)]
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        let mut out = c;
        for lane in 0..LANES {
            out[lane] = a[lane].mul_add(b[lane], c[lane]);
        }
        out
    }
    #[inline(always)]
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sum(self, a: Self::Floats) -> f32 {
        let (mut sums, mut count) = (a, LANES);
        while count > 1 {
            count /= 2;
            for lane in 0..count {
                sums[lane] += sums[lane + count];
            }
        }
        sums[0]
    }
    #[inline(always)]
    fn largest(self, a: Self::Floats) -> f32 {
        a.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::Ints {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load_ints(self, from: *const u8) -> Self::Ints {
        // SAFETY: the caller promises 4 * LANES readable bytes.
        unsafe { from.cast::<Self::Ints>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_ints(self, to: *mut u8, value: Self::Ints) {
        // SAFETY: the caller promises 4 * LANES writable bytes.
        unsafe { to.cast::<Self::Ints>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn store_as_bytes(self, to: *mut i8, value: Self::Ints) {
        let bytes = value.map(|value| value.clamp(-128, 127) as i8);
        // SAFETY: the caller promises LANES writable bytes.
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(bytes) }
    }
    #[inline(always)]
    fn as_floats(self, a: Self::Ints) -> Self::Floats {
        a.map(|a| f32::from_bits(a as u32))
    }
    #[inline(always)]
    fn as_ints(self, a: Self::Floats) -> Self::Ints {
        a.map(|a| a.to_bits() as i32)
    }
    #[inline(always)]
    fn nearest(self, a: Self::Floats) -> Self::Ints {
        a.map(|a| {
            let rounded = a.round_ties_even();
            if rounded.abs() < 2147483648.0 {
                rounded as i32
            } else {
                i32::MIN
            }
        })
    }
    #[inline(always)]
    fn widen_f16(self, a: Self::Ints) -> Self::Floats {
        a.map(|a| f16::from_bits(a as u16).to_f32())
    }
    #[inline(always)]
    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        each(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        each(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn min_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        each(a, b, i32::min)
    }
    #[inline(always)]
    fn max_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        each(a, b, i32::max)
    }
    #[inline(always)]
    fn and(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        each(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        each(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn shift_left(self, a: Self::Ints, count: u32) -> Self::Ints {
        a.map(|a| a << count)
    }
    #[inline(always)]
    fn shift_left_each(self, a: Self::Ints, counts: Self::Ints) -> Self::Ints {
        each(a, counts, |a, count| a << count)
    }
    #[inline(always)]
    fn shift_right(self, a: Self::Ints, count: u32) -> Self::Ints {
        a.map(|a| ((a as u32) >> count) as i32)
    }
    #[inline(always)]
    fn sum_ints(self, a: Self::Ints) -> i32 {
        a.iter().copied().fold(0, i32::wrapping_add)
    }
    #[inline(always)]
    fn largest_int(self, a: Self::Ints) -> i32 {
        a.iter().copied().fold(i32::MIN, i32::max)
    }

    #[inline(always)]
    unsafe fn columns(self, rows: *const u8, stride: usize) -> [Self::Ints; 4] {
        let mut out = [[0; LANES]; 4];
        for row in 0..LANES {
            // SAFETY: the caller promises sixteen readable bytes in each row.
            let words = unsafe { rows.add(row * stride).cast::<[i32; 4]>().read_unaligned() };
            for (vector, word) in out.iter_mut().zip(words) {
                vector[row] = i32::from_le(word);
            }
        }
        out
    }
    #[inline(always)]
    unsafe fn pieces(self, from: *const u8, stride: usize) -> Self::Ints {
        let mut out = [0; LANES];
        for (index, piece) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            // SAFETY: the caller promises sixteen readable bytes in each piece.
            let words = unsafe { from.add(index * stride).cast::<[i32; 4]>().read_unaligned() };
            *piece = words.map(i32::from_le);
        }
        out
    }
    #[inline(always)]
    fn sums_of_four(self, vectors: [Self::Ints; 4]) -> Self::Ints {
        let mut out = [0; LANES];
        for (lane, out) in out.iter_mut().enumerate() {
            let four = &vectors[lane % 4][lane / 4 * 4..][..4];
            *out = four.iter().fold(0, |sum: i32, one| sum.wrapping_add(*one));
        }
        out
    }
    #[inline(always)]
    fn turn_quarters(self, vectors: [Self::Ints; 4]) -> [Self::Ints; 4] {
        let mut out = vectors;
        for (j, out) in out.iter_mut().enumerate().take(LANES / 4) {
            for (i, quarter) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                quarter.copy_from_slice(&vectors[i][4 * j..][..4]);
            }
        }
        out
    }
    #[inline(always)]
    fn table(self, entries: &[i8; 16]) -> Self::Ints {
        let mut out = [0; LANES];
        for (lane, bytes) in out
            .iter_mut()
            .zip(entries.as_chunks::<4>().0.iter().cycle())
        {
            *lane = i32::from_le_bytes(bytes.map(|byte| byte as u8));
        }
        out
    }
    #[inline(always)]
    fn look_up_six(self, table: &[u8; 64], index: Self::Ints) -> Self::Ints {
        each_byte(index, index, |index, _| table[usize::from(index & 63)])
    }
    #[inline(always)]
    fn look_up_low(self, table: Self::Ints, index: Self::Ints) -> Self::Ints {
        each_byte(index, index, |index, _| {
            let entry = usize::from(index & 15);
            table[entry / 4].to_le_bytes()[entry % 4]
        })
    }
    #[inline(always)]
    fn look_up_high(self, table: Self::Ints, index: Self::Ints) -> Self::Ints {
        each_byte(index, index, |index, _| {
            let entry = usize::from(index >> 4);
            table[entry / 4].to_le_bytes()[entry % 4]
        })
    }
    #[inline(always)]
    fn add_bytes(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        each_byte(a, b, u8::wrapping_add)
    }
    #[inline(always)]
    fn spread_bits(self, a: Self::Ints, first: u32) -> Self::Ints {
        a.map(|a| {
            let bit = |i: u32| ((a as u32) >> (first + i) & 1) << (8 * i);
            (bit(0) | bit(1) | bit(2) | bit(3)) as i32
        })
    }

    #[inline(always)]
    fn dot(
        self,
        mut sums: Self::Ints,
        weights: Self::Ints,
        inputs: Self::Ints,
        _largest: u32,
    ) -> Self::Ints {
        for lane in 0..LANES {
            let bytes = weights[lane].to_le_bytes().into_iter();
            for (weight, input) in bytes.zip(inputs[lane].to_le_bytes()) {
                sums[lane] = sums[lane].wrapping_add(i32::from(weight) * i32::from(input as i8));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[Self::Ints; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        _largest: u32,
    ) {
        for (sums, weights) in sums.iter_mut().zip(weights) {
            for (sums, input) in sums.iter_mut().zip(inputs) {
                for column in 0..16 {
                    // SAFETY: the caller promises 16 readable bytes at each input.
                    let input = i32::from(unsafe { *input.add(column) });
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        let at = (column / 4 * LANES + lane) * 4 + column % 4;
                        // SAFETY: at < 16 * LANES, which the caller promises readable.
                        let weight = i32::from(unsafe { *weights.add(at) });
                        *sum = sum.wrapping_add(weight * input);
                    }
                }
            }
        }
    }
}
