//! Pipe tables with aligned columns.
//!
//! A table is held until it ends, because any row may widen a column. A very long one is shown
//! early, and its other rows have to fit the columns of the first.

use super::cells::{Cell, Styled, broken, split, split_into, styled, width};
use super::style::{Style, code};
use super::wrap::Wrap;

/// Rows and bytes that are held: more than fits a screen, less than a person waits for.
const MAX_ROWS: usize = 200;
pub const MAX_BYTES: usize = 64 << 10;

/// Below this, columns are stacks of word fragments, and the source is easier to read.
const NARROWEST: usize = 8;

/// Between two columns, in the rows and in the rule under the header.
const BAR: &str = " │ ";
const CROSSING: &str = "─┼─";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alignment {
    Left,
    Center,
    Right,
}

enum Layout {
    /// Nothing was shown yet.
    Open,
    /// The window is too narrow for columns: lines appear as they came.
    Source,
    /// The columns' widths.
    Columns(Vec<usize>),
}

/// A line that may be a header, and what follows it.
pub struct Table {
    header: String,
    /// The line under the header.
    delimiter: Option<String>,
    alignments: Vec<Alignment>,
    /// Rows that are not shown yet.
    rows: Vec<String>,
    bytes: usize,
    layout: Layout,
}

impl Table {
    /// A table, if the next line says so.
    pub fn new(header: String) -> Self {
        Self {
            header,
            delimiter: None,
            alignments: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            layout: Layout::Open,
        }
    }

    /// Takes the next row; false if the line above is no header.
    pub fn add(&mut self, row: &str) -> bool {
        if self.is_proven() {
            self.bytes += row.len();
            self.rows.push(row.to_owned());
            return true;
        }
        let Some(mut alignments) = alignments(row) else {
            return false;
        };
        // The header has as many columns as it has; models miscount the dashes.
        let columns = split(&self.header).len();
        alignments.resize(columns, Alignment::Left);
        self.alignments = alignments;
        self.delimiter = Some(row.to_owned());
        true
    }

    /// Whether the line under the header made it one.
    pub fn is_proven(&self) -> bool {
        self.delimiter.is_some()
    }

    /// The header's source.
    pub fn into_header(self) -> String {
        self.header
    }

    /// Shows the rows so far if they are too many to hold.
    pub fn show_if_full(&mut self, wrap: &mut Wrap) {
        let is_full = self.rows.len() >= MAX_ROWS || self.bytes >= MAX_BYTES;
        if is_full || !matches!(self.layout, Layout::Open) {
            // More rows will come, and a column of one digit would be too narrow for two.
            self.show_rows(NARROWEST, wrap);
        }
    }

    /// Shows the rows that were not shown yet.
    pub fn show(&mut self, wrap: &mut Wrap) {
        self.show_rows(0, wrap);
    }

    /// Shows rows in columns of at least some width, if that is still open.
    fn show_rows(&mut self, least: usize, wrap: &mut Wrap) {
        let rows = std::mem::take(&mut self.rows);
        if matches!(self.layout, Layout::Open) {
            self.begin(&rows, least, wrap);
        }
        for row in &rows {
            match &self.layout {
                Layout::Columns(widths) => {
                    self.show_row(widths, &self.cells(row, Style::default()), wrap);
                }
                Layout::Open | Layout::Source => show_line(row, wrap),
            }
        }
    }

    /// Decides the columns and shows what stands above the rows.
    fn begin(&mut self, rows: &[String], least: usize, wrap: &mut Wrap) {
        let Some(widths) = self.widths(rows, least, wrap.width()) else {
            show_line(&self.header, wrap);
            show_line(self.delimiter.as_deref().unwrap_or_default(), wrap);
            self.layout = Layout::Source;
            return;
        };
        self.show_row(&widths, &self.cells(&self.header, Style::BOLD), wrap);
        let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        let rule = rule.join(CROSSING);
        let line = format!("{}{}{rule}{}", self.indent(), code::DIM, code::RESET);
        show_line(&line, wrap);
        self.layout = Layout::Columns(widths);
    }

    /// The columns' widths in a window of this width, if there is room for them.
    fn widths(&self, rows: &[String], least: usize, window: usize) -> Option<Vec<usize>> {
        let mut natural = vec![least; self.alignments.len()];
        let bars = BAR.chars().count() * (natural.len() - 1);
        let room = window.checked_sub(self.indent().len() + bars)?;
        for row in std::iter::once(&self.header).chain(rows) {
            for (column, cell) in natural.iter_mut().zip(self.cells(row, Style::default())) {
                let widest = cell.iter().map(|line| width(line)).max();
                *column = widest.unwrap_or(0).max(*column);
            }
        }
        fit(&natural, room)
    }

    /// The spaces before the table, in a list.
    fn indent(&self) -> &str {
        let text = self.header.trim_start_matches(' ');
        &self.header[..self.header.len() - text.len()]
    }

    fn cells(&self, row: &str, base: Style) -> Vec<Cell> {
        let cells = split_into(row, self.alignments.len());
        cells.iter().map(|cell| styled(cell, base)).collect()
    }

    fn show_row(&self, widths: &[usize], cells: &[Cell], wrap: &mut Wrap) {
        let in_column = |(cell, &width): (&'_ Cell, &usize)| -> Vec<Vec<Styled>> {
            let lines = cell.iter().flat_map(|line| broken(line, width));
            lines.map(<[Styled]>::to_vec).collect()
        };
        let columns: Vec<Cell> = cells.iter().zip(widths).map(in_column).collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..height {
            let mut out = self.indent().to_owned();
            for (column, lines) in columns.iter().enumerate() {
                let text = lines.get(index).map_or(&[][..], Vec::as_slice);
                // A wide character may stand in a column of one.
                let free = widths[column].saturating_sub(width(text));
                let (before, after) = self.alignments[column].padding(free);
                if column + 1 < columns.len() {
                    out.extend(std::iter::repeat_n(' ', before));
                    push_styled(&mut out, text);
                    out.extend(std::iter::repeat_n(' ', after));
                    out += &format!("{}{BAR}{}", code::DIM, code::RESET);
                } else if !text.is_empty() {
                    // Lines end with their text.
                    out.extend(std::iter::repeat_n(' ', before));
                    push_styled(&mut out, text);
                }
            }
            show_line(&out, wrap);
        }
    }
}

impl Alignment {
    /// The spaces before and after a text that leaves `free` columns.
    fn padding(self, free: usize) -> (usize, usize) {
        let before = match self {
            Self::Left => 0,
            Self::Center => free / 2,
            Self::Right => free,
        };
        (before, free - before)
    }
}

/// What `|:--|:-:|--:|` says, if this is such a line.
fn alignments(line: &str) -> Option<Vec<Alignment>> {
    let cells = split(line);
    let read = |cell: &String| {
        let cell = cell.trim();
        let dashes = cell.strip_prefix(':').unwrap_or(cell);
        let dashes = dashes.strip_suffix(':').unwrap_or(dashes);
        let is_delimiter = !dashes.is_empty() && dashes.bytes().all(|b| b == b'-');
        is_delimiter.then(|| match (cell.starts_with(':'), cell.ends_with(':')) {
            (true, true) => Alignment::Center,
            (false, true) => Alignment::Right,
            _ => Alignment::Left,
        })
    };
    cells.iter().map(read).collect()
}

/// Widths that fit into `room`: the widest columns give way. None if that makes them unreadable.
fn fit(natural: &[usize], room: usize) -> Option<Vec<usize>> {
    let capped = |cap: usize| natural.iter().map(move |&width| width.min(cap));
    let longest = natural.iter().copied().max().unwrap_or(0);
    let cap = if natural.iter().sum::<usize>() <= room {
        longest
    } else {
        let caps = (NARROWEST..=room).rev();
        caps.into_iter()
            .find(|&cap| capped(cap).sum::<usize>() <= room)?
    };
    Some(capped(cap).collect())
}

fn push_styled(out: &mut String, text: &[Styled]) {
    let mut current = Style::default();
    for &(character, style) in text {
        if style != current {
            *out += &style.sequences();
            current = style;
        }
        out.push(character);
    }
    if current != Style::default() {
        *out += code::RESET;
    }
}

fn show_line(line: &str, wrap: &mut Wrap) {
    wrap.verbatim(line);
    wrap.newline();
}
