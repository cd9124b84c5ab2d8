//! Where the prompt of `run` comes from: -p, -f and a pipe, joined in this order.

use anyhow::{Context, bail};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// More text than this is longer than any context and only wastes memory: 131,072 tokens of at most
/// 128 bytes are 16 MiB.
const MOST_BYTES: u64 = 64 << 20;

/// The parts that are there, with an empty line between them.
pub fn gather(text: Option<&str>, file: Option<&PathBuf>) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    parts.extend(text.map(str::to_string));
    let mut wants_pipe = true;
    if let Some(file) = file {
        if file == Path::new("-") {
            wants_pipe = false;
            parts.push(read_pipe()?);
        } else {
            parts.push(read_text(file)?);
        }
    }
    if wants_pipe && !std::io::stdin().is_terminal() {
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

fn trim_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn read_pipe() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    to_text(bytes, "standard input")
}

/// The text in a file; its size and encoding are checked.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    let name = format!("{path:?}");
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {name}"))?;
    to_text(bytes, &name)
}

fn to_text(bytes: Vec<u8>, name: &str) -> anyhow::Result<String> {
    if bytes.len() as u64 > MOST_BYTES {
        bail!(
            "{name} is longer than {} MiB, more than any context holds",
            MOST_BYTES >> 20
        );
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{name} is no UTF-8 text: byte {position} starts no character")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_dropped() {
        assert_eq!(trim_line_end("a\r\n"), "a");
        assert_eq!(trim_line_end("a\n\n"), "a\n");
    }

    #[test]
    fn binary_files_are_refused_with_the_place() {
        let error = to_text(vec![b'a', 0xC3, 0x28], "\"x.bin\"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"x.bin\" is no UTF-8 text: byte 1 starts no character"
        );
    }
}
