//! Breaks streamed text at words, with a hanging indent, and never inside an escape sequence.

use super::style::Style;
use crate::cli::terminal::width;
use unicode_width::UnicodeWidthChar;

/// Collects text for a terminal of some width.
///
/// The word in the making is held back until its end is known, so a token that continues a word
/// never forces an ugly break.
pub struct Wrap {
    /// None asks the terminal at each break.
    fixed_width: Option<usize>,
    /// Spaces that begin a continued line.
    hanging: usize,
    column: usize,
    spaces: usize,
    word: String,
    word_width: usize,
    /// How the last character of [`Wrap::push_styled`] looked.
    style: Style,
    out: String,
}

impl Wrap {
    /// Wraps at the terminal's own width, whatever it becomes.
    pub fn new() -> Self {
        Self::with_width(None)
    }

    /// Wraps at a fixed width.
    pub fn with_width(fixed_width: Option<usize>) -> Self {
        Self {
            fixed_width,
            hanging: 0,
            column: 0,
            spaces: 0,
            word: String::new(),
            word_width: 0,
            style: Style::default(),
            out: String::new(),
        }
    }

    /// Sets the indent of continued lines.
    pub fn hang(&mut self, columns: usize) {
        // An indent that leaves no room would break after every word.
        self.hanging = if columns * 2 < self.width() {
            columns
        } else {
            0
        };
    }

    /// Columns of a line.
    pub fn width(&self) -> usize {
        self.fixed_width.unwrap_or_else(width)
    }

    /// Adds one character of running text.
    pub fn push(&mut self, character: char) {
        match character {
            '\n' => self.newline(),
            ' ' => {
                self.end_word();
                self.spaces += 1;
            }
            _ => {
                self.word.push(character);
                self.word_width += character.width().unwrap_or(0);
                // Scripts without spaces may break between any two wide characters; and what is longer than a line
                // is no word to wait for the end of.
                let is_long = || self.word_width >= 20 && self.word_width >= self.width();
                if character.width() == Some(2) || is_long() {
                    self.end_word();
                }
            }
        }
    }

    /// Adds one character of running text that looks like this.
    pub fn push_styled(&mut self, character: char, style: Style) {
        self.style(style);
        self.push(character);
    }

    /// Switches to this look, if another one is on.
    pub fn style(&mut self, style: Style) {
        if self.style != style {
            self.restyle(style);
        }
    }

    /// Switches to this look, whatever was on before.
    pub fn restyle(&mut self, style: Style) {
        self.style = style;
        self.escape(&style.sequences());
    }

    /// Adds text as it is: no breaks, no indent.
    pub fn verbatim(&mut self, text: &str) {
        self.end_word();
        self.out.extend(std::iter::repeat_n(' ', self.spaces));
        self.spaces = 0;
        self.out.push_str(text);
        self.column += text.chars().filter_map(|c| c.width()).sum::<usize>();
    }

    /// Adds an escape sequence, which takes no room.
    pub fn escape(&mut self, sequence: &str) {
        self.word.push_str(sequence);
    }

    /// Ends the line.
    pub fn newline(&mut self) {
        self.end_word();
        self.out.push('\n');
        self.spaces = 0;
        self.column = 0;
    }

    /// Whether something stands on the current line.
    pub fn is_mid_line(&self) -> bool {
        self.column > 0 || self.word_width > 0
    }

    /// Gives back what can be shown.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Gives back everything, the word in the making included.
    pub fn finish(&mut self) -> String {
        self.end_word();
        self.take()
    }

    fn end_word(&mut self) {
        if self.word_width > 0 {
            let wanted = self.column + self.spaces + self.word_width;
            if self.column > self.hanging && wanted > self.width() {
                self.out.push('\n');
                self.out.extend(std::iter::repeat_n(' ', self.hanging));
                self.column = self.hanging;
            } else {
                self.out.extend(std::iter::repeat_n(' ', self.spaces));
                self.column += self.spaces;
            }
            self.spaces = 0;
            self.column += self.word_width;
            self.word_width = 0;
        }
        self.out.push_str(&self.word);
        self.word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(width: usize, hanging: usize, text: &str) -> String {
        let mut wrap = Wrap::with_width(Some(width));
        wrap.hang(hanging);
        text.chars().for_each(|character| wrap.push(character));
        wrap.finish()
    }

    #[test]
    fn lines_break_between_words_with_a_hanging_indent() {
        assert_eq!(wrapped(10, 0, "aaa bbb ccc ddd"), "aaa bbb\nccc ddd");
        assert_eq!(wrapped(10, 2, "- aaa bbb ccc"), "- aaa bbb\n  ccc");
        assert_eq!(wrapped(10, 0, "a\n\nb"), "a\n\nb");
    }

    #[test]
    fn a_word_longer_than_the_line_is_left_to_the_terminal() {
        assert_eq!(wrapped(5, 0, "a bbbbbbbbb c"), "a\nbbbbbbbbb\nc");
    }

    #[test]
    fn wide_characters_count_twice_and_break_anywhere() {
        assert_eq!(wrapped(6, 0, "漢字漢字"), "漢字漢\n字");
    }

    #[test]
    fn escapes_take_no_room_and_stay_with_their_word() {
        let mut wrap = Wrap::with_width(Some(7));
        "aaa ".chars().for_each(|character| wrap.push(character));
        wrap.escape("\x1b[1m");
        "bbb".chars().for_each(|character| wrap.push(character));
        wrap.escape("\x1b[0m");
        assert_eq!(wrap.finish(), "aaa \x1b[1mbbb\x1b[0m");
    }

    #[test]
    fn endless_words_do_not_wait_for_their_end() {
        let mut wrap = Wrap::with_width(Some(30));
        "x".repeat(70)
            .chars()
            .for_each(|character| wrap.push(character));
        assert!(wrap.take().len() >= 60);
    }

    #[test]
    fn the_word_in_the_making_is_held_back() {
        let mut wrap = Wrap::with_width(Some(20));
        "one tw".chars().for_each(|character| wrap.push(character));
        assert_eq!(wrap.take(), "one");
        "o".chars().for_each(|character| wrap.push(character));
        assert_eq!(wrap.finish(), " two");
    }
}
