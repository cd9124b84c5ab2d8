//! One token times rows of plain 32-column blocks, such as MXFP4 and Q8_0: what decoding spends its time on.
//!
//! Lanes run along the rows, four at a time (with AVX2 eight): a lane holds four products of bytes, four lanes a block, and the lanes of a block are
//! added up at once. Then the sums are turned, so that lanes are rows, and enter the same fmas in the same order as in [`super::panel`]:
//! integers add up to the same number in any order, so the results have the same bits.
//!
//! Unpacking costs 20 instructions for 16 blocks where turning the bytes of 16 rows, as [`super::single`] does, costs 50; and what
//! is read lies in a few pages instead of seven. With both leads of `along/fetch.rs`, memory is read at 87 to 100 % of the rate of a pure read loop where
//! bytes are multiplied in one instruction; AVX2 is bound by instructions.

mod fetch;

use super::activations::{Record, away};
use super::isa::{Isa, Task};
use super::panel::{CHUNK, MAGIC, Panel, ROWS, in_pairs, start};
use super::powers;
use super::weight::{Class, Codes, STEP, Weight};
use fetch::{EIGHT, Fetch};

/// Steps of a row whose sums are kept at a time, 8 KiB for 16 rows. Rows of 2880 and 4096 columns pass in one go.
const SPAN: usize = 128;

/// One token times the rows of a panel.
pub(super) struct Along<W> {
    pub panel: Panel,
    pub record: *const Record,
    /// A float for each row.
    pub results: *mut f32,
    pub weight: std::marker::PhantomData<W>,
}

/// What is kept of a span. A vector holds `LANES / 4` blocks.
#[repr(C, align(64))]
struct Kept {
    /// For each vector the first sixteen values of its blocks, the last sixteen, and what the sums start from, in each block's first lane.
    input: [u8; SPAN * 3 * 16],
    /// For each step, the sums of `LANES` rows.
    sums: [u8; SPAN * 16 * 4],
    /// For each step, the raw scales of `LANES` rows.
    scales: [u32; SPAN * 16],
}

/// A part of the rows' steps and where to keep what.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    steps: usize,
    kept: *mut Kept,
}

impl Span {
    #[inline(always)]
    fn vectors<I: Isa>(self) -> usize {
        self.steps.div_ceil(I::LANES / 4)
    }

    /// The first step of a vector, counted from the span's: the last vector overlaps the one before it, so that all are full.
    #[inline(always)]
    fn step<I: Isa>(self, vector: usize) -> usize {
        (vector * (I::LANES / 4)).min(self.steps - I::LANES / 4)
    }

    /// Where the sums of a step are kept. Until they are turned, those of a vector's steps lie there row by row, four rows at a time.
    /// # Safety
    /// The span has that step.
    #[inline(always)]
    unsafe fn sums(self, lanes: usize, step: usize) -> *mut u8 {
        // SAFETY: promised by the caller, and `kept` has room for a span.
        unsafe {
            (&raw mut (*self.kept).sums)
                .cast::<u8>()
                .add(step * 4 * lanes)
        }
    }

    /// Turns the sums of all vectors.
    /// # Safety
    /// They are kept.
    #[inline(always)]
    unsafe fn turn<I: Isa>(self, isa: I) {
        let blocks = I::LANES / 4;
        for vector in 0..self.vectors::<I>() {
            // SAFETY: promised by the caller. What the last vector shares with the one before is written twice.
            unsafe {
                let mut sums = [isa.splat_int(0); 4];
                for four in 0..blocks {
                    sums[four] = isa.load_ints(self.sums(I::LANES, vector * blocks + four));
                }
                self.store_turned(isa, vector, sums);
            }
        }
    }

    /// Keeps the sums of a vector, four rows in each of `sums`.
    /// # Safety
    /// The span has that vector.
    #[inline(always)]
    unsafe fn store_turned<I: Isa>(self, isa: I, vector: usize, sums: [I::Ints; 4]) {
        let sums = isa.turn_quarters(sums);
        for block in 0..I::LANES / 4 {
            // SAFETY: promised by the caller.
            unsafe {
                let to = self.sums(I::LANES, self.step::<I>(vector) + block);
                isa.store_ints(to, sums[block]);
            }
        }
    }
}

impl<W: Weight> Task for Along<W> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut kept = std::mem::MaybeUninit::<Kept>::uninit();
        let kept = kept.as_mut_ptr();
        let whole = self.panel.steps;
        // Spans of whole chunks and almost equal length: a short last one could have fewer blocks than a vector holds.
        let (chunks, spans) = (whole.div_ceil(CHUNK), whole.div_ceil(SPAN));
        for index in 0..spans {
            let at = |index: usize| whole.min(chunks * index / spans * CHUNK);
            let (first, end) = (at(index), at(index + 1));
            let steps = end - first;
            let span = Span { first, steps, kept };
            // SAFETY: the caller of `multiply` promises the panel and the records; `kept` has room for a span.
            unsafe {
                self.keep_input(isa, span);
                for top in (0..ROWS).step_by(I::LANES) {
                    let fetch = |row, rows| Fetch::new::<I>(self.panel, span, row, rows);
                    // What is done once for all rows weighs less with eight of them than with four.
                    if I::PAIRS {
                        let mut fetch = fetch(top, EIGHT);
                        self.sum_rows::<I, 2>(isa, span, top, &mut fetch);
                        self.add_up(isa, span, top, |step| fetch.with_step::<W>(step));
                    } else {
                        for row in (top..top + I::LANES).step_by(4) {
                            self.sum_rows::<I, 1>(isa, span, row, &mut fetch(row, 4));
                        }
                        span.turn(isa);
                        self.add_up(isa, span, top, |_| ());
                    }
                }
            }
        }
    }
}

impl<W: Weight> Along<W> {
    /// # Safety
    /// The record and its followers are as many as the panel has steps, and `kept` may be written.
    #[inline(always)]
    unsafe fn keep_input<I: Isa>(&self, isa: I, span: Span) {
        for vector in 0..span.vectors::<I>() {
            // SAFETY: promised by the caller.
            unsafe {
                let to = (&raw mut (*span.kept).input).cast::<u8>();
                let to = to.add(vector * 12 * I::LANES);
                let records = self.record.add(span.first + span.step::<I>(vector));
                let values = (&raw const (*records).values).cast::<u8>();
                for half in 0..2 {
                    let values = isa.pieces(values.add(half * 16), size_of::<Record>());
                    isa.store_ints(to.add(half * 4 * I::LANES), values);
                }
                let starts = to.add(8 * I::LANES).cast::<[i32; 4]>();
                for block in 0..I::LANES / 4 {
                    let start = start::<I, W::Class>(records.add(block), 0, false);
                    starts.add(block).write([start, 0, 0, 0]);
                }
            }
        }
    }

    /// Keeps the sums and raw scales of rows `row..row + 4 * FOURS` of the panel.
    /// # Safety
    /// The panel is readable and the span's input kept.
    #[inline(always)]
    unsafe fn sum_rows<I: Isa, const FOURS: usize>(
        &self,
        isa: I,
        span: Span,
        row: usize,
        fetch: &mut Fetch,
    ) {
        let Panel { rows, stride, .. } = self.panel;
        let top = rows.wrapping_add(row * stride);
        for vector in 0..span.vectors::<I>() {
            if !I::PAIRS {
                fetch.with_vector();
            }
            let step = span.step::<I>(vector);
            // SAFETY: promised by the caller.
            unsafe {
                let input = (&raw const (*span.kept).input).cast::<u8>();
                let input = input.add(vector * 12 * I::LANES);
                let values = [0, 4].map(|at| isa.load_ints(input.add(at * I::LANES)));
                let starts = isa.load_ints(input.add(8 * I::LANES));
                let scales = (&raw mut (*span.kept).scales).cast::<u32>();
                let scales = scales.add(step * I::LANES + row % I::LANES);
                let mut fours = [starts; 4];
                for four in 0..FOURS {
                    let mut sums = [starts; 4];
                    for index in 0..4 {
                        let row = top.add((four * 4 + index) * stride);
                        if I::PAIRS {
                            fetch.with_row::<W>(four * 4 + index);
                        }
                        let weights = W::along(isa, row, span.first + step);
                        sums[index] = if in_pairs::<I, W::Class>() {
                            let first = isa.pairs(isa.splat_int(0), weights[0], values[0]);
                            isa.pairs(first, weights[1], values[1])
                        } else {
                            let first = isa.dot(starts, weights[0], values[0], W::Class::LARGEST);
                            isa.dot(first, weights[1], values[1], W::Class::LARGEST)
                        };
                        let scales = scales.add(four * 4 + index);
                        let codes = Codes {
                            scales,
                            minima: scales,
                            stride: I::LANES,
                        };
                        W::codes(row, span.first + step, I::LANES / 4, codes);
                    }
                    fours[four] = if in_pairs::<I, W::Class>() {
                        isa.sums_of_four_pairs(sums)
                    } else {
                        isa.sums_of_four(sums)
                    };
                }
                if 4 * FOURS == I::LANES {
                    span.store_turned(isa, vector, fours);
                } else {
                    let at = vector * (I::LANES / 4) + row % I::LANES / 4;
                    isa.store_ints(span.sums(I::LANES, at), fours[0]);
                }
            }
        }
    }

    /// Adds the span of rows `top..top + LANES` to the results, and does something with each step of a chunk.
    /// # Safety
    /// Their sums and scales are kept, and the results writable.
    #[inline(always)]
    unsafe fn add_up<I: Isa>(
        &self,
        isa: I,
        span: Span,
        top: usize,
        mut with_step: impl FnMut(usize),
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let results = self.results.add(top);
            let mut total = isa.splat(0.0);
            if span.first > 0 {
                total = isa.load(results);
            }
            let scales = (&raw const (*span.kept).scales).cast::<u32>();
            for first in (0..span.steps).step_by(CHUNK) {
                let steps = CHUNK.min(span.steps - first);
                let records = self.record.add(span.first + first);
                let scales = scales.add(first * I::LANES);
                let (mut base, mut in_chunk) = (isa.splat_int(0), total);
                if W::Class::POWERS {
                    base = powers::base(isa, scales, steps).exponent;
                    in_chunk = isa.splat(away(records, span.first + first, self.panel.steps));
                }
                for step in 0..steps {
                    with_step(step);
                    let record = records.add(step);
                    let mut dot = isa.load_ints(span.sums(I::LANES, first + step));
                    if in_pairs::<I, W::Class>() {
                        let start = start::<I, W::Class>(record, 0, false);
                        dot = isa.add_ints(dot, isa.splat_int(start));
                    }
                    let dot = isa.as_floats(dot);
                    let code = isa.load_ints(scales.add(step * I::LANES).cast());
                    let input_scale = isa.splat((*record).scale);
                    if W::Class::POWERS {
                        let value = powers::value(isa, dot, code, base);
                        in_chunk = isa.fma(value, input_scale, in_chunk);
                    } else {
                        let scale = W::scale(isa, code);
                        let away = isa.mul(scale, isa.splat(-MAGIC));
                        total = isa.fma(isa.fma(dot, scale, away), input_scale, total);
                    }
                }
                if W::Class::POWERS {
                    total = isa.fma(in_chunk, W::scale(isa, base), total);
                }
            }
            isa.store(results, total);
        }
    }
}

const _: () = assert!(STEP == 32, "four lanes of four products and two halves");
