//! Cuts text into the pieces that are merged on their own: the o200k pattern as a scanner.
//!
//! The pattern is one alternation, tried in this order at each position:
//!
//! ```text
//! 1  [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! 2  [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! 3  \p{N}{1,3}
//! 4   ?[^\s\p{L}\p{N}]+[\r\n/]*
//! 5  \s*[\r\n]+
//! 6  \s+(?!\S)
//! 7  \s+
//! ```
//!
//! A backtracking engine gives characters back one at a time; here each place where it would do so is worked out in advance,
//! so that no character is looked at more than three times whatever the text is.

use super::classes::{
    CASELESS, Classes, LOWER, LOWER_HALF, MARK, NEWLINE, NUMBER, OTHER, PREFIX, SPACE, UPPER,
    UPPER_HALF,
};

/// The pieces of a text, in order; together they are the text.
pub struct Pieces<'a> {
    text: &'a str,
    at: usize,
    classes: &'static Classes,
}

impl<'a> Pieces<'a> {
    /// The pieces of `text`.
    pub fn new(text: &'a str) -> Self {
        Pieces {
            text,
            at: 0,
            classes: Classes::get(),
        }
    }

    /// Class bit and length of the character at `at`; no bit at the end of the text.
    #[inline]
    fn class(&self, at: usize) -> (u8, usize) {
        match self.text.as_bytes().get(at) {
            None => (0, 0),
            Some(&byte) if byte < 128 => (self.classes.of(char::from(byte)), 1),
            Some(_) => match self.text[at..].chars().next() {
                None => (0, 0),
                Some(character) => (self.classes.of(character), character.len_utf8()),
            },
        }
    }

    /// The end of the run of characters in `set` that starts at `at`.
    #[inline]
    fn run(&self, mut at: usize, set: u8) -> usize {
        loop {
            let (class, len) = self.class(at);
            if class & set == 0 {
                return at;
            }
            at += len;
        }
    }

    fn piece_end(&self, start: usize) -> usize {
        let (first, len) = self.class(start);
        if first & (UPPER | LOWER | CASELESS) != 0 {
            let word = self.word(start);
            return self.contraction(word.cased_end.unwrap_or(word.upper_end));
        }
        if first & PREFIX != 0 {
            let word = self.word(start + len);
            if let Some(end) = word.cased_end {
                return self.contraction(end);
            }
            if first == MARK {
                // Alternative 1 without its prefix takes the mark itself, before alternative 2 is tried.
                return self.contraction(start + len);
            }
            if word.upper_end > start + len {
                return self.contraction(word.upper_end);
            }
        }
        if first == NUMBER {
            return self.number(start + len);
        }
        let sign = start + usize::from(self.text.as_bytes()[start] == b' ');
        if self.class(sign).0 == OTHER {
            let end = self.run(sign, OTHER | MARK);
            let tail = self.text.as_bytes()[end..].iter();
            return end + tail.take_while(|byte| b"\r\n/".contains(byte)).count();
        }
        self.whitespace(start)
    }

    /// Alternatives 1 and 2 after their prefix.
    fn word(&self, start: usize) -> Word {
        let mut at = start;
        let mut cased_end = None;
        loop {
            let (class, len) = self.class(at);
            if class == LOWER {
                cased_end = Some(self.run(at, LOWER_HALF));
                break;
            }
            if class & UPPER_HALF == 0 {
                break;
            }
            at += len;
            if class != UPPER {
                cased_end = Some(at);
            }
        }
        Word {
            cased_end,
            upper_end: at,
        }
    }

    /// Takes an English contraction after a word: in any case, and `ſ` folds to `s`.
    fn contraction(&self, end: usize) -> usize {
        let tail = &self.text.as_bytes()[end..];
        if tail.first() != Some(&b'\'') {
            return end;
        }
        let lower = |index: usize| tail.get(index).map_or(0, u8::to_ascii_lowercase);
        match (lower(1), lower(2)) {
            (b's' | b't' | b'm' | b'd', _) => end + 2,
            (b'r' | b'v', b'e') | (b'l', b'l') | (0xC5, 0xBF) => end + 3,
            _ => end,
        }
    }

    /// Up to two more digits after the first.
    fn number(&self, mut end: usize) -> usize {
        for _ in 0..2 {
            let (class, len) = self.class(end);
            if class == NUMBER {
                end += len;
            }
        }
        end
    }

    /// Alternatives 5 to 7: up to the last line end, or all but the last space if a word may want that one, or all.
    fn whitespace(&self, start: usize) -> usize {
        let mut at = start;
        let mut line_end = None;
        let mut last = start;
        loop {
            let (class, len) = self.class(at);
            if class & (SPACE | NEWLINE) == 0 {
                break;
            }
            last = at;
            at += len;
            if class == NEWLINE {
                line_end = Some(at);
            }
        }
        match line_end {
            Some(end) => end,
            None if at == self.text.len() || last == start => at,
            None => last,
        }
    }
}

/// Where a word can end.
struct Word {
    /// By alternative 1, if that matches: after the lower-case run, or else after the last caseless letter or mark.
    cased_end: Option<usize>,
    /// By alternative 2, which is tried only when the first fails: after the upper-case run.
    upper_end: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let start = self.at;
        if start >= self.text.len() {
            return None;
        }
        self.at = self.piece_end(start);
        Some(&self.text[start..self.at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        Pieces::new(text).collect()
    }

    #[test]
    fn words_numbers_signs_and_spaces() {
        assert_eq!(
            pieces("Hello, World!  How's it going?"),
            [
                "Hello", ",", " World", "!", " ", " How's", " it", " going", "?"
            ]
        );
        assert_eq!(
            pieces("a  \n\n  b\t1234//\n"),
            ["a", "  \n\n", " ", " b", "\t", "123", "4", "//\n"]
        );
        assert_eq!(
            pieces("camelCase HTMLParser"),
            ["camel", "Case", " HTMLParser"]
        );
    }

    #[test]
    fn upper_case_after_a_caseless_letter_is_given_back() {
        assert_eq!(pieces("日AAA b"), ["日", "AAA", " b"]);
        assert_eq!(pieces("\u{301}AB"), ["\u{301}", "AB"]);
        assert_eq!(pieces("!AB"), ["!AB"]);
    }

    #[test]
    fn contractions_fold_case() {
        assert_eq!(
            pieces("we'Re I'LL 'tis x'ſ"),
            ["we'Re", " I'LL", " '", "tis", " x'ſ"]
        );
    }

    #[test]
    fn megabytes_of_one_kind_take_linear_time() {
        for text in ["日A", " \n", "\u{301}A", "'", "A", " ", "1", "\u{301}"] {
            let text = text.repeat(2_000_000);
            let began = std::time::Instant::now();
            assert_eq!(Pieces::new(&text).map(str::len).sum::<usize>(), text.len());
            assert!(began.elapsed().as_secs() < 20, "{:?}", &text[..2]);
        }
        let text = format!("{}x", " ".repeat(5_000_000));
        assert_eq!(Pieces::new(&text).count(), 2);
    }
}
