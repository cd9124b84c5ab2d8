//! The experts' feed-forward: gate and up, the gated unit and its quantization in one region, down and the weighted sum in a second.
//!
//! Tokens are sorted by expert, so an expert's weights are read once for all tokens routed to it, be it one (decoding) or hundreds.

use super::activations::{Activations, Writer};
use super::isa::{Isa, Task};
use super::matmul::{Input, PanelRows, SharedOut, panel_start};
use super::panel::{BATCH, ROWS, Results, Tokens};
use super::{Kernels, Matrix, is_float, math};
use crate::threads::Pool;
use crate::work::Runs;
use std::ops::Range;

/// The experts of one layer.
#[derive(Clone, Copy)]
pub struct Experts<'a> {
    /// (n_experts * ff, columns)
    pub gate: Matrix<'a>,
    /// (n_experts * ff, columns)
    pub up: Matrix<'a>,
    /// (n_experts * columns, ff)
    pub down: Matrix<'a>,
    /// (n_experts * ff)
    pub gate_bias: &'a [f32],
    /// (n_experts * ff)
    pub up_bias: &'a [f32],
    /// (n_experts * columns)
    pub down_bias: &'a [f32],
    /// Number of experts.
    pub n_experts: usize,
    /// Width of an expert's hidden layer.
    pub ff: usize,
    /// Width of its input and output.
    pub columns: usize,
    /// Where the gate, from above, and up, on both sides, are clamped.
    pub swiglu_limit: f32,
    /// What the gate is multiplied with inside its sigmoid: 1.702.
    pub swiglu_alpha: f32,
    /// For gate, up and down a factor for each expert, which some NVFP4 files keep beside the matrices.
    pub scales: [Option<&'a [f32]>; 3],
}

/// Buffers of [`Kernels::experts`], to be used again and again.
#[derive(Default)]
pub struct Scratch {
    /// For each expert, where its routes start in the two lists below.
    starts: Vec<usize>,
    /// Tokens in order of their experts.
    tokens: Vec<u32>,
    /// Their weights.
    weights: Vec<f32>,
    hidden: Activations,
}

impl Experts<'_> {
    fn scale(&self, part: usize, expert: usize) -> f32 {
        self.scales[part].map_or(1.0, |scales| scales[expert])
    }
}

impl Scratch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sorts the routes by expert, counting; within an expert tokens stay in order.
    fn sort(&mut self, routes: &[(usize, f32)], used: usize, n_experts: usize) {
        self.starts.clear();
        self.starts.resize(n_experts + 1, 0);
        for &(expert, _) in routes {
            assert!(expert < n_experts, "a route to an expert that exists");
            self.starts[expert + 1] += 1;
        }
        for expert in 0..n_experts {
            self.starts[expert + 1] += self.starts[expert];
        }
        let mut next = self.starts.clone();
        self.tokens.resize(routes.len(), 0);
        self.weights.resize(routes.len(), 0.0);
        for (index, &(expert, weight)) in routes.iter().enumerate() {
            let at = next[expert];
            next[expert] += 1;
            self.tokens[at] = (index / used) as u32;
            self.weights[at] = weight;
        }
    }
}

impl Kernels {
    /// Adds to `out[token]`, for each of its `used` routes, the expert's output times the route's weight, experts in ascending order.
    ///
    /// Panics if a shape does not fit: shapes are checked when a model is loaded.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is one word of the sentence above"
    )]
    pub fn experts(
        &self,
        pool: &Pool,
        experts: &Experts,
        input: &Activations,
        routes: &[(usize, f32)],
        used: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Experts {
            n_experts,
            ff,
            columns,
            ..
        } = *experts;
        let shape = |matrix: &Matrix, rows: usize, columns: usize| {
            assert_eq!(
                (matrix.rows, matrix.columns),
                (n_experts * rows, columns),
                "experts' shape"
            );
        };
        shape(&experts.gate, ff, columns);
        shape(&experts.up, ff, columns);
        shape(&experts.down, columns, ff);
        assert_eq!(experts.gate_bias.len(), n_experts * ff, "gate's biases");
        assert_eq!(experts.up_bias.len(), n_experts * ff, "up's biases");
        assert_eq!(
            experts.down_bias.len(),
            n_experts * columns,
            "down's biases"
        );
        assert_eq!(input.columns(), columns, "columns of the input");
        assert_eq!(routes.len(), input.tokens() * used, "routes of each token");
        assert_eq!(out.len(), input.tokens() * columns, "values of the output");

        scratch.sort(routes, used, n_experts);
        scratch
            .hidden
            .keep_values(self.exact || is_float(experts.down.dtype));
        scratch.hidden.resize(routes.len(), ff);
        let hidden = scratch.hidden.writer();
        let Scratch {
            starts,
            tokens,
            weights,
            hidden: hidden_input,
        } = &*scratch;
        let input = Input {
            activations: input,
            exact: self.exact,
        };
        let panels = ff.div_ceil(ROWS);
        let work: usize = starts
            .windows(2)
            .map(|run| panels * cost(run[1] - run[0]))
            .sum();
        let largest = starts.windows(2).map(|run| cost(run[1] - run[0])).max();
        let runs = Runs::new(work, largest.unwrap_or(1), pool.threads());
        pool.run(|_| {
            self.call(GateUp {
                experts,
                input,
                starts,
                tokens,
                hidden,
                runs: &runs,
            });
        });
        let input = Input {
            activations: hidden_input,
            exact: self.exact,
        };
        let out = SharedOut {
            start: out.as_mut_ptr(),
            rows: columns,
        };
        let runs = Runs::new(columns.div_ceil(ROWS), 1, pool.threads());
        pool.run(|_| {
            self.call(Down {
                experts,
                input,
                starts,
                tokens,
                weights,
                out,
                runs: &runs,
            });
        });
    }
}

/// What a panel costs, in products with a token: unpacking it is worth about four.
fn cost(tokens: usize) -> usize {
    if tokens == 0 { 0 } else { 4 + tokens }
}

/// Expert by expert, panel by panel; a run, counted in cost, has the panels whose start is in it.
struct GateUp<'a> {
    experts: &'a Experts<'a>,
    input: Input<'a>,
    starts: &'a [usize],
    tokens: &'a [u32],
    hidden: Writer,
    runs: &'a Runs,
}

/// Neighbouring panels of one expert.
struct Part {
    expert: usize,
    panels: Range<usize>,
}

impl GateUp<'_> {
    /// The panels that start in a run.
    fn parts(&self, run: Range<usize>) -> impl Iterator<Item = Part> {
        let panels = self.experts.ff.div_ceil(ROWS);
        let mut before = 0;
        (0..self.experts.n_experts).filter_map(move |expert| {
            let cost = cost(self.starts[expert + 1] - self.starts[expert]);
            let first = |at: usize| at.saturating_sub(before).div_ceil(cost.max(1)).min(panels);
            let range = first(run.start)..first(run.end);
            before += panels * cost;
            let panels = range;
            (cost > 0 && !panels.is_empty()).then_some(Part { expert, panels })
        })
    }
}

impl Task for GateUp<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut gates = Results([[0.0; ROWS]; BATCH]);
        let mut ups = Results([[0.0; ROWS]; BATCH]);
        let mut run = self.runs.next();
        while !run.is_empty() {
            // Taken before it is needed, because its first panel is fetched during the last one of this run.
            let following = self.runs.next();
            let mut after = self
                .parts(run.clone())
                .chain(self.parts(following.clone()))
                .skip(1);
            for part in self.parts(run) {
                let after = after.next();
                let after = after.map(|Part { expert, panels }| {
                    panel_start(&self.of(&self.experts.gate, expert), panels.start)
                });
                self.part(isa, part, after, &mut gates, &mut ups);
            }
            run = following;
        }
    }
}

impl GateUp<'_> {
    /// An expert's rows of the gates or the ups.
    fn of<'m>(&self, matrix: &Matrix<'m>, expert: usize) -> Matrix<'m> {
        matrix.slice(expert * self.experts.ff, self.experts.ff)
    }

    /// The panels of a part for all tokens of its expert; `after` is the panel that comes next.
    #[inline(always)]
    fn part<I: Isa>(
        &self,
        isa: I,
        Part { expert, panels }: Part,
        after: Option<*const u8>,
        gates: &mut Results,
        ups: &mut Results,
    ) {
        let gate = self.of(&self.experts.gate, expert);
        let up = self.of(&self.experts.up, expert);
        let factors = [0, 1].map(|part| self.experts.scale(part, expert));
        let (start, end) = (self.starts[expert], self.starts[expert + 1]);
        for batch in (start..end).step_by(BATCH) {
            let tokens = &self.tokens[batch..end.min(batch + BATCH)];
            let (count, listed) = (tokens.len(), Tokens::Listed(tokens));
            for panel in panels.clone() {
                let rows = PanelRows::new(&gate, panel, Some(panel_start(&up, panel)));
                self.input.multiply(isa, &rows, listed, count, gates);
                let next = match panel + 1 < panels.end {
                    true => Some(panel_start(&gate, panel + 1)),
                    false => after,
                };
                let rows = PanelRows::new(&up, panel, next);
                self.input.multiply(isa, &rows, listed, count, ups);
                let at = expert * self.experts.ff + panel * ROWS;
                let biases = [self.experts.gate_bias, self.experts.up_bias]
                    .map(|biases| padded(&biases[at..at + rows.rows]));
                for token in 0..count {
                    let (gates, ups) = (&gates.0[token], &ups.0[token]);
                    let hidden = self.activate(isa, gates, ups, &biases, factors);
                    // SAFETY: `hidden` has room for every route, and a route's panel has one worker.
                    unsafe {
                        self.hidden
                            .set(isa, batch + token, panel, &hidden[..rows.rows])
                    };
                }
            }
        }
    }

    /// Biases and the gated unit for one panel of one token.
    #[inline(always)]
    fn activate<I: Isa>(
        &self,
        isa: I,
        gate: &[f32; ROWS],
        up: &[f32; ROWS],
        biases: &[[f32; ROWS]; 2],
        factors: [f32; 2],
    ) -> [f32; ROWS] {
        let (limit, alpha) = (self.experts.swiglu_limit, self.experts.swiglu_alpha);
        let factors = factors.map(|factor| isa.splat(factor));
        let mut hidden = [0.0; ROWS];
        for lane in (0..ROWS).step_by(I::LANES) {
            // SAFETY: all arrays hold 32 values.
            unsafe {
                let gate = isa.fma(
                    isa.load(gate.as_ptr().add(lane)),
                    factors[0],
                    isa.load(biases[0].as_ptr().add(lane)),
                );
                let up = isa.fma(
                    isa.load(up.as_ptr().add(lane)),
                    factors[1],
                    isa.load(biases[1].as_ptr().add(lane)),
                );
                isa.store(
                    hidden.as_mut_ptr().add(lane),
                    math::swiglu(isa, gate, up, limit, alpha),
                );
            }
        }
        hidden
    }
}

/// Up to 32 values, and zeros.
fn padded(values: &[f32]) -> [f32; ROWS] {
    let mut all = [0.0; ROWS];
    all[..values.len()].copy_from_slice(values);
    all
}

/// A run is of rows of the output, to which all experts are added.
struct Down<'a> {
    experts: &'a Experts<'a>,
    input: Input<'a>,
    starts: &'a [usize],
    tokens: &'a [u32],
    weights: &'a [f32],
    out: SharedOut,
    runs: &'a Runs,
}

impl Task for Down<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut results = Results([[0.0; ROWS]; BATCH]);
        let used = |expert: &usize| self.starts[*expert] < self.starts[*expert + 1];
        let experts = || (0..self.experts.n_experts).filter(used);
        let mut run = self.runs.next();
        while !run.is_empty() {
            let following = self.runs.next();
            let again = experts().filter(|_| !following.is_empty());
            let mut after = experts()
                .skip(1)
                .map(|expert| (expert, run.start))
                .chain(again.map(|expert| (expert, following.start)));
            for expert in experts() {
                let after = after.next();
                let after = after.map(|(expert, panel)| panel_start(&self.of(expert), panel));
                self.part(isa, expert, run.clone(), after, &mut results);
            }
            run = following;
        }
    }
}

impl Down<'_> {
    /// An expert's rows.
    fn of(&self, expert: usize) -> Matrix<'_> {
        let columns = self.experts.columns;
        self.experts.down.slice(expert * columns, columns)
    }

    /// Some panels of an expert for all its tokens; `after` is the panel that comes next.
    #[inline(always)]
    fn part<I: Isa>(
        &self,
        isa: I,
        expert: usize,
        panels: Range<usize>,
        after: Option<*const u8>,
        results: &mut Results,
    ) {
        let down = self.of(expert);
        let biases = &self.experts.down_bias[expert * self.experts.columns..];
        let factor = self.experts.scale(2, expert);
        let (start, end) = (self.starts[expert], self.starts[expert + 1]);
        for batch in (start..end).step_by(BATCH) {
            let count = BATCH.min(end - batch);
            for panel in panels.clone() {
                let next = match panel + 1 < panels.end {
                    true => Some(panel_start(&down, panel + 1)),
                    false => after,
                };
                let rows = PanelRows::new(&down, panel, next);
                let tokens = Tokens::From(batch);
                self.input.multiply(isa, &rows, tokens, count, results);
                let bias = padded(&biases[panel * ROWS..][..rows.rows]);
                for (index, results) in results.0[..count].iter().enumerate() {
                    let token = self.tokens[batch + index] as usize;
                    let weight = self.weights[batch + index];
                    // SAFETY: `experts` checked the size of `out`; a run's rows have one worker.
                    let out = unsafe { self.out.row(token, panel * ROWS, rows.rows) };
                    for ((out, result), bias) in out.iter_mut().zip(results).zip(bias) {
                        *out = weight.mul_add(result.mul_add(factor, bias), *out);
                    }
                }
            }
        }
    }
}
