//! Emphasis and code inside a line of Markdown, shown as early as a stream allows.
//!
//! Text appears at once. From a marker that may open something on, it waits for what closes it or
//! for the end of the line; a marker that is never closed is shown as it is.

use super::emphasis::{Reading, is_marker, is_start};
use super::style::Style;

/// Characters that wait for the end of their emphasis. A paragraph may come without a line end, and
/// nobody should sit before a screen that stands still because of one star.
const LONGEST: usize = 1000;

/// The text of one line.
pub struct Inline {
    /// The style of the surrounding block.
    base: Style,
    /// From the first marker on that is not understood yet.
    held: Vec<char>,
    /// The last character before `held`.
    before: char,
    /// Markers that may have opened something.
    seen: Vec<char>,
    /// Between lines with `\[` and `\]`, where markers are LaTeX.
    pub in_formula: bool,
}

impl Inline {
    /// Before the first line.
    pub fn new() -> Self {
        Self {
            base: Style::default(),
            held: Vec::new(),
            before: '\n',
            seen: Vec::new(),
            in_formula: false,
        }
    }

    /// Starts a line whose text has this style.
    pub fn start(&mut self, base: Style) {
        let in_formula = self.in_formula;
        *self = Self {
            base,
            in_formula,
            ..Self::new()
        };
    }

    /// The style of text without emphasis.
    pub fn base(&self) -> Style {
        self.base
    }

    /// Takes the next character, and shows what is clear now.
    pub fn push(&mut self, character: char, show: &mut impl FnMut(char, Style)) {
        let previous = self.held.last().copied().unwrap_or(self.before);
        if self.in_formula {
            self.in_formula = !(previous == '\\' && character == ']');
            self.before = character;
            return show(character, self.base);
        }
        if self.held.is_empty() && !is_start(previous, character) {
            self.before = character;
            return show(character, self.base);
        }
        self.held.push(character);
        let length = self.held.len();
        let ends_run = is_marker(previous) && character != previous;
        // A run of markers is not torn apart, unless it is endless itself.
        if length >= LONGEST && !is_marker(character) || length >= 2 * LONGEST {
            self.settle(true, show);
        } else if ends_run || character.is_whitespace() || character == ')' {
            self.settle(false, show);
        }
    }

    /// The line ended: shows the rest.
    pub fn end_line(&mut self, show: &mut impl FnMut(char, Style)) {
        self.settle(true, show);
        self.before = '\n';
    }

    fn settle(&mut self, ended: bool, show: &mut impl FnMut(char, Style)) {
        let reading = Reading::new(&self.held, self.before, &self.seen, ended);
        let (settled, opens_formula) = (reading.settled, reading.opens_formula);
        let mut opened = Vec::new();
        for (&character, look) in self.held.iter().zip(&reading.looks[..settled]) {
            if !look.is_hidden {
                show(character, self.base.with(look.style));
            }
            if look.opens {
                opened.push(character);
            }
        }
        if let Some(last) = settled.checked_sub(1) {
            self.before = self.held[last];
        }
        self.held.drain(..settled);
        self.seen.extend(opened);
        self.seen.sort_unstable();
        self.seen.dedup();
        self.in_formula |= opens_formula;
    }
}
