//! One line that says what is being measured, for who sits before a terminal.

use crate::cli::terminal;
use std::io::{self, IsTerminal};

/// A line on standard error that is gone when this is. Elsewhere than on a terminal there is none.
pub struct Status {
    is_shown: bool,
}

impl Status {
    /// Shows nothing yet.
    pub fn new() -> Self {
        Self {
            is_shown: terminal::stderr_has_color() && io::stderr().is_terminal(),
        }
    }

    /// Puts a text in the place of the last one.
    pub fn show(&self, text: &str) {
        if self.is_shown {
            eprint!("\r\x1b[2K{}", terminal::status(text));
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.show("");
    }
}
