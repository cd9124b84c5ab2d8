//! How far long work has come: a bar on a terminal, plain lines now and then elsewhere.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::terminal;

/// Progress through a number of bytes or other things; may be told of steps by many threads.
pub struct Progress {
    doing: String,
    counted: Counted,
    total: u64,
    start: Instant,
    bar: ProgressBar,
    /// For lines: the next moment at which one is due. `None` when the bar is drawn.
    next_line: Option<Mutex<Instant>>,
}

/// What is counted.
#[derive(Clone, Copy)]
enum Counted {
    Bytes,
    /// Things of this name: "tokens".
    Things(&'static str),
}

impl Progress {
    /// Starts to show the progress of `doing` ("Quantizing") through `total` bytes.
    pub fn bytes(doing: &str, total: u64) -> Progress {
        Progress::new(doing, Counted::Bytes, total)
    }

    /// The same through `total` things, such as "tokens".
    pub fn things(doing: &str, things: &'static str, total: usize) -> Progress {
        Progress::new(doing, Counted::Things(things), total as u64)
    }

    fn new(doing: &str, counted: Counted, total: u64) -> Progress {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(&counted.template()) {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                // Nothing is left to be done where writing to memory fails.
                let _ = write!(out, "{:.1}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        }
        bar.set_message(doing.to_owned());
        Progress {
            doing: doing.to_owned(),
            counted,
            total,
            start: Instant::now(),
            bar,
            next_line: (!on_terminal).then(|| Mutex::new(Instant::now() + FIRST_LINE)),
        }
    }

    /// That many more bytes, or whatever is counted, are done.
    pub fn add(&self, done: u64) {
        self.bar.inc(done);
        let Some(next_line) = &self.next_line else {
            return;
        };
        // A thread that finds another one printing has nothing to add.
        let Ok(mut next) = next_line.try_lock() else {
            return;
        };
        let now = Instant::now();
        if now < *next {
            return;
        }
        *next = now + BETWEEN_LINES;
        let (done, seconds) = (self.bar.position(), self.start.elapsed().as_secs_f64());
        let so_far = self.counted.so_far(done, self.total, seconds);
        eprintln!("{}: {so_far}", self.doing);
    }

    /// Prints a line on standard error, above the bar.
    pub fn print(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Says what is going on now, beside the bar.
    pub fn message(&self, doing: &str) {
        self.bar.set_message(doing.to_owned());
    }

    /// Takes the bar away and returns how long the work took.
    pub fn finish(self) -> Duration {
        self.bar.finish_and_clear();
        self.start.elapsed()
    }
}

impl Counted {
    /// What stands in the bar.
    fn template(self) -> String {
        let amounts = match self {
            Counted::Bytes => {
                "{decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}".to_owned()
            }
            Counted::Things(things) => format!("{{human_pos}}/{{human_len}} {things}  {{rate}}"),
        };
        format!("{{msg}} [{{bar:30}}] {amounts}  {{eta}} left")
    }

    /// The same as a line of text.
    fn so_far(self, done: u64, total: u64, seconds: f64) -> String {
        let rate = done as f64 / seconds;
        let (amounts, speed) = match self {
            Counted::Bytes => (
                format!("{} of {}", terminal::bytes(done), terminal::bytes(total)),
                terminal::bytes(rate as u64),
            ),
            Counted::Things(things) => (
                format!(
                    "{} of {} {things}",
                    terminal::grouped(done),
                    terminal::grouped(total)
                ),
                format!("{rate:.1}"),
            ),
        };
        let percent = 100.0 * done as f64 / total.max(1) as f64;
        let left = total.saturating_sub(done) as f64 / rate;
        format!("{amounts} ({percent:.0} %), {speed}/s, {left:.0} s left")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Short work ends before the first line, and needs none.
const FIRST_LINE: Duration = Duration::from_secs(2);
const BETWEEN_LINES: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_what_is_counted() {
        assert_eq!(
            Counted::Bytes.so_far(1_000_000_000, 4_000_000_000, 10.0),
            "1.00 GB of 4.00 GB (25 %), 100.00 MB/s, 30 s left"
        );
        assert_eq!(
            Counted::Things("questions").so_far(10, 1000, 20.0),
            "10 of 1,000 questions (1 %), 0.5/s, 1980 s left"
        );
    }

    #[test]
    fn bars_can_be_drawn() {
        for counted in [Counted::Bytes, Counted::Things("tokens")] {
            assert!(ProgressStyle::with_template(&counted.template()).is_ok());
        }
    }
}
