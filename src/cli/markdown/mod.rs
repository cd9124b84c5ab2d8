//! Markdown for terminals, while it streams.
//!
//! Only forward: what was shown is never rewritten, so scrolling back and copying stay intact. The
//! start of a line is held until it says what the line is (heading, list, fence, table); from
//! there on text appears word by word. Tables and code keep their exact characters.

mod inline;
mod wrap;

use inline::Inline;
pub use wrap::{Wrap, code};

/// What the current line turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Its start does not say yet.
    Unknown,
    /// Running text: emphasis and wrapping.
    Text,
    /// Table rows and rules: as they are.
    Plain,
    /// Inside a fence.
    Code,
}

/// Turns streamed Markdown into text with escape sequences.
pub struct Markdown {
    line: Line,
    /// The beginning of an undecided line, or a line of code that may close its fence.
    held: String,
    /// The marker and length of the open fence.
    fence: Option<(char, usize)>,
    inline: Inline,
    wrap: Wrap,
}

/// What the start of a line says.
enum Start {
    Unclear,
    Fence(char, usize),
    Heading(usize),
    /// A list item or quotation: where its text begins.
    Item(usize),
    Plain,
    Text,
}

impl Markdown {
    /// Wraps at the terminal's width.
    pub fn new() -> Self {
        Self::with_wrap(Wrap::new())
    }

    fn with_wrap(wrap: Wrap) -> Self {
        Self {
            line: Line::Unknown,
            held: String::new(),
            fence: None,
            inline: Inline::default(),
            wrap,
        }
    }

    /// Takes the next piece; gives back what can be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        for character in piece.chars() {
            self.character(character);
        }
        self.wrap.take()
    }

    /// The text ended: gives back the rest, with a line end and normal style.
    pub fn finish(&mut self) -> String {
        if !self.held.is_empty() || self.line != Line::Unknown {
            self.character('\n');
        }
        self.fence = None;
        self.wrap.escape(code::RESET);
        self.wrap.finish()
    }

    fn character(&mut self, character: char) {
        match self.line {
            Line::Unknown if character == '\n' => self.end_undecided(),
            Line::Unknown => {
                self.held.push(character);
                self.decide();
            }
            Line::Text if character == '\n' => {
                self.inline.end_line(&mut self.wrap);
                self.end_line();
            }
            Line::Text => self.inline.push(character, &mut self.wrap),
            Line::Plain | Line::Code if character == '\n' => {
                self.wrap.escape(code::RESET);
                self.end_line();
            }
            Line::Plain | Line::Code => self.wrap.verbatim(character.encode_utf8(&mut [0; 4])),
        }
    }

    fn end_line(&mut self) {
        self.wrap.newline();
        self.line = Line::Unknown;
    }

    /// Looks at the held start of a line that goes on.
    fn decide(&mut self) {
        if let Some((marker, _)) = self.fence {
            // A closing fence has nothing but its markers.
            if self.held.trim_start().chars().any(|c| c != marker) {
                self.begin_code_line();
            }
            return;
        }
        match classify(&self.held, false) {
            Start::Unclear | Start::Fence(..) => {}
            Start::Heading(level) => self.begin_heading(level),
            Start::Item(text) => self.begin_text(text),
            Start::Plain => self.begin_plain(),
            Start::Text => self.begin_text(0),
        }
    }

    /// A line ended before its kind was clear.
    fn end_undecided(&mut self) {
        let held = self.held.trim().to_string();
        if let Some((marker, length)) = self.fence {
            if held.len() >= length && held.chars().all(|c| c == marker) {
                self.fence = None;
                self.dim_line();
            } else {
                self.begin_code_line();
                self.character('\n');
            }
            return;
        }
        match classify(&self.held, true) {
            Start::Fence(marker, length) => {
                self.fence = Some((marker, length));
                self.dim_line();
            }
            Start::Plain => self.dim_line(),
            _ => {
                self.begin_text(0);
                self.character('\n');
            }
        }
    }

    /// Shows the held line as quiet markup.
    fn dim_line(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.wrap.escape(code::DIM);
        self.wrap.verbatim(&held);
        self.wrap.escape(code::RESET);
        self.end_line();
    }

    fn begin_code_line(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.wrap.escape(code::CYAN);
        self.wrap.verbatim(&held);
        self.line = Line::Code;
    }

    fn begin_plain(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.wrap.verbatim(&held);
        self.line = Line::Plain;
    }

    fn begin_heading(&mut self, level: usize) {
        let held = std::mem::take(&mut self.held);
        let base = if level == 1 {
            [code::BOLD, code::UNDERLINE].concat()
        } else {
            code::BOLD.to_string()
        };
        self.wrap.hang(0);
        self.inline.start(&base, &mut self.wrap);
        self.line = Line::Text;
        let text = held.trim_start().trim_start_matches('#').trim_start();
        text.chars().for_each(|c| self.character(c));
    }

    /// Running text whose first `marker` bytes (indent, bullet, number) stay as they are.
    fn begin_text(&mut self, marker: usize) {
        let held = std::mem::take(&mut self.held);
        let (marker, text) = held.split_at(marker);
        self.wrap.hang(marker.chars().count());
        self.inline.start("", &mut self.wrap);
        self.wrap
            .verbatim(&marker.replacen(['*', '+'], "•", 1).replacen("- ", "• ", 1));
        self.line = Line::Text;
        text.chars().for_each(|c| self.character(c));
    }
}

/// What a line is, judged by its beginning, or by all of it once it `ended`.
fn classify(line: &str, ended: bool) -> Start {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let Some(first) = text.chars().next() else {
        return if ended { Start::Text } else { Start::Unclear };
    };
    let run = text.chars().take_while(|&c| c == first).count();
    let rest = &text[run * first.len_utf8()..];
    let is_only_run = rest.is_empty();
    match first {
        '`' | '~' if run >= 3 => Start::Fence(first, run),
        '#' if run <= 6 && rest.starts_with(' ') => Start::Heading(run),
        '|' => Start::Plain,
        '-' | '*' | '_' if run >= 3 && is_only_run && ended => Start::Plain,
        '-' | '*' | '+' if run == 1 && rest.starts_with(' ') => Start::Item(indent + 2),
        '>' if rest.starts_with(' ') => Start::Item(indent + run + 1),
        '#' | '`' | '~' | '-' | '*' | '_' | '+' | '>' if is_only_run && !ended => Start::Unclear,
        '0'..='9' => number(text, indent, ended),
        _ => Start::Text,
    }
}

/// `12. text` and `12) text`.
fn number(text: &str, indent: usize, ended: bool) -> Start {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = text[digits..].chars();
    match (rest.next(), rest.next()) {
        (None, _) if !ended && digits <= 9 => Start::Unclear,
        (Some('.' | ')'), None) if !ended => Start::Unclear,
        (Some('.' | ')'), Some(' ')) => Start::Item(indent + digits + 2),
        _ => Start::Text,
    }
}

#[cfg(test)]
mod tests;
