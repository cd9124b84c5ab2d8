//! What a kernel may ask of an instruction set: operations on vectors of 8 or 16 lanes.
//!
//! A value that implements [`Isa`] is a proof: it exists only if this CPU has the instructions, so its methods may use them.
//! Generic code takes such a value, is marked `#[inline(always)]`, and becomes machine code inside [`Isa::call`], the one function of each
//! instruction set that carries `#[target_feature]`. Intrinsics live in this folder and nowhere else.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod avxvnni;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
pub mod ymm;

/// Work that is generic over the instruction set. `run` must be `#[inline(always)]`.
pub trait Task {
    /// What the work returns.
    type Out;
    /// Does the work with the instructions of `isa`.
    fn run<I: Isa>(self, isa: I) -> Self::Out;
}

/// The operations of one instruction set; see the module's description.
///
/// Everything but [`Isa::sum`], whose order depends on the lanes, gives the same bits on every instruction set.
pub trait Isa: Copy + Send + Sync + 'static {
    /// The name that `FOURFOLD_ISA` takes and reports print.
    const NAME: &'static str;
    /// 32-bit lanes of a vector: 8 or 16.
    const LANES: usize;
    /// Vector registers, which bounds the tile of the matrix product.
    const REGISTERS: usize;
    /// Whether [`Isa::look_up_six`] is one instruction.
    const LOOKS_UP_SIX: bool = false;
    /// Whether products of bytes are added in pairs to 16 bits, as AVX2 does. Weights of eight bits are signed then, because no product with
    /// unsigned ones is exact, and else moved up by 128; weights of five bits have [`Isa::pairs16`].
    const PAIRS: bool;

    /// A vector of `f32`.
    type Floats: Copy;
    /// A vector of `i32`, or of four times as many bytes.
    type Ints: Copy;

    /// Runs `task` as a function of its own, compiled for this instruction set.
    fn call<T: Task>(self, task: T) -> T::Out;

    /// The same number in every lane.
    fn splat(self, value: f32) -> Self::Floats;
    /// Reads one vector.
    /// # Safety
    /// `LANES` floats are readable at `from`.
    unsafe fn load(self, from: *const f32) -> Self::Floats;
    /// Writes one vector.
    /// # Safety
    /// `LANES` floats are writable at `to`.
    unsafe fn store(self, to: *mut f32, value: Self::Floats);
    /// Reads one vector of IEEE binary16 numbers.
    /// # Safety
    /// `LANES` 16-bit numbers are readable at `from`.
    unsafe fn load_f16(self, from: *const u16) -> Self::Floats;
    /// Reads one vector of signed bytes.
    /// # Safety
    /// `LANES` bytes are readable at `from`.
    unsafe fn load_bytes(self, from: *const i8) -> Self::Floats;
    /// a + b
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a - b
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a / b
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b + c, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The larger one; `b` where either is NaN.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The smaller one; `b` where either is NaN.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The sum of all lanes.
    fn sum(self, a: Self::Floats) -> f32;
    /// The largest lane.
    fn largest(self, a: Self::Floats) -> f32;

    /// The same integer in every lane.
    fn splat_int(self, value: i32) -> Self::Ints;
    /// Reads one vector.
    /// # Safety
    /// `4 * LANES` bytes are readable at `from`.
    unsafe fn load_ints(self, from: *const u8) -> Self::Ints;
    /// Writes one vector.
    /// # Safety
    /// `4 * LANES` bytes are writable at `to`.
    unsafe fn store_ints(self, to: *mut u8, value: Self::Ints);
    /// Writes the lanes as bytes, saturated.
    /// # Safety
    /// `LANES` bytes are writable at `to`.
    unsafe fn store_as_bytes(self, to: *mut i8, value: Self::Ints);
    /// The bits of integers read as floats.
    fn as_floats(self, a: Self::Ints) -> Self::Floats;
    /// The bits of floats read as integers.
    fn as_ints(self, a: Self::Floats) -> Self::Ints;
    /// Rounded to the nearest integer, ties to even; `i32::MIN` for what does not fit.
    fn nearest(self, a: Self::Floats) -> Self::Ints;
    /// The low 16 bits of each lane are an IEEE binary16 number.
    fn widen_f16(self, a: Self::Ints) -> Self::Floats;
    /// a + b, wrapping.
    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// a - b, wrapping.
    fn sub_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The smaller one, signed.
    fn min_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The larger one, signed.
    fn max_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Bits set in both.
    fn and(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Bits set in either.
    fn or(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Lanes shifted up by `count` < 32 bits.
    fn shift_left(self, a: Self::Ints, count: u32) -> Self::Ints;
    /// Each lane shifted up by its own count, 0 to 31.
    fn shift_left_each(self, a: Self::Ints, counts: Self::Ints) -> Self::Ints;
    /// Lanes shifted down by `count` < 32 bits, zeros entering.
    fn shift_right(self, a: Self::Ints, count: u32) -> Self::Ints;
    /// The lowest byte of each lane in all its four.
    #[inline(always)]
    fn repeat_byte(self, a: Self::Ints) -> Self::Ints {
        let low = self.and(a, self.splat_int(255));
        let two = self.or(low, self.shift_left(low, 8));
        self.or(two, self.shift_left(two, 16))
    }
    /// The sum of all lanes, wrapping.
    fn sum_ints(self, a: Self::Ints) -> i32;
    /// The largest lane, signed.
    fn largest_int(self, a: Self::Ints) -> i32;

    /// Sixteen bytes of each of `LANES` rows, turned: lane `r` of vector `j` holds bytes `4j..4j+4` of row `r`.
    /// # Safety
    /// Sixteen bytes are readable at `rows + r * stride` for every lane `r`.
    unsafe fn columns(self, rows: *const u8, stride: usize) -> [Self::Ints; 4];
    /// Writes one byte of each of `LANES` rows as an integer.
    /// # Safety
    /// Four bytes are readable at `rows + r * stride` for every lane `r`, and a vector is writable at `to`.
    #[inline(always)]
    unsafe fn store_bytes_of_rows(self, rows: *const u8, stride: usize, to: *mut u32) {
        for lane in 0..Self::LANES {
            // Volatile, or the compiler makes scatters of these stores, which cost five times as much.
            // SAFETY: promised by the caller.
            unsafe {
                to.add(lane)
                    .write_volatile(u32::from(*rows.add(lane * stride)))
            };
        }
    }
    /// A quarter of `LANES` pieces of sixteen bytes, one after the other.
    /// # Safety
    /// Sixteen bytes are readable at `from + i * stride` for every piece `i`.
    unsafe fn pieces(self, from: *const u8, stride: usize) -> Self::Ints;
    /// Sums of neighbours: lane `4 * i + r` is the sum of lanes `4 * i..4 * i + 4` of vector `r`.
    fn sums_of_four(self, vectors: [Self::Ints; 4]) -> Self::Ints;
    /// A square of quarters turned: quarter `i` of vector `j` becomes quarter `j` of vector `i`, a quarter being four lanes and the square
    /// as wide as a vector; vectors beyond that are ignored.
    fn turn_quarters(self, vectors: [Self::Ints; 4]) -> [Self::Ints; 4];
    /// Sixteen bytes as a table for the lookups.
    fn table(self, entries: &[i8; 16]) -> Self::Ints;
    /// The table's entry for the low six bits of each byte, where [`Isa::LOOKS_UP_SIX`].
    fn look_up_six(self, _table: &[u8; 64], _index: Self::Ints) -> Self::Ints {
        unreachable!("LOOKS_UP_SIX is false")
    }
    /// The table's entry for the low four bits of each byte.
    fn look_up_low(self, table: Self::Ints, index: Self::Ints) -> Self::Ints;
    /// The table's entry for the high four bits of each byte.
    fn look_up_high(self, table: Self::Ints, index: Self::Ints) -> Self::Ints;
    /// Bytewise a + b, wrapping.
    fn add_bytes(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Byte `i` of a lane is 1 if bit `first + i` of the lane is set, else 0. `first` <= 28.
    fn spread_bits(self, a: Self::Ints, first: u32) -> Self::Ints;

    /// Adds to each lane of `sums` four products of an unsigned byte of `weights` with a signed one of `inputs`; `largest` as with
    /// [`Isa::dot16`].
    fn dot(
        self,
        sums: Self::Ints,
        weights: Self::Ints,
        inputs: Self::Ints,
        largest: u32,
    ) -> Self::Ints;

    /// Sixteen columns of a tile of `G` vectors of rows and `T` tokens: adds to each `sums[g][t]` the products of the unsigned bytes at
    /// `weights[g]` (four vectors, four columns of each row apiece) with the sixteen signed bytes at `inputs[t]`.
    /// No weight is larger than `largest`; with [`Isa::PAIRS`] and `largest` 255 they are signed.
    /// # Safety
    /// `16 * LANES` bytes are readable at each of `weights`, which are aligned to a vector, and 16 bytes at each of `inputs`.
    unsafe fn dot16<const G: usize, const T: usize>(
        self,
        sums: &mut [[Self::Ints; T]; G],
        weights: [*const u8; G],
        inputs: [*const i8; T],
        largest: u32,
    );

    /// Where [`Isa::PAIRS`]: the same for weights up to 31, two sums of 16 bits in each lane, which wrap around.
    /// # Safety
    /// As for [`Isa::dot16`].
    unsafe fn pairs16<const G: usize, const T: usize>(
        self,
        _sums: &mut [[Self::Ints; T]; G],
        _weights: [*const u8; G],
        _inputs: [*const i8; T],
    ) {
        unreachable!("PAIRS is false")
    }
    /// Where [`Isa::PAIRS`]: adds to each 16 bits of `sums` two products of an unsigned byte of `weights`, up to 31, with a signed one of `inputs`.
    fn pairs(self, _sums: Self::Ints, _weights: Self::Ints, _inputs: Self::Ints) -> Self::Ints {
        unreachable!("PAIRS is false")
    }
    /// Where [`Isa::PAIRS`]: each lane's two numbers of 16 bits, times those of `factors`, added up.
    fn add_pairs(self, _pairs: Self::Ints, _factors: Self::Ints) -> Self::Ints {
        unreachable!("PAIRS is false")
    }
    /// Where [`Isa::PAIRS`]: as [`Isa::sums_of_four`] for lanes of two numbers of 16 bits, whose sums have no more.
    fn sums_of_four_pairs(self, _vectors: [Self::Ints; 4]) -> Self::Ints {
        unreachable!("PAIRS is false")
    }
}

/// Asks for the cache line at `address` in the second-level cache, which takes more requests at a time than the first; any address is fine.
#[inline(always)]
pub fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE belongs to every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the cache line at `address` in the first-level cache; any address is fine.
#[inline(always)]
pub fn prefetch_near(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE belongs to every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
