//! Attention of some tokens' query heads to one key-value head, a page of 64 positions at a time.
//!
//! The query heads of a group and the tokens of a tile are the rows of two small matrix products per page, scores and
//! weighted values, with the softmax carried along between pages. So keys and values are read and widened once for
//! all rows. A row's result does not depend on which rows it is computed with, nor on how pages are split over
//! workers: pages are summed in spans of [`SPAN`], and spans are merged in order.

mod product;
mod widen;

use super::isa::{Isa, Task};
use super::math;
use super::page::{PAGE, PageLayout};
use product::Product;

/// Pages whose sum is carried in one state before it is merged.
pub const SPAN: usize = 16;
/// Below every score, and finite, so that differences are never NaN.
const LOWEST: f32 = -1e30;

/// The rows that attend: all query heads of a group, for neighbouring tokens of one sequence.
pub struct Queries<'a> {
    /// `(tokens * group, head_dim)`, turned to their positions and scaled.
    pub rows: &'a [f32],
    /// Query heads per token.
    pub group: usize,
    /// Position of the first token.
    pub position: usize,
    /// Positions that a token sees, itself included.
    pub window: Option<usize>,
}

/// The softmax and the weighted sum of values so far, for every row.
#[derive(Default)]
pub struct State {
    /// Highest score.
    highest: Vec<f32>,
    /// Sum of `exp(score - highest)`.
    sum: Vec<f32>,
    /// `(rows, value_stride)`: the values times those weights.
    values: Vec<f32>,
}

/// Memory of one worker: a page widened to f32, and the scores of all rows.
#[derive(Default)]
pub struct Workspace {
    /// `(head_dim, 64)`
    keys: Vec<f32>,
    /// `(64, value_stride)`
    values: Vec<f32>,
    /// `(rows, 64)`
    scores: Vec<f32>,
    /// What each row's sums are multiplied by when a higher score appears; whole vectors.
    shrink: Vec<f32>,
    /// What each row's weights in the page sum up to.
    totals: Vec<f32>,
}

/// Length of a row of values: whole vectors of any instruction set.
pub fn value_stride(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

impl Queries<'_> {
    /// The first position that the token of this row sees, and the one after the last.
    fn visible(&self, row: usize) -> (usize, usize) {
        let position = self.position + row / self.group;
        let first = self
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window));
        (first, position + 1)
    }
}

impl State {
    /// Nothing seen yet.
    pub fn reset(&mut self, rows: usize, head_dim: usize) {
        refill(&mut self.highest, rows, LOWEST);
        refill(&mut self.sum, rows, 0.0);
        refill(&mut self.values, rows * value_stride(head_dim), 0.0);
    }

    /// Adds what another state saw.
    pub fn merge(&mut self, other: &State) {
        let stride = self.values.len() / self.sum.len();
        for row in 0..self.sum.len() {
            let highest = self.highest[row].max(other.highest[row]);
            let mine = (self.highest[row] - highest).exp();
            let theirs = (other.highest[row] - highest).exp();
            self.highest[row] = highest;
            self.sum[row] = self.sum[row] * mine + other.sum[row] * theirs;
            let range = row * stride..(row + 1) * stride;
            for (to, from) in self.values[range.clone()]
                .iter_mut()
                .zip(&other.values[range])
            {
                *to = *to * mine + from * theirs;
            }
        }
    }

    /// The outcome of one row, with the sink taking its part of the softmax.
    pub fn finish(&self, row: usize, sink: f32, out: &mut [f32]) {
        let stride = self.values.len() / self.sum.len();
        let highest = self.highest[row].max(sink);
        let mine = (self.highest[row] - highest).exp();
        let factor = mine / (self.sum[row] * mine + (sink - highest).exp());
        for (to, from) in out.iter_mut().zip(&self.values[row * stride..]) {
            *to = from * factor;
        }
    }
}

fn refill(list: &mut Vec<f32>, len: usize, value: f32) {
    list.clear();
    list.resize(len, value);
}

/// Lets all rows see one page.
pub struct Look<'a> {
    /// The rows.
    pub queries: &'a Queries<'a>,
    /// Keys and values of one head, from [`PageLayout::head`].
    pub page: (&'a [u8], &'a [u8]),
    /// How they are stored.
    pub layout: &'a PageLayout,
    /// Position of the first of them.
    pub start: usize,
    /// This worker's memory.
    pub workspace: &'a mut Workspace,
    /// What the rows have seen so far.
    pub state: &'a mut State,
}

impl Task for Look<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        see_page(isa, self);
    }
}

#[inline(always)]
fn see_page<I: Isa>(isa: I, look: Look) {
    let Look {
        queries,
        page: (keys, values),
        layout,
        start,
        workspace,
        state,
    } = look;
    let head_dim = layout.head_dim;
    let stride = value_stride(head_dim);
    let rows = queries.rows.len() / head_dim;
    workspace.keys.resize(head_dim * PAGE, 0.0);
    workspace.values.resize(PAGE * stride, 0.0);
    workspace.scores.resize(rows * PAGE, 0.0);
    let padded = rows.next_multiple_of(I::LANES);
    workspace.shrink.resize(padded, 0.0);
    workspace.totals.resize(rows, 0.0);
    widen::keys(isa, layout, keys, &mut workspace.keys);
    widen::values(isa, layout, values, &mut workspace.values);

    let scores = &mut workspace.scores[..];
    // What no row sees is not computed: a fifth of a window's pages.
    let seen = |row| {
        let (first, end) = queries.visible(row);
        let slot = |position: usize| position.saturating_sub(start).min(PAGE);
        slot(first)..slot(end)
    };
    let some = seen(0).start / I::LANES * I::LANES..seen(rows - 1).end.next_multiple_of(I::LANES);
    let product = Product {
        a: queries.rows,
        depth: head_dim,
        b: &workspace.keys,
        width: PAGE,
        inner: 0..head_dim,
        columns: some.clone(),
        shrink: None,
        out: scores,
    };
    product.compute(isa);
    for (row, scores) in scores.chunks_exact_mut(PAGE).enumerate() {
        let seen = seen(row);
        scores[..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..].fill(f32::NEG_INFINITY);
        let (shrink, total) = (&mut workspace.shrink[row], &mut workspace.totals[row]);
        (*shrink, *total) = soften(isa, scores, &mut state.highest[row]);
    }
    for start in (0..padded).step_by(I::LANES) {
        // SAFETY: the list was made whole vectors long.
        unsafe {
            let at = workspace.shrink.as_mut_ptr().add(start);
            isa.store(at, weight(isa, isa.load(at)));
        }
    }
    let factors = workspace.shrink.iter().zip(&workspace.totals);
    for (sum, (shrink, total)) in state.sum.iter_mut().zip(factors) {
        *sum = *sum * shrink + total;
    }
    let product = Product {
        a: scores,
        depth: PAGE,
        b: &workspace.values,
        width: stride,
        inner: some,
        columns: 0..stride,
        shrink: Some(&workspace.shrink[..rows]),
        out: &mut state.values,
    };
    product.compute(isa);
}

/// `exp`, rounded to multiples of 2^-83, and so 0 below e^-58.
///
/// Beside the weight 1 of the highest score that is far below rounding, but times a value it could be a denormal
/// number, which costs Intel's processors 150 cycles each: attention of a random model was five times slower.
#[inline(always)]
fn weight<I: Isa>(isa: I, x: I::Floats) -> I::Floats {
    let grid = isa.splat(1.0 / (1u64 << 60) as f32);
    isa.sub(isa.add(math::exp(isa, x), grid), grid)
}

/// Turns the scores of one row into weights. Gives the logarithm of what earlier weights shrink by, and the sum.
#[inline(always)]
fn soften<I: Isa>(isa: I, scores: &mut [f32], highest: &mut f32) -> (f32, f32) {
    let mut most = isa.splat(*highest);
    for part in scores.chunks_exact(I::LANES) {
        // SAFETY: the part is one vector long.
        most = isa.max(most, unsafe { isa.load(part.as_ptr()) });
    }
    let most = isa.largest(most);
    let shrink = *highest - most;
    *highest = most;
    let mut total = isa.splat(0.0);
    for part in scores.chunks_exact_mut(I::LANES) {
        // SAFETY: the part is one vector long.
        unsafe {
            let score = isa.load(part.as_ptr());
            let weight = weight(isa, isa.add(score, isa.splat(-most)));
            isa.store(part.as_mut_ptr(), weight);
            total = isa.add(total, weight);
        }
    }
    (shrink, isa.sum(total))
}

#[cfg(test)]
mod tests;
