//! The experts' feed-forward: gate and up, the gated unit and its quantization in one region, down and the weighted sum in a second.
//!
//! Tokens are sorted by expert, so an expert's weights are read once for all tokens routed to it, be it one (decoding) or hundreds.

mod down;
mod gate_up;

use super::activations::Activations;
use super::matmul::{Input, SharedOut};
use super::panel::ROWS;
use super::{Kernels, Matrix};
use crate::threads::Pool;
use crate::work::Runs;
use down::Down;
use gate_up::GateUp;

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

    /// Panics if a shape does not fit the others: what follows reads and writes without asking.
    fn check(&self, input: &Activations, routes: usize, used: usize, out: usize) {
        let (n_experts, ff, columns) = (self.n_experts, self.ff, self.columns);
        let shape = |matrix: &Matrix, rows: usize, columns: usize| {
            let wanted = (n_experts * rows, columns);
            assert_eq!((matrix.rows, matrix.columns), wanted, "experts' shape");
        };
        shape(&self.gate, ff, columns);
        shape(&self.up, ff, columns);
        shape(&self.down, columns, ff);
        assert_eq!(self.gate_bias.len(), n_experts * ff, "gate's biases");
        assert_eq!(self.up_bias.len(), n_experts * ff, "up's biases");
        assert_eq!(self.down_bias.len(), n_experts * columns, "down's biases");
        assert_eq!(input.columns(), columns, "columns of the input");
        assert_eq!(routes, input.tokens() * used, "routes of each token");
        assert_eq!(out, input.tokens() * columns, "values of the output");
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
        experts.check(input, routes.len(), used, out.len());
        scratch.sort(routes, used, experts.n_experts);
        self.gate_up(pool, experts, input, scratch);
        scratch.hidden.settle(pool);
        self.down(pool, experts, out, scratch);
    }

    /// `hidden = swiglu(gate . input, up . input)` for every token and expert.
    fn gate_up(&self, pool: &Pool, experts: &Experts, input: &Activations, scratch: &mut Scratch) {
        let Scratch {
            starts,
            tokens,
            hidden,
            ..
        } = scratch;
        let (starts, tokens) = (&starts[..], &tokens[..]);
        hidden.keep_values(self.exact || experts.down.dtype.is_float());
        hidden.resize(tokens.len(), experts.ff);
        let writer = hidden.writer();
        let input = Input {
            activations: input,
            exact: self.exact,
        };
        let panels = experts.ff.div_ceil(ROWS);
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
                hidden: writer,
                runs: &runs,
            });
        });
    }

    /// `out = out + sum of weight * (down . hidden)` over each token's experts.
    fn down(&self, pool: &Pool, experts: &Experts, out: &mut [f32], scratch: &Scratch) {
        let input = Input {
            activations: &scratch.hidden,
            exact: self.exact,
        };
        let out = SharedOut {
            start: out.as_mut_ptr(),
            rows: experts.columns,
        };
        let runs = Runs::new(experts.columns.div_ceil(ROWS), 1, pool.threads());
        pool.run(|_| {
            self.call(Down {
                experts,
                input,
                starts: &scratch.starts,
                tokens: &scratch.tokens,
                weights: &scratch.weights,
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

/// Up to a panel of values, and zeros.
fn padded(values: &[f32]) -> [f32; ROWS] {
    let mut all = [0.0; ROWS];
    all[..values.len()].copy_from_slice(values);
    all
}
