//! Attention of some tokens' query heads to one key-value head, a page of 64 positions at a time.
//!
//! The query heads of a group and the tokens of a tile are the rows of two small matrix products per page, scores and
//! weighted values, with the softmax carried along between pages. So keys and values are read and widened once for
//! all rows. A row's result does not depend on which rows it is computed with, nor on how pages are split over
//! workers: pages are summed in spans of [`SPAN`], and spans are merged in order.

use super::isa::{Isa, Task};
use super::math;
use super::page::{KvType, PAGE, PageLayout};

/// Pages whose sum is carried in one state before it is merged.
pub const SPAN: usize = 16;
/// Rows that a product computes together: with four vectors each, 16 sums hide the latency of the additions.
const ROWS: usize = 4;
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
    widen_keys(isa, layout, keys, &mut workspace.keys);
    widen_values(isa, layout, values, &mut workspace.values);

    let scores = &mut workspace.scores[..];
    multiply(
        isa,
        queries.rows,
        head_dim,
        &workspace.keys,
        PAGE,
        scores,
        None,
    );
    for (row, scores) in scores.chunks_exact_mut(PAGE).enumerate() {
        let (first, end) = queries.visible(row);
        scores[..first.saturating_sub(start).min(PAGE)].fill(f32::NEG_INFINITY);
        scores[end.saturating_sub(start).min(PAGE)..].fill(f32::NEG_INFINITY);
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
    let shrink = Some(&workspace.shrink[..rows]);
    multiply(
        isa,
        scores,
        PAGE,
        &workspace.values,
        stride,
        &mut state.values,
        shrink,
    );
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

/// `out = shrink * out + a . b`, row by row; without `shrink`, `out = a . b`.
/// `a` is `(rows, depth)`, `b` is `(depth, width)`; the width is a multiple of 16.
#[inline(always)]
fn multiply<I: Isa>(
    isa: I,
    a: &[f32],
    depth: usize,
    b: &[f32],
    width: usize,
    out: &mut [f32],
    shrink: Option<&[f32]>,
) {
    let rows = a.len() / depth;
    assert!(b.len() == depth * width && out.len() == rows * width && width.is_multiple_of(16));
    assert!(a.len() == rows * depth && shrink.is_none_or(|shrink| shrink.len() == rows));
    let mut row = 0;
    while row < rows {
        let count = ROWS.min(rows - row);
        let a = &a[row * depth..(row + count) * depth];
        let out = &mut out[row * width..(row + count) * width];
        let shrink = shrink.map(|shrink| &shrink[row..row + count]);
        match count {
            4 => multiply_rows::<I, 4>(isa, a, depth, b, width, out, shrink),
            3 => multiply_rows::<I, 3>(isa, a, depth, b, width, out, shrink),
            2 => multiply_rows::<I, 2>(isa, a, depth, b, width, out, shrink),
            _ => multiply_rows::<I, 1>(isa, a, depth, b, width, out, shrink),
        }
        row += count;
    }
}

#[inline(always)]
fn multiply_rows<I: Isa, const R: usize>(
    isa: I,
    a: &[f32],
    depth: usize,
    b: &[f32],
    width: usize,
    out: &mut [f32],
    shrink: Option<&[f32]>,
) {
    let mut column = 0;
    while column < width {
        let left = (width - column) / I::LANES;
        if left >= 4 {
            multiply_tile::<I, R, 4>(isa, a, depth, b, width, column, out, shrink);
            column += 4 * I::LANES;
        } else {
            multiply_tile::<I, R, 1>(isa, a, depth, b, width, column, out, shrink);
            column += I::LANES;
        }
    }
}

/// `R` rows by `V` vectors of the product, all sums in registers.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "inlined into its one caller, which packs nothing"
)]
fn multiply_tile<I: Isa, const R: usize, const V: usize>(
    isa: I,
    a: &[f32],
    depth: usize,
    b: &[f32],
    width: usize,
    column: usize,
    out: &mut [f32],
    shrink: Option<&[f32]>,
) {
    assert!(a.len() == R * depth && out.len() == R * width);
    assert!(b.len() == depth * width && column + V * I::LANES <= width);
    let mut sums = [[isa.splat(0.0); V]; R];
    if let Some(shrink) = shrink {
        for (r, sums) in sums.iter_mut().enumerate() {
            let shrink = isa.splat(shrink[r]);
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: inside row `r` of `out` by the assertions above.
                let old = unsafe { isa.load(out.as_ptr().add(r * width + column + v * I::LANES)) };
                *sum = isa.mul(old, shrink);
            }
        }
    }
    for k in 0..depth {
        // SAFETY: row `k` of `b` has `width` numbers, of which these are inside by the assertion above.
        let b: [I::Floats; V] = std::array::from_fn(|v| unsafe {
            isa.load(b.as_ptr().add(k * width + column + v * I::LANES))
        });
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `a` has `R` rows of `depth`.
            let a = isa.splat(unsafe { *a.get_unchecked(r * depth + k) });
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = isa.fma(a, b, *sum);
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: as for the loads.
            unsafe {
                isa.store(out.as_mut_ptr().add(r * width + column + v * I::LANES), sum);
            }
        }
    }
}

/// The keys of a page as f32, `(head_dim, 64)`.
#[inline(always)]
fn widen_keys<I: Isa>(isa: I, layout: &PageLayout, keys: &[u8], out: &mut [f32]) {
    match layout.kv_type {
        KvType::Q8_0 => {
            let (numbers, scales) = keys.split_at(layout.head_dim * PAGE);
            for d in 0..layout.head_dim {
                for slot in (0..PAGE).step_by(I::LANES) {
                    // SAFETY: a vector inside row `d` of the keys, of `out`, and of its block's scales.
                    unsafe {
                        let scale = scales.as_ptr().cast::<u16>().add(d / 32 * PAGE + slot);
                        let number = numbers.as_ptr().cast::<i8>().add(d * PAGE + slot);
                        let key = isa.mul(isa.load_bytes(number), isa.load_f16(scale));
                        isa.store(out.as_mut_ptr().add(d * PAGE + slot), key);
                    }
                }
            }
        }
        kv_type => widen_floats(isa, kv_type, keys, out),
    }
}

/// The values of a page as f32, `(64, value_stride)`.
#[inline(always)]
fn widen_values<I: Isa>(isa: I, layout: &PageLayout, values: &[u8], out: &mut [f32]) {
    let head_dim = layout.head_dim;
    let stride = value_stride(head_dim);
    match layout.kv_type {
        KvType::Q8_0 => {
            let (numbers, scales) = values.split_at(head_dim * PAGE);
            for (slot, out) in out.chunks_exact_mut(stride).enumerate() {
                for d in (0..head_dim).step_by(I::LANES) {
                    let scale = &scales[2 * (slot * head_dim / 32 + d / 32)..];
                    let scale = half::f16::from_le_bytes([scale[0], scale[1]]).to_f32();
                    // SAFETY: a vector inside this position's value; 32 is a multiple of the lanes.
                    unsafe {
                        let number = numbers.as_ptr().cast::<i8>().add(slot * head_dim + d);
                        let value = isa.mul(isa.load_bytes(number), isa.splat(scale));
                        isa.store(out.as_mut_ptr().add(d), value);
                    }
                }
            }
        }
        kv_type if stride == head_dim => widen_floats(isa, kv_type, values, out),
        kv_type => {
            let row_bytes = values.len() / PAGE;
            for (row, out) in values
                .chunks_exact(row_bytes)
                .zip(out.chunks_exact_mut(stride))
            {
                for (d, out) in out[..head_dim].iter_mut().enumerate() {
                    *out = match kv_type {
                        KvType::F32 => f32::from_ne_bytes([
                            row[4 * d],
                            row[4 * d + 1],
                            row[4 * d + 2],
                            row[4 * d + 3],
                        ]),
                        _ => half::f16::from_ne_bytes([row[2 * d], row[2 * d + 1]]).to_f32(),
                    };
                }
            }
        }
    }
}

/// As many numbers as `out` has, a multiple of the lanes.
#[inline(always)]
fn widen_floats<I: Isa>(isa: I, kv_type: KvType, source: &[u8], out: &mut [f32]) {
    let element = if kv_type == KvType::F32 { 4 } else { 2 };
    assert!(source.len() == element * out.len());
    for (source, out) in source
        .chunks_exact(element * I::LANES)
        .zip(out.chunks_exact_mut(I::LANES))
    {
        // SAFETY: both parts are one vector long; pages are aligned.
        unsafe {
            let numbers = match kv_type {
                KvType::F32 => isa.load(source.as_ptr().cast()),
                _ => isa.load_f16(source.as_ptr().cast()),
            };
            isa.store(out.as_mut_ptr(), numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::kernels::page::Page;

    /// Numbers between -1 and 1 without a pattern.
    fn noise(seed: usize) -> f32 {
        let bits = (seed as u32 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9);
        let bits = (bits ^ (bits >> 15)).wrapping_mul(0x85eb_ca6b);
        ((bits ^ (bits >> 13)) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    struct Case {
        layout: PageLayout,
        group: usize,
        position: usize,
        tokens: usize,
        window: Option<usize>,
        sink: f32,
    }

    impl Case {
        fn key(&self, position: usize, d: usize) -> f32 {
            noise(position * 1000 + d)
        }

        fn value(&self, position: usize, d: usize) -> f32 {
            noise(position * 1000 + d + 500_000)
        }

        fn queries(&self) -> Vec<f32> {
            let count = self.tokens * self.group * self.layout.head_dim;
            (0..count).map(|i| noise(i + 7_000_000)).collect()
        }

        /// The definition, in f64.
        fn expected(&self) -> Vec<f32> {
            let head_dim = self.layout.head_dim;
            let queries = self.queries();
            let rows = queries.chunks(head_dim).enumerate();
            rows.flat_map(|(row, query)| {
                let position = self.position + row / self.group;
                let first = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
                let weights = (first..=position).map(|at| {
                    let pairs = query.iter().enumerate();
                    let score: f64 = pairs
                        .map(|(d, q)| f64::from(*q) * f64::from(self.key(at, d)))
                        .sum();
                    (at, score.exp())
                });
                let weights: Vec<_> = weights.collect();
                let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
                let sum = sum + f64::from(self.sink).exp();
                let value = move |d: usize| -> f64 {
                    let terms = weights.iter();
                    terms
                        .map(|(at, weight)| weight * f64::from(self.value(*at, d)))
                        .sum::<f64>()
                        / sum
                };
                (0..head_dim).map(|d| value(d) as f32).collect::<Vec<_>>()
            })
            .collect()
        }

        fn found(&self, kernels: &Kernels) -> Vec<f32> {
            let head_dim = self.layout.head_dim;
            let head = self.layout.kv_heads - 1;
            let end = self.position + self.tokens;
            let pages: Vec<Page> = (0..end.div_ceil(PAGE))
                .map(|_| Page::new(&self.layout).unwrap())
                .collect();
            for position in 0..end {
                let key: Vec<f32> = (0..head_dim).map(|d| self.key(position, d)).collect();
                let value: Vec<f32> = (0..head_dim).map(|d| self.value(position, d)).collect();
                let page = &pages[position / PAGE];
                // SAFETY: this thread alone uses the pages.
                unsafe { self.layout.store(page, head, position % PAGE, &key, &value) };
            }
            let queries = self.queries();
            let queries = Queries {
                rows: &queries,
                group: self.group,
                position: self.position,
                window: self.window,
            };
            let rows = self.tokens * self.group;
            let (mut total, mut part) = (State::default(), State::default());
            total.reset(rows, head_dim);
            let mut workspace = Workspace::default();
            for (index, page) in pages.iter().enumerate() {
                part.reset(rows, head_dim);
                kernels.call(Look {
                    queries: &queries,
                    // SAFETY: this thread alone uses the pages.
                    page: unsafe { self.layout.head(page, head) },
                    layout: &self.layout,
                    start: index * PAGE,
                    workspace: &mut workspace,
                    state: &mut part,
                });
                total.merge(&part);
            }
            let mut out = vec![0.0; rows * head_dim];
            for (row, out) in out.chunks_mut(head_dim).enumerate() {
                total.finish(row, self.sink, out);
            }
            out
        }
    }

    #[test]
    fn every_instruction_set_and_cache_type_computes_the_definition() {
        let types = [
            (KvType::F32, 1e-5),
            (KvType::F16, 2e-3),
            (KvType::Q8_0, 2e-2),
        ];
        for (kv_type, bound) in types {
            for (head_dim, group, position, tokens, window, sink) in [
                (64, 8, 0, 1, None, 0.5),
                (64, 8, 150, 5, None, -3.0),
                (64, 3, 129, 16, Some(128), 2.0),
                (32, 1, 200, 7, Some(1), 9.0),
                (96, 2, 63, 2, Some(70), -90.0),
                (24, 5, 70, 3, None, 0.0),
            ] {
                if kv_type == KvType::Q8_0 && head_dim % 32 != 0 {
                    continue;
                }
                let layout = PageLayout {
                    kv_type,
                    kv_heads: 2,
                    head_dim,
                };
                let case = Case {
                    layout,
                    group,
                    position,
                    tokens,
                    window,
                    sink,
                };
                let expected = case.expected();
                for kernels in Kernels::available() {
                    for (found, expected) in case.found(&kernels).iter().zip(&expected) {
                        let error = (found - expected).abs();
                        let name = kernels.isa();
                        assert!(
                            error < bound,
                            "{name} {kv_type:?} {head_dim} at {position}: {error}"
                        );
                    }
                }
            }
        }
    }
}
