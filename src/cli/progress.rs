//! How far long work has come: a bar on a terminal, plain lines now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal;

/// Progress through a number of bytes; may be told of steps by many threads.
pub struct Progress {
    doing: String,
    total: u64,
    start: Instant,
    bar: ProgressBar,
    /// For lines: the next moment at which one is due. `None` when the bar is drawn.
    next_line: Option<Mutex<Instant>>,
}

impl Progress {
    /// Starts to show the progress of `doing` ("Quantizing") through `total` bytes.
    pub fn bytes(doing: &str, total: u64) -> Progress {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(doing.to_owned());
        Progress {
            doing: doing.to_owned(),
            total,
            start: Instant::now(),
            bar,
            next_line: (!on_terminal).then(|| Mutex::new(Instant::now() + FIRST_LINE)),
        }
    }

    /// That many more bytes are done.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
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
        let rate = done as f64 / seconds;
        let left = self.total.saturating_sub(done) as f64 / rate.max(1.0);
        eprintln!(
            "{}: {} of {} ({:.0} %), {}/s, {left:.0} s left",
            self.doing,
            terminal::bytes(done),
            terminal::bytes(self.total),
            100.0 * done as f64 / self.total.max(1) as f64,
            terminal::bytes(rate as u64),
        );
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

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Short work ends before the first line, and needs none.
const FIRST_LINE: Duration = Duration::from_secs(2);
const BETWEEN_LINES: Duration = Duration::from_secs(10);
