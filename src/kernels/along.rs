//! One token times rows of plain 32-column blocks, such as MXFP4 and Q8_0: what decoding spends its time on.
//!
//! Lanes run along the rows, four at a time: a lane holds four products of bytes, four lanes a block, and the lanes of a block are
//! added up at once. Then the sums are turned, so that lanes are rows, and enter the same fmas in the same order as in [`super::panel`]:
//! integers add up to the same number in any order, so the results have the same bits.
//!
//! Unpacking costs 20 instructions for 16 blocks where turning the bytes of 16 rows, as [`super::single`] does, costs 50; and what
//! is read lies in a few pages instead of seven. With both leads below, memory is read at 87 to 100 % of the rate of a pure read loop.

use super::activations::{Record, away};
use super::isa::{Isa, Task, prefetch, prefetch_near};
use super::panel::{CHUNK, MAGIC, Panel, ROWS, start};
use super::powers;
use super::weight::{Class, Codes, STEP, Weight};

/// Steps of a row whose sums are kept at a time, 8 KiB for 16 rows. Rows of 2880 and 4096 columns pass in one go.
const SPAN: usize = 128;

/// Rows that the first-level cache is ahead, and the second-level cache. One of the two alone loses a fifth of the speed.
const NEAR: usize = 4;
const FAR: usize = 16;

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
    /// For each vector and four rows, the sums of each block of each row.
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

    /// Where the sums of a vector and its `four`-th four rows are kept.
    /// # Safety
    /// The span has that vector, and `LANES` rows that many fours.
    #[inline(always)]
    unsafe fn sums<I: Isa>(self, vector: usize, four: usize) -> *mut u8 {
        // SAFETY: promised by the caller, and `kept` has room for a span.
        unsafe {
            let sums = (&raw mut (*self.kept).sums).cast::<u8>();
            sums.add((vector * (I::LANES / 4) + four) * 4 * I::LANES)
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
                    for row in (top..top + I::LANES).step_by(4) {
                        self.sum_rows(isa, span, row);
                    }
                    self.add_up(isa, span, top);
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

    /// Keeps the sums and raw scales of rows `row..row + 4` of the panel.
    /// # Safety
    /// The panel is readable and the span's input kept.
    #[inline(always)]
    unsafe fn sum_rows<I: Isa>(&self, isa: I, span: Span, row: usize) {
        let Panel { rows, stride, .. } = self.panel;
        let top = rows.wrapping_add(row * stride);
        // Every line of these rows once: with a twentieth of them left to the hardware 5 % of the speed is lost.
        // That is a broken number for each vector, here in 65536ths.
        let lines = (4 * span.steps * stride / self.panel.steps).div_ceil(64);
        let each = (lines << 16).div_ceil(span.vectors::<I>());
        let mut due = 0;
        let mut ahead = [NEAR, FAR].map(|lead| match (row + lead).checked_sub(ROWS) {
            None => top.wrapping_add(lead * stride),
            Some(beyond) => self.panel.next.wrapping_add(beyond * stride),
        });
        if span.first > 0 {
            ahead = ahead.map(|line| line.wrapping_add(span.first * stride / self.panel.steps));
        }
        for vector in 0..span.vectors::<I>() {
            let fetched = due >> 16;
            due += each;
            for _ in fetched..due >> 16 {
                prefetch_near(ahead[0]);
                prefetch(ahead[1]);
                ahead = ahead.map(|line| line.wrapping_add(64));
            }
            let step = span.step::<I>(vector);
            // SAFETY: promised by the caller.
            unsafe {
                let input = (&raw const (*span.kept).input).cast::<u8>();
                let input = input.add(vector * 12 * I::LANES);
                let values = [0, 4].map(|at| isa.load_ints(input.add(at * I::LANES)));
                let mut sums = [isa.load_ints(input.add(8 * I::LANES)); 4];
                let scales = (&raw mut (*span.kept).scales).cast::<u32>();
                let scales = scales.add(step * I::LANES + row % I::LANES);
                for (index, sum) in sums.iter_mut().enumerate() {
                    let row = top.add(index * stride);
                    let weights = W::along(isa, row, span.first + step);
                    for half in 0..2 {
                        *sum = isa.dot(*sum, weights[half], values[half], W::Class::LARGEST);
                    }
                    let scales = scales.add(index);
                    let codes = Codes {
                        scales,
                        minima: scales,
                        stride: I::LANES,
                    };
                    W::codes(row, span.first + step, I::LANES / 4, codes);
                }
                let sum = isa.sums_of_four(sums);
                isa.store_ints(span.sums::<I>(vector, row % I::LANES / 4), sum);
            }
        }
    }

    /// Adds the span of rows `top..top + LANES` to the results.
    /// # Safety
    /// Their sums and scales are kept, and the results writable.
    #[inline(always)]
    unsafe fn add_up<I: Isa>(&self, isa: I, span: Span, top: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let results = self.results.add(top);
            let mut total = isa.splat(0.0);
            if span.first > 0 {
                total = isa.load(results);
            }
            let scales = (&raw const (*span.kept).scales).cast::<u32>();
            let (blocks, vectors) = (I::LANES / 4, span.vectors::<I>());
            let (mut base, mut in_chunk) = (isa.splat_int(0), total);
            for vector in 0..vectors {
                let mut sums = [isa.splat_int(0); 4];
                for four in 0..blocks {
                    sums[four] = isa.load_ints(span.sums::<I>(vector, four));
                }
                let sums = isa.turn_quarters(sums);
                let start = vector * blocks;
                if W::Class::POWERS && start.is_multiple_of(CHUNK) {
                    let steps = CHUNK.min(span.steps - start);
                    base = powers::base(isa, scales.add(start * I::LANES), steps).exponent;
                    let first = span.first + start;
                    let record = self.record.add(first);
                    in_chunk = isa.splat(away(record, first, self.panel.steps));
                }
                let step = span.step::<I>(vector);
                // The blocks that the last vector shares with the one before it are counted already.
                for block in start - step..blocks {
                    let dot = isa.as_floats(sums[block]);
                    let code = isa.load_ints(scales.add((step + block) * I::LANES).cast());
                    let record = self.record.add(span.first + step + block);
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
                let end = start + blocks;
                if W::Class::POWERS && (end.is_multiple_of(CHUNK) || vector + 1 == vectors) {
                    total = isa.fma(in_chunk, W::scale(isa, base), total);
                }
            }
            isa.store(results, total);
        }
    }
}

const _: () = assert!(STEP == 32, "four lanes of four products and two halves");
