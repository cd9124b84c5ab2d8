//! Where the prompt of `run` comes from: -p, -f and a pipe, joined in this order.

use crate::cli::input_file::{is_pipe, read_text};
use anyhow::bail;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// The parts that are there, with an empty line between them.
pub fn gather(text: Option<&str>, file: Option<&PathBuf>) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    parts.extend(text.map(str::to_string));
    let asks_for_pipe = file.is_some_and(|file| is_pipe(file));
    if let Some(file) = file.filter(|_| !asks_for_pipe) {
        parts.push(read_text(file)?);
    }
    if asks_for_pipe || !std::io::stdin().is_terminal() {
        parts.push(read_pipe()?);
    }
    parts.retain(|part| !part.trim().is_empty());
    if parts.is_empty() {
        bail!("there is no prompt: give -p TEXT or -f FILE, or pipe text into standard input");
    }
    // One trailing line end belongs to the file, not to the question.
    let parts: Vec<&str> = parts.iter().map(|part| trim_line_end(part)).collect();
    Ok(parts.join("\n\n"))
}

/// Standard input to its end. One that is open but silent, as a loop in a script leaves it, would be waited for without a word.
fn read_pipe() -> anyhow::Result<String> {
    let (done, waiting) = mpsc::channel::<()>();
    // Without a thread it is only quieter.
    let _ = std::thread::Builder::new().spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "waiting for standard input to end; add `< /dev/null` if nothing is piped in"
            );
        }
    });
    let text = read_text(Path::new("-"));
    drop(done);
    text
}

fn trim_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_dropped() {
        assert_eq!(trim_line_end("a\r\n"), "a");
        assert_eq!(trim_line_end("a\n\n"), "a\n");
    }
}
