//! Emphasis and code inside a line of Markdown, decided as early as a stream allows.
//!
//! An opening marker cannot be checked for its closing one, which has not arrived yet; so the rules
//! lean on what stands beside a marker: ` * ` is a star, `2*3` too, `**bold` begins bold.

use super::wrap::{Wrap, code};

/// The styles in force and the marker in the making.
#[derive(Default)]
pub struct Inline {
    bold: bool,
    italic: bool,
    strike: bool,
    /// Backticks that opened a code span.
    code: usize,
    /// Escape sequences of the surrounding block.
    base: String,
    run: Option<(char, usize)>,
    escaped: bool,
    before: char,
}

impl Inline {
    /// Starts a block whose text has this style.
    pub fn start(&mut self, base: &str, wrap: &mut Wrap) {
        *self = Self {
            base: base.to_string(),
            before: '\n',
            ..Self::default()
        };
        self.apply(wrap);
    }

    /// Takes the next character.
    pub fn push(&mut self, character: char, wrap: &mut Wrap) {
        if self.escaped {
            self.escaped = false;
            if !"\\`*_~#|[]<>".contains(character) {
                self.text('\\', wrap);
            }
            return self.text(character, wrap);
        }
        if let Some((marker, count)) = self.run {
            if marker == character {
                self.run = Some((marker, count + 1));
                return;
            }
            self.end_run(character, wrap);
        }
        match character {
            '`' => self.run = Some(('`', 1)),
            '*' | '_' | '~' if self.code == 0 => self.run = Some((character, 1)),
            '\\' if self.code == 0 => self.escaped = true,
            _ => self.text(character, wrap),
        }
    }

    /// The line ended: decides what was waiting. Styles may go on in the next line.
    pub fn end_line(&mut self, wrap: &mut Wrap) {
        if std::mem::take(&mut self.escaped) {
            self.text('\\', wrap);
        }
        self.end_run('\n', wrap);
        self.before = '\n';
    }

    fn text(&mut self, character: char, wrap: &mut Wrap) {
        wrap.push(character);
        self.before = character;
    }

    /// Decides what a run of markers means, knowing the character after it.
    fn end_run(&mut self, after: char, wrap: &mut Wrap) {
        let Some((marker, count)) = self.run.take() else {
            return;
        };
        let before = std::mem::replace(&mut self.before, marker);
        let within_word = before.is_alphanumeric() && after.is_alphanumeric();
        let opens = !after.is_whitespace() && (marker == '*' || !before.is_alphanumeric());
        let closes = !before.is_whitespace() && (marker == '*' || !within_word);
        // "2*3" is arithmetic, "un*believ*able" is rare: digits never open emphasis.
        let opens = opens && !(marker == '*' && before.is_ascii_digit());
        let toggle = |active: bool| if active { closes } else { opens };
        let changed = match (marker, count) {
            ('`', _) if self.code == 0 => {
                self.code = count;
                true
            }
            ('`', _) if self.code == count => {
                self.code = 0;
                true
            }
            ('*' | '_', 1) if toggle(self.italic) => {
                self.italic = !self.italic;
                true
            }
            ('*' | '_', 2) if toggle(self.bold) => {
                self.bold = !self.bold;
                true
            }
            ('*' | '_', 3) if toggle(self.bold && self.italic) => {
                let on = !(self.bold && self.italic);
                (self.bold, self.italic) = (on, on);
                true
            }
            ('~', 2) if toggle(self.strike) => {
                self.strike = !self.strike;
                true
            }
            _ => false,
        };
        if changed {
            self.apply(wrap);
        } else {
            (0..count).for_each(|_| wrap.push(marker));
        }
    }

    /// Writes the escape sequences of the styles in force.
    fn apply(&self, wrap: &mut Wrap) {
        wrap.escape(code::RESET);
        wrap.escape(&self.base);
        let styles = [
            (self.bold, code::BOLD),
            (self.italic, code::ITALIC),
            (self.strike, code::STRIKE),
            (self.code > 0, code::CYAN),
        ];
        for (_, sequence) in styles.iter().filter(|(on, _)| *on) {
            wrap.escape(sequence);
        }
    }
}
