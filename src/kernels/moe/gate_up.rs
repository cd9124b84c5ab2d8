//! The first two matrices of the experts, the gated unit between them, and its quantization.

use super::{Experts, cost, padded};
use crate::kernels::activations::Writer;
use crate::kernels::isa::{Isa, Task};
use crate::kernels::matmul::{Input, PanelRows, panel_start};
use crate::kernels::panel::{BATCH, ROWS, Results, Tokens};
use crate::kernels::weight::STEP;
use crate::kernels::{Matrix, math};
use crate::work::Runs;
use std::ops::Range;

/// Expert by expert, panel by panel; a run, counted in cost, has the panels whose start is in it.
pub struct GateUp<'a> {
    pub experts: &'a Experts<'a>,
    pub input: Input<'a>,
    pub starts: &'a [usize],
    pub tokens: &'a [u32],
    pub hidden: Writer,
    pub runs: &'a Runs,
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
                    for (part, hidden) in hidden[..rows.rows].chunks(STEP).enumerate() {
                        let step = panel * (ROWS / STEP) + part;
                        // SAFETY: `hidden` has room for every route, and a route's panel has one worker.
                        unsafe { self.hidden.set(isa, batch + token, step, hidden) };
                    }
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
            // SAFETY: all arrays hold a panel of values.
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
