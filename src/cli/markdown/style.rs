//! How characters look on a terminal.

/// The escape sequences in use.
pub mod code {
    /// Back to normal.
    pub const RESET: &str = "\x1b[0m";
    /// Headings and strong text.
    pub const BOLD: &str = "\x1b[1m";
    /// Markup that is kept.
    pub const DIM: &str = "\x1b[2m";
    /// Emphasis.
    pub const ITALIC: &str = "\x1b[3m";
    /// Level-one headings.
    pub const UNDERLINE: &str = "\x1b[4m";
    /// Deleted text.
    pub const STRIKE: &str = "\x1b[9m";
    /// Code.
    pub const CYAN: &str = "\x1b[36m";
}

/// The look of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub bold: bool,
    pub underline: bool,
    pub italic: bool,
    pub strike: bool,
    pub code: bool,
}

impl Style {
    /// Strong text and nothing else: headings, table headers.
    pub const BOLD: Self = Self {
        bold: true,
        underline: false,
        italic: false,
        strike: false,
        code: false,
    };

    /// Both together.
    pub fn with(self, other: Self) -> Self {
        Self {
            bold: self.bold || other.bold,
            underline: self.underline || other.underline,
            italic: self.italic || other.italic,
            strike: self.strike || other.strike,
            code: self.code || other.code,
        }
    }

    /// The sequences that switch to this look from any other.
    pub fn sequences(self) -> String {
        let styles = [
            (self.bold, code::BOLD),
            (self.underline, code::UNDERLINE),
            (self.italic, code::ITALIC),
            (self.strike, code::STRIKE),
            (self.code, code::CYAN),
        ];
        let on = styles.iter().filter(|(on, _)| *on);
        on.fold(code::RESET.to_owned(), |all, (_, sequence)| all + sequence)
    }
}
