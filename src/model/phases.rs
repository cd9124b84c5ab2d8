//! Where the time of forward passes goes, for `bench -v`.

use std::time::{Duration, Instant};

/// A step of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "NAMES says what they are")]
pub enum Phase {
    Prepare,
    Normalize,
    Quantize,
    QueryKeyValue,
    Remember,
    LookBack,
    Output,
    Route,
    Experts,
    Head,
    Device,
}

/// Names of the phases, in the order of the enum.
pub const NAMES: [&str; 11] = [
    "embedding and angles",
    "normalization",
    "quantization of inputs",
    "query, key, value",
    "storing keys and values",
    "attention",
    "attention output",
    "router",
    "experts",
    "head",
    "layers on the GPU",
];

/// Time spent in each phase since the last reset.
#[derive(Clone, Debug)]
pub struct Phases {
    spent: [Duration; NAMES.len()],
    last: Instant,
}

impl Default for Phases {
    fn default() -> Self {
        Self {
            spent: [Duration::ZERO; NAMES.len()],
            last: Instant::now(),
        }
    }
}

impl Phases {
    /// What follows does not belong to what came before.
    pub(super) fn start(&mut self) {
        self.last = Instant::now();
    }

    /// Everything since the last call belongs to this phase.
    pub(super) fn end(&mut self, phase: Phase) {
        let now = Instant::now();
        self.spent[phase as usize] += now - self.last;
        self.last = now;
    }

    /// Names and times.
    pub fn spent(&self) -> impl Iterator<Item = (&'static str, Duration)> + '_ {
        NAMES.into_iter().zip(self.spent)
    }
}
