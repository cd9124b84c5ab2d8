//! Where the prompt of `run` comes from: -p, -f and a pipe, joined in this order.

use crate::cli::input_file::{is_pipe, read_text};
use anyhow::bail;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The parts that are there, with an empty line between them.
pub fn gather(text: Option<&str>, file: Option<&PathBuf>) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    parts.extend(text.map(str::to_string));
    let mut wants_pipe = true;
    if let Some(file) = file {
        wants_pipe = !is_pipe(file);
        parts.push(read_text(file)?);
    }
    if wants_pipe && !std::io::stdin().is_terminal() {
        parts.push(read_text(Path::new("-"))?);
    }
    parts.retain(|part| !part.trim().is_empty());
    if parts.is_empty() {
        bail!("there is no prompt: give -p TEXT or -f FILE, or pipe text into standard input");
    }
    // One trailing line end belongs to the file, not to the question.
    let parts: Vec<&str> = parts.iter().map(|part| trim_line_end(part)).collect();
    Ok(parts.join("\n\n"))
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
