//! What decoding asks memory for ahead of its use: the lines of the rows that come some rows later, in the order in which they lie.

use super::Span;
use crate::kernels::isa::{Isa, prefetch, prefetch_near};
use crate::kernels::panel::{CHUNK, Panel, ROWS};
use crate::kernels::weight::Weight;

/// Rows that the first-level cache is ahead, and the second-level cache. One of the two alone lost a fifth of the speed on Intel.
const NEAR: usize = 4;
const FAR: usize = 16;

/// With AVX2, rows that are summed up together, and that the first-level cache is ahead; the second-level cache needs no lead of its own there.
pub(super) const EIGHT: usize = 8;

/// Lines that are asked for with each vector of eight rows whose sums are made, which has two steps, and with each chunk that is added
/// up: all of the next eight rows'. Adding up takes a fifth of the time, in which memory would rest.
///
/// A Zen 3 waits for some twenty lines at a time and seems to forget what it is asked beyond that: a loop that only asks is done
/// three times as fast as memory is. So lines are asked for one by one between computations. All of a vector's at once, and all
/// of a chunk's, cost a tenth of the speed. Numbers known beforehand need no loop, which took a seventh.
const fn lines_of_eight<W: Weight>() -> [usize; 2] {
    let of_chunk = EIGHT * CHUNK * W::ALONG / 64;
    let of_vector = of_chunk * 3 / 16;
    [of_vector, of_chunk - CHUNK / 2 * of_vector]
}

/// Where the next lines are.
pub(super) struct Fetch {
    near: *const u8,
    far: *const u8,
    /// Lines for each vector, and how many were due up to now, in 65536ths.
    each: usize,
    due: usize,
}

impl Fetch {
    /// For `rows` rows from `row` of the panel on.
    #[inline(always)]
    pub fn new<I: Isa>(panel: Panel, span: Span, row: usize, rows: usize) -> Self {
        let later = |lead: usize| {
            let start = match (row + lead).checked_sub(ROWS) {
                None => panel.rows.wrapping_add((row + lead) * panel.stride),
                Some(beyond) => panel.next.wrapping_add(beyond * panel.stride),
            };
            start.wrapping_add(span.first * panel.stride / panel.steps)
        };
        let [near, far] = if I::PAIRS { [EIGHT; 2] } else { [NEAR, FAR] };
        // Every line of these rows once: with a twentieth of them left to the hardware 5 % of the speed is lost.
        let lines = (rows * span.steps * panel.stride / panel.steps).div_ceil(64);
        Self {
            near: later(near),
            far: later(far),
            each: (lines << 16).div_ceil(span.vectors::<I>()),
            due: 0,
        }
    }

    /// What is due with a vector whose sums are made.
    #[inline(always)]
    pub fn with_vector(&mut self) {
        let fetched = self.due >> 16;
        self.due += self.each;
        for _ in fetched..self.due >> 16 {
            self.fetch_near(1);
            prefetch(self.far);
            self.far = self.far.wrapping_add(64);
        }
    }

    /// What is due with one of eight rows of a vector.
    #[inline(always)]
    pub fn with_row<W: Weight>(&mut self, row: usize) {
        let lines = lines_of_eight::<W>()[0];
        self.fetch_near((row + 1) * lines / EIGHT - row * lines / EIGHT);
    }

    /// What is due with a step of a chunk of eight rows that is added up: a line with each, or each second one, and what is left over
    /// with the first.
    #[inline(always)]
    pub fn with_step<W: Weight>(&mut self, step: usize) {
        let lines = lines_of_eight::<W>()[1];
        let every = if lines < CHUNK { 2 } else { 1 };
        if step == 0 {
            self.fetch_near(lines % (CHUNK / every));
        }
        if step % every == every - 1 {
            self.fetch_near(1);
        }
    }

    #[inline(always)]
    fn fetch_near(&mut self, lines: usize) {
        for line in 0..lines {
            prefetch_near(self.near.wrapping_add(64 * line));
        }
        self.near = self.near.wrapping_add(64 * lines);
    }
}
