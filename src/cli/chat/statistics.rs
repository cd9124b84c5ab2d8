//! What turns cost: the quiet line after each, and /stats.

use crate::cli::run::output::rate;
use crate::cli::terminal::{bytes, grouped};
use fourfold::generate::Outcome;
use fourfold::session::Session;
use std::time::Duration;

/// Sums over the conversation.
#[derive(Default)]
pub struct Statistics {
    turns: usize,
    read: usize,
    cached: usize,
    written: usize,
    read_time: Duration,
    write_time: Duration,
}

impl Statistics {
    /// Counts a turn.
    pub fn add(&mut self, outcome: &Outcome) {
        self.turns += 1;
        self.read += outcome.prefill.computed;
        self.cached += outcome.prefill.cached;
        self.written += outcome.tokens.len();
        self.read_time += outcome.prefill_time;
        self.write_time += outcome.decode_time;
    }

    /// The text of /stats.
    pub fn report(&self, session: &Session) -> String {
        let context = session.generator().context();
        let speculation = session.generator().speculation();
        let mut lines = vec![
            ("turns", self.turns.to_string()),
            (
                "read",
                format!(
                    "{} tokens at {:.1} per second; {} more were in the cache",
                    grouped(self.read as u64),
                    rate(self.read, self.read_time),
                    grouped(self.cached as u64)
                ),
            ),
            (
                "written",
                format!(
                    "{} tokens at {:.1} per second",
                    grouped(self.written as u64),
                    rate(self.written, self.write_time)
                ),
            ),
            (
                "context",
                format!(
                    "{} of {} tokens, {} of memory",
                    grouped(context.tokens().len() as u64),
                    grouped(context.limit() as u64),
                    bytes(context.bytes())
                ),
            ),
        ];
        if speculation.drafted > 0 {
            let per_pass = speculation.tokens as f64 / speculation.passes.max(1) as f64;
            lines.push((
                "drafts",
                format!(
                    "{} of {} drafted tokens were right; {per_pass:.2} tokens per pass",
                    speculation.accepted, speculation.drafted
                ),
            ));
        }
        let mut text = String::new();
        for (name, value) in lines {
            text += &format!("  {name:<9} {value}\n");
        }
        text
    }
}

/// The quiet line after a turn.
pub fn line(outcome: &Outcome, session: &Session) -> String {
    let prefill = outcome.prefill;
    let context = session.generator().context();
    let used = prefill.cached + prefill.computed + outcome.tokens.len();
    format!(
        "{} tokens at {:.1}/s · read {} at {:.1}/s, {} cached · context {} of {}",
        grouped(outcome.tokens.len() as u64),
        rate(outcome.tokens.len(), outcome.decode_time),
        grouped(prefill.computed as u64),
        rate(prefill.computed, outcome.prefill_time),
        grouped(prefill.cached as u64),
        grouped(used as u64),
        grouped(context.limit() as u64),
    )
}
