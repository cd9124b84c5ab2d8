//! The inputs of a matrix product: tokens quantized to eight bits, 32 columns with one scale.
//!
//! All that the products of one type or another need of 32 columns lies in one cache line, so a tile of tokens reads whole lines in order.

use super::isa::{Isa, Task};
use super::panel::{CHUNK, MAGIC, MAGIC_BITS};
use super::weight::{SCALE_UNIT, STEP};
use crate::threads::Pool;
use std::ops::Range;

/// 32 columns of one token.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Record {
    /// The quantized values, -127 to 127.
    pub values: [i8; STEP],
    /// The largest magnitude divided by 127, times 2^24 (see [`SCALE_UNIT`]); negative in every other record of a token, whose values are negated,
    /// which keeps sums over MAGIC times a scale small (see [`super::powers`]).
    pub scale: f32,
    /// What the sums of products start from, for weights moved up by 16: `MAGIC_BITS - 16 * sum of values`.
    pub start16: i32,
    /// The same for weights moved up by 128, which instruction sets of [`Isa::PAIRS`] do not have: there what sums of 16 bits start from, `-16 * sum`
    /// of columns 0 and 1 of each four in the low half, and of columns 2 and 3.
    pub start128: i32,
    /// The sum of the values times their scale, without 2^24: what a minimum is multiplied with.
    pub weighted: f32,
    /// `MAGIC_BITS - 32 * sum`, for each half.
    pub start32: [i32; 2],
    /// As `weighted`, for each half.
    pub weighted_halves: [f32; 2],
}
const _: () = assert!(size_of::<Record>() == 64);

const EMPTY: Record = Record {
    values: [0; STEP],
    scale: 0.0,
    start16: MAGIC_BITS,
    start128: MAGIC_BITS,
    weighted: 0.0,
    start32: [MAGIC_BITS; 2],
    weighted_halves: [0.0; 2],
};

/// Behind a token's records lies, for each chunk, `-MAGIC` times the sum of its records' scales. This many records they take.
const fn aways(steps: usize) -> usize {
    (steps.div_ceil(CHUNK) * size_of::<f32>()).div_ceil(size_of::<Record>())
}

/// That number for the chunk which starts with this record, the `first` of a token's `steps`.
/// # Safety
/// The record is readable, and so are those behind it.
#[inline(always)]
pub(super) unsafe fn away(record: *const Record, first: usize, steps: usize) -> f32 {
    // SAFETY: promised by the caller; aways are in whole records.
    unsafe { *record.add(steps - first).cast::<f32>().add(first / CHUNK) }
}

/// Below this magnitude 32 columns count as zero: far above 2^-121, where 127 divided by it would overflow.
const TINY: f32 = 1.0 / (1u128 << 100) as f32;

/// The tokens that go into a matrix product; the buffer is meant to be used again and again.
#[derive(Default)]
pub struct Activations {
    tokens: usize,
    columns: usize,
    /// Records from one token to the next: an odd number of cache lines, so that tokens do not share cache sets.
    stride: usize,
    records: Vec<Record>,
    keep_values: bool,
    values: Vec<f32>,
}

impl Activations {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to keep the values themselves from the next use on: weights in a float type need them.
    pub fn keep_values(&mut self, keep: bool) {
        self.keep_values = keep;
    }

    /// Tokens held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Columns of a token.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values themselves, if they were kept.
    pub(super) fn values(&self) -> Option<&[f32]> {
        let count = self.tokens * self.columns;
        (self.keep_values && self.values.len() >= count).then(|| &self.values[..count])
    }

    /// The records of all tokens and the distance between two tokens.
    pub(super) fn records(&self) -> (&[Record], usize) {
        (&self.records, self.stride)
    }

    /// Makes room for `tokens` tokens; what the records hold is arbitrary until written.
    pub(super) fn resize(&mut self, tokens: usize, columns: usize) {
        self.tokens = tokens;
        self.columns = columns;
        let steps = columns.div_ceil(STEP);
        self.stride = (steps + aways(steps)) | 1;
        let records = tokens * self.stride;
        if self.records.len() < records {
            self.records.resize(records, EMPTY);
        }
        if self.keep_values && self.values.len() < tokens * columns {
            self.values.resize(tokens * columns, 0.0);
        }
    }

    /// Access for workers that write different records at the same time.
    pub(super) fn writer(&mut self) -> Writer {
        Writer {
            records: self.records.as_mut_ptr(),
            values: self.keep_values.then_some(self.values.as_mut_ptr()),
            columns: self.columns,
            steps: self.columns.div_ceil(STEP),
            stride: self.stride,
        }
    }

    /// Takes `tokens` rows of `columns` values.
    pub(super) fn fill(
        &mut self,
        isa: super::dispatch::Chosen,
        pool: &Pool,
        x: &[f32],
        columns: usize,
    ) {
        let tokens = x.len() / columns.max(1);
        self.resize(tokens, columns);
        let writer = self.writer();
        self.each_token(pool, |tokens| isa.call(Fill { writer, x, tokens }));
    }

    /// Completes records that were written one by one.
    pub(super) fn settle(&mut self, pool: &Pool) {
        let writer = self.writer();
        self.each_token(pool, |tokens| {
            for token in tokens {
                // SAFETY: `resize` made room for every token, and each has one worker.
                unsafe { writer.settle(token) }
            }
        });
    }

    fn each_token(&self, pool: &Pool, work: impl Fn(Range<usize>) + Sync) {
        // A few records are not worth waking anybody.
        if self.tokens * self.columns < 2048 * STEP {
            work(0..self.tokens);
        } else {
            pool.run(|worker| work(pool.share(worker, self.tokens, 1)));
        }
    }
}

/// Writes single records; the workers see to it that no two write the same one.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    records: *mut Record,
    values: Option<*mut f32>,
    columns: usize,
    steps: usize,
    stride: usize,
}
// SAFETY: workers write disjoint records, as `set` demands.
unsafe impl Send for Writer {}
// SAFETY: as above.
unsafe impl Sync for Writer {}

impl Writer {
    /// Quantizes up to 32 columns of a token.
    /// # Safety
    /// The buffer has room for this token and step, nobody else writes them or reads them meanwhile, and `x` is no longer than the step.
    #[inline(always)]
    pub unsafe fn set<I: Isa>(self, isa: I, token: usize, step: usize, x: &[f32]) {
        let sign = if step.is_multiple_of(2) { 1.0 } else { -1.0 };
        let record = match x.first_chunk::<STEP>() {
            Some(whole) => quantize(isa, whole, sign),
            None => {
                let mut padded = [0.0; STEP];
                padded[..x.len()].copy_from_slice(x);
                quantize(isa, &padded, sign)
            }
        };
        // SAFETY: promised by the caller.
        unsafe {
            *self.records.add(token * self.stride + step) = record;
            if let Some(values) = self.values {
                let to = values.add(token * self.columns + step * STEP);
                to.copy_from_nonoverlapping(x.as_ptr(), x.len());
            }
        }
    }

    /// Completes a token whose records are all written.
    /// # Safety
    /// As for [`Writer::set`].
    pub unsafe fn settle(self, token: usize) {
        // SAFETY: promised by the caller; `resize` made room behind the records.
        unsafe {
            let records = self.records.add(token * self.stride);
            let aways = records.add(self.steps).cast::<f32>();
            for first in (0..self.steps).step_by(CHUNK) {
                let steps = first..self.steps.min(first + CHUNK);
                let sum: f32 = steps.map(|step| (*records.add(step)).scale).sum();
                aways.add(first / CHUNK).write(-MAGIC * sum);
            }
        }
    }
}

struct Fill<'a> {
    writer: Writer,
    x: &'a [f32],
    tokens: Range<usize>,
}

impl Task for Fill<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let columns = self.writer.columns;
        for token in self.tokens {
            let row = &self.x[token * columns..][..columns];
            // SAFETY: `fill` made room for every token and gives each to one worker.
            unsafe {
                for (step, x) in row.chunks(STEP).enumerate() {
                    self.writer.set(isa, token, step, x);
                }
                self.writer.settle(token);
            }
        }
    }
}

#[inline(always)]
fn quantize<I: Isa>(isa: I, x: &[f32; STEP], sign: f32) -> Record {
    let vectors = STEP / I::LANES;
    // As integers the magnitudes are in the same order, and NaN is above infinity: a NaN among the values reaches the scale.
    let mask = isa.splat_int(i32::MAX);
    let mut largest = isa.splat_int(0);
    for vector in 0..vectors {
        // SAFETY: the vectors make up the 32 columns.
        let x = unsafe { isa.load(x.as_ptr().add(vector * I::LANES)) };
        largest = isa.max_ints(largest, isa.and(isa.as_ints(x), mask));
    }
    let bits = isa.largest_int(largest) as u32;
    if bits < TINY.to_bits() {
        let start128 = start128::<I>(&EMPTY.values, 0);
        return Record { start128, ..EMPTY };
    }
    let largest = f32::from_bits(bits);
    let inverse = isa.splat(sign * 127.0 / largest);
    let mut values = [0; STEP];
    let mut sums = [0; 2];
    for vector in 0..vectors {
        let at = vector * I::LANES;
        // SAFETY: as above.
        let q = unsafe { isa.nearest(isa.mul(isa.load(x.as_ptr().add(at)), inverse)) };
        // SAFETY: as above.
        unsafe { isa.store_as_bytes(values.as_mut_ptr().add(at), q) };
        sums[at / 16] = i32::wrapping_add(sums[at / 16], isa.sum_ints(q));
    }
    let sum = sums[0].wrapping_add(sums[1]);
    let scale = sign * largest / 127.0;
    Record {
        values,
        scale: scale / SCALE_UNIT,
        start16: MAGIC_BITS.wrapping_sub(16i32.wrapping_mul(sum)),
        start128: start128::<I>(&values, sum),
        weighted: scale * sum as f32,
        start32: sums.map(|sum| MAGIC_BITS.wrapping_sub(32i32.wrapping_mul(sum))),
        weighted_halves: sums.map(|sum| scale * sum as f32),
    }
}

/// See [`Record::start128`]. `sum`: of all values.
#[inline(always)]
fn start128<I: Isa>(values: &[i8; STEP], sum: i32) -> i32 {
    if !I::PAIRS {
        return MAGIC_BITS.wrapping_sub(128i32.wrapping_mul(sum));
    }
    // By place in each four columns, which is what the compiler makes vectors of.
    let mut sums = [0i32; 4];
    for four in values.as_chunks::<4>().0 {
        for (sum, value) in sums.iter_mut().zip(four) {
            *sum += i32::from(*value);
        }
    }
    let [low, high] = [sums[0] + sums[1], sums[2] + sums[3]];
    ((-16 * low) & 0xffff) | ((-16 * high) << 16)
}
