//! The third matrix of the experts, and the sum of what they say.

use super::{Experts, padded};
use crate::kernels::Matrix;
use crate::kernels::isa::{Isa, Task};
use crate::kernels::matmul::{Input, PanelRows, SharedOut, panel_start};
use crate::kernels::panel::{BATCH, ROWS, Results, Tokens};
use crate::work::Runs;
use std::ops::Range;

/// A run is of rows of the output, to which all experts are added.
pub struct Down<'a> {
    pub experts: &'a Experts<'a>,
    pub input: Input<'a>,
    pub starts: &'a [usize],
    pub tokens: &'a [u32],
    pub weights: &'a [f32],
    pub out: SharedOut,
    pub runs: &'a Runs,
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
