//! Markdown for terminals, while it streams.
//!
//! Only forward: what was shown is never rewritten, so scrolling back and copying stay intact. The
//! start of a line is held until it says what the line is (heading, list, fence, table); from
//! there on text appears word by word. Tables wait for their last line, because any row may widen
//! a column. Code keeps its exact characters.

mod cells;
mod emphasis;
mod inline;
mod line;
mod style;
mod table;
mod wrap;

use inline::Inline;
use line::{Start, classify};
use style::Style;
pub use style::code;
use table::Table;
pub use wrap::Wrap;

/// Bytes of a line that may say nothing: a thousand dashes are no rule.
const LONGEST_START: usize = 1000;

/// What the current line turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Its start does not say yet.
    Unknown,
    /// Running text: emphasis and wrapping.
    Text,
    /// A row of what may be a table: held to its end.
    Row,
    /// As it is.
    Plain,
    /// Inside a fence.
    Code,
    /// Code by its indent.
    Indented,
}

/// Turns streamed Markdown into text with escape sequences.
pub struct Markdown {
    line: Line,
    /// The beginning of an undecided line, a row of a table, or a line of code that may close its fence.
    held: String,
    /// The marker and length of the open fence.
    fence: Option<(char, usize)>,
    /// A table, or the line that may become its header.
    table: Option<Table>,
    /// Indented code may begin: before this line there is nothing, an empty line or such code.
    is_apart: bool,
    /// Indented lines go on with an item.
    in_list: bool,
    inline: Inline,
    wrap: Wrap,
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
            table: None,
            is_apart: true,
            in_list: false,
            inline: Inline::new(),
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
        self.end_table();
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
            Line::Row if character == '\n' => self.end_row(),
            Line::Row => {
                self.held.push(character);
                if self.held.len() > table::MAX_BYTES {
                    self.end_table();
                    self.wrap.verbatim(&std::mem::take(&mut self.held));
                    self.line = Line::Plain;
                }
            }
            Line::Text if character == '\n' => {
                self.inline
                    .end_line(&mut |c, style| self.wrap.push_styled(c, style));
                self.wrap.style(self.inline.base());
                self.end_line();
            }
            Line::Text => self
                .inline
                .push(character, &mut |c, style| self.wrap.push_styled(c, style)),
            Line::Plain | Line::Code | Line::Indented if character == '\n' => {
                self.wrap.escape(code::RESET);
                self.end_line();
            }
            Line::Plain | Line::Code | Line::Indented => {
                self.wrap.verbatim(character.encode_utf8(&mut [0; 4]));
            }
        }
    }

    fn end_line(&mut self) {
        self.wrap.newline();
        self.is_apart = self.line == Line::Indented;
        self.line = Line::Unknown;
    }

    /// Looks at the held start of a line that goes on.
    fn decide(&mut self) {
        let is_endless = self.held.len() >= LONGEST_START;
        if let Some((marker, _)) = self.fence {
            // A closing fence has nothing but its markers.
            if is_endless || self.held.trim_start().chars().any(|c| c != marker) {
                self.begin_code(Line::Code);
            }
        } else if self.inline.in_formula {
            self.begin_text(0, Style::default());
        } else if self.is_indented_code() {
            self.end_table();
            self.begin_code(Line::Indented);
        } else {
            match classify(&self.held, false) {
                Start::Unclear | Start::Fence(..) if is_endless => self.begin(Start::Text),
                Start::Unclear | Start::Fence(..) => {}
                start => self.begin(start),
            }
        }
    }

    fn is_indented_code(&self) -> bool {
        let text = self.held.trim_start();
        let indent = &self.held[..self.held.len() - text.len()];
        let is_deep = indent.contains('\t') || indent.len() >= 4;
        self.is_apart && !self.in_list && is_deep && !text.is_empty()
    }

    /// A line ended before its kind was clear.
    fn end_undecided(&mut self) {
        let held = self.held.trim();
        if let Some((marker, length)) = self.fence {
            if held.len() >= length && held.chars().all(|c| c == marker) {
                self.fence = None;
                self.dim_line();
            } else {
                self.begin_code(Line::Code);
                self.character('\n');
            }
            return;
        }
        let is_empty = held.is_empty();
        self.begin(classify(&self.held, true));
        if self.line != Line::Unknown {
            self.character('\n');
        }
        if is_empty {
            self.is_apart = true;
            // LaTeX has no empty lines in a formula: this one was none, or is over.
            self.inline.in_formula = false;
        }
    }

    /// Shows the held beginning of a line of this kind.
    fn begin(&mut self, start: Start) {
        self.follow_list(start);
        if start != Start::TableRow {
            self.end_table();
        }
        match start {
            Start::Heading(level) => self.begin_heading(level),
            Start::Item(text) | Start::Quote(text) => self.begin_item(text),
            Start::Escaped(backslash) => {
                self.held.remove(backslash);
                self.begin_text(backslash + 1, Style::default());
            }
            Start::TableRow => self.line = Line::Row,
            Start::Fence(marker, length) => {
                self.fence = Some((marker, length));
                self.dim_line();
            }
            Start::Rule => self.dim_line(),
            Start::Text | Start::Unclear => self.begin_text(0, Style::default()),
        }
    }

    /// Notices where lists begin and end.
    fn follow_list(&mut self, start: Start) {
        let is_indented = self.held.starts_with([' ', '\t']);
        match start {
            Start::Item(_) => self.in_list = true,
            // Without an empty line, a paragraph of an item may go on at the left edge.
            Start::Text if !self.is_apart || self.held.trim().is_empty() => {}
            _ if is_indented => {}
            _ => self.in_list = false,
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

    fn begin_code(&mut self, line: Line) {
        let held = std::mem::take(&mut self.held);
        self.wrap.escape(code::CYAN);
        self.wrap.verbatim(&held);
        self.line = line;
    }

    fn begin_heading(&mut self, level: usize) {
        let text = self.held.trim_start().trim_start_matches('#').trim_start();
        self.held = text.to_owned();
        let underline = level == 1;
        let style = Style {
            underline,
            ..Style::BOLD
        };
        self.begin_text(0, style);
    }

    /// A list item or a quotation whose text begins after `marker` bytes.
    fn begin_item(&mut self, marker: usize) {
        let (start, text) = self.held.split_at(marker);
        let bullet = start.replacen(['*', '+'], "•", 1).replacen("- ", "• ", 1);
        let hang = start.chars().count();
        self.held = format!("{bullet}{text}");
        self.begin_text(bullet.len(), Style::default());
        self.wrap.hang(hang);
    }

    /// Running text whose first `verbatim` bytes stay as they are.
    fn begin_text(&mut self, verbatim: usize, style: Style) {
        let held = std::mem::take(&mut self.held);
        let (start, text) = held.split_at(verbatim);
        self.wrap.hang(0);
        self.inline.start(style);
        self.wrap.restyle(style);
        self.wrap.verbatim(start);
        self.line = Line::Text;
        text.chars().for_each(|c| self.character(c));
    }

    fn end_row(&mut self) {
        let row = std::mem::take(&mut self.held);
        self.line = Line::Unknown;
        self.is_apart = false;
        if let Some(table) = &mut self.table
            && table.add(&row)
        {
            return table.show_if_full(&mut self.wrap);
        }
        self.end_table();
        self.table = Some(Table::new(row));
    }

    /// Shows the table, or the line that did not become its header.
    fn end_table(&mut self) {
        let Some(mut table) = self.table.take() else {
            return;
        };
        if table.is_proven() {
            return table.show(&mut self.wrap);
        }
        let current = std::mem::replace(&mut self.held, table.into_header());
        let line = self.line;
        self.begin_text(0, Style::default());
        self.character('\n');
        self.line = line;
        self.held = current;
    }
}

#[cfg(test)]
mod tests;
