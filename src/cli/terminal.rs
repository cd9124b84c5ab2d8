//! Where output goes and what it may look like: colour, and numbers as people read them.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// A heading or a key figure.
    Bold,
    /// What can be skipped.
    Dim,
    /// What is wrong.
    Red,
    /// What deserves a look.
    Yellow,
}

/// Standard output, buffered. Write to it with `writeln!` and `?`: when its reader has gone away (`| head`), the error
/// travels up to `main`, which ends the program quietly. `println!` would panic.
pub fn stdout() -> BufWriter<Stdout> {
    BufWriter::with_capacity(1 << 16, Stdout(io::stdout().lock()))
}

/// Standard output, whose errors say so: "no space left" alone would not say where.
pub struct Stdout(StdoutLock<'static>);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(on_stdout)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(on_stdout)
    }
}

fn on_stdout(error: io::Error) -> io::Error {
    let message = format!("cannot write standard output: {error}");
    io::Error::new(error.kind(), message)
}

/// `text` in a style, if standard output takes colour.
pub fn paint(style: Style, text: &str) -> Cow<'_, str> {
    painted(style, text, io::stdout().is_terminal())
}

/// `text` in a style, if standard error takes colour.
pub fn paint_stderr(style: Style, text: &str) -> Cow<'_, str> {
    painted(style, text, io::stderr().is_terminal())
}

/// Whether standard output takes colour.
pub fn stdout_has_color() -> bool {
    has_color(io::stdout().is_terminal())
}

/// Whether standard error takes colour.
pub fn stderr_has_color() -> bool {
    has_color(io::stderr().is_terminal())
}

fn has_color(is_terminal: bool) -> bool {
    let color = super::GLOBALS
        .get()
        .map_or(Color::Auto, |globals| globals.color);
    let is_dumb = || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match color {
        Color::Always => true,
        Color::Never => false,
        // https://no-color.org: any value but an empty one.
        Color::Auto => {
            is_terminal && !is_dumb() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        }
    }
}

/// The terminal's width now; asked again for every line because windows are resized.
pub fn width() -> usize {
    let known = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    // Below 20 columns wrapping makes text worse, not better.
    known.unwrap_or(80).max(20)
}

/// As much of a status line as one line of the terminal holds: one that goes on in the next line cannot be taken back.
pub fn status(text: &str) -> &str {
    let columns = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    let end = text.char_indices().nth(columns.saturating_sub(1));
    end.map_or(text, |(end, _)| &text[..end])
}

/// What a model or a tool wrote, without the control characters that could move the cursor, change the title or forge
/// output. Tabs and line ends stay.
pub fn harmless(text: &str) -> String {
    let is_safe = |&character: &char| matches!(character, '\n' | '\t') || !is_unsafe(character);
    text.chars().filter(is_safe).collect()
}

/// What could drive a terminal, or makes it show other letters than there are.
fn is_unsafe(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn painted(style: Style, text: &str, is_terminal: bool) -> Cow<'_, str> {
    if !has_color(is_terminal) {
        return text.into();
    }
    let code = match style {
        Style::Bold => 1,
        Style::Dim => 2,
        Style::Red => 31,
        Style::Yellow => 33,
    };
    format!("\x1b[{code}m{text}\x1b[0m").into()
}

/// Text from a file, with all of that escaped.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe.into()
}

/// A number of bytes: `12.10 GB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A count of something large: `20.91 B` for 20.91 billion.
pub fn count(count: u64) -> String {
    scaled(count, &["", "k", "M", "B", "T", "P", "E"])
        .trim_end()
        .to_owned()
}

/// Three to four digits and the unit that makes them readable, in steps of 1000.
fn scaled(value: u64, units: &[&str]) -> String {
    let (mut scaled, mut unit) = (value as f64, 0);
    // 999.995 would round up to "1000.00".
    while scaled >= 999.995 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let unit_name = units[unit];
    match unit {
        0 => format!("{value} {unit_name}"),
        _ => format!("{scaled:.2} {unit_name}"),
    }
}

/// A whole number with its thousands set apart: `12,109,566,560`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(12_109_566_560), "12.11 GB");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(bytes(u64::MAX), "18.45 EB");
        assert_eq!(count(20_914_757_184), "20.91 B");
        assert_eq!(count(64), "64");
        assert_eq!(grouped(12_109_566_560), "12,109,566,560");
        assert_eq!(grouped(7), "7");
    }

    #[test]
    fn what_a_model_writes_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\nc\td\u{9b}1m"), "a[2Jb\nc\td1m");
    }

    #[test]
    fn text_from_a_file_cannot_drive_the_terminal() {
        assert_eq!(plain("Gpt Oss 20b"), "Gpt Oss 20b");
        assert_eq!(plain("\x1b[2J\u{9b}1m\n"), "\\u{1b}[2J\\u{9b}1m\\n");
    }
}
