//! What the markers in a piece of a line mean: CommonMark's rules for emphasis and code, for text that may go on.
//!
//! A marker that opens or closes nothing is text, and so is most of what looks like LaTeX or a path.
//! Two rules differ from CommonMark's. A `*` between letters or digits is always a star, because a
//! lost multiplication sign hurts more than half a word that is not bold. And a backslash goes only
//! where the marker after it would have been read as one: `C:\Users\_me` and `\[x\]` keep theirs.

use super::style::Style;
use unicode_width::UnicodeWidthChar;

/// How one character of the source is shown.
#[derive(Clone, Copy, Default)]
pub struct Look {
    pub style: Style,
    /// It was markup.
    pub is_hidden: bool,
    /// Emphasis may begin here, or might have without a backslash.
    pub opens: bool,
}

/// Emphasis that waits for its end.
struct Opener {
    marker: char,
    at: usize,
    /// Markers that are not used yet, from `at` on.
    left: usize,
    /// All there were, and whether they could have closed too: CommonMark's rule of three asks.
    count: usize,
    closes: bool,
}

/// A piece of a line and what is known about it.
pub struct Reading<'a> {
    text: &'a [char],
    /// What stands before the piece.
    before: char,
    /// Whether the line ends here; otherwise more may come.
    ended: bool,
    /// Markers that opened, or might have, in the line before this piece.
    seen: &'a [char],
    openers: Vec<Opener>,
    /// For each character, valid below `settled`.
    pub looks: Vec<Look>,
    /// From here on the next characters of the line decide.
    pub settled: usize,
    /// The line ended between `\[` and `\]`.
    pub opens_formula: bool,
}

/// Characters that may be markup or take it away, depending on what comes next.
pub fn is_marker(character: char) -> bool {
    matches!(character, '*' | '_' | '~' | '`' | '\\')
}

/// Whether `character`, after `before`, begins something whose end decides.
pub fn is_start(before: char, character: char) -> bool {
    is_marker(character) || before == ']' && character == '('
}

impl<'a> Reading<'a> {
    /// Reads as far as it can be known.
    pub fn new(text: &'a [char], before: char, seen: &'a [char], ended: bool) -> Self {
        let mut reading = Self {
            text,
            before,
            ended,
            seen,
            openers: Vec::new(),
            looks: vec![Look::default(); text.len()],
            settled: 0,
            opens_formula: false,
        };
        let mut at = 0;
        while at < text.len() {
            let next = match text[at] {
                '\\' => reading.backslash(at),
                '`' => reading.code(at),
                '*' | '_' | '~' => reading.emphasis(at),
                character if is_start(reading.before(at), character) => reading.destination(at),
                _ => Some(at + 1),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        let open = reading.openers.first().filter(|_| !ended);
        reading.settled = open.map_or(at, |opener| opener.at);
        reading
    }

    fn before(&self, at: usize) -> char {
        at.checked_sub(1)
            .map_or(self.before, |before| self.text[before])
    }

    /// `at` if the line is over, or if it goes on there.
    fn known(&self, at: usize) -> Option<usize> {
        (self.ended || at < self.text.len()).then_some(at)
    }

    /// The end of the run of equal characters.
    fn run_end(&self, at: usize) -> usize {
        let differs = self.text[at..].iter().position(|&c| c != self.text[at]);
        differs.map_or(self.text.len(), |length| at + length)
    }

    fn backslash(&mut self, at: usize) -> Option<usize> {
        let next = self.known(at + 1)?;
        match self.text.get(next) {
            // LaTeX: what looks like emphasis in a formula is an index.
            Some('(') => self.formula(at, ')'),
            Some('[') => self.formula(at, ']'),
            Some('`') => self.unescape(at),
            Some(&marker @ ('*' | '_')) => {
                let end = self.known(self.run_end(next))?;
                let (opens, closes) = self.flanks(marker, self.before(at), end);
                self.looks[next].opens = opens;
                // An escaped end belongs to an escaped beginning; alone it is the `\*.txt` of a path.
                if opens || closes && self.has_seen(marker, at) {
                    return self.unescape(at);
                }
                Some(next + 1)
            }
            Some('~') => match self.known(self.run_end(next))? - next {
                1 => Some(next + 1),
                _ => self.unescape(at),
            },
            Some('\\') => Some(next + 1),
            _ => Some(next),
        }
    }

    fn unescape(&mut self, at: usize) -> Option<usize> {
        self.looks[at].is_hidden = true;
        Some(at + 2)
    }

    /// Whether a marker before `at` might have opened emphasis.
    fn has_seen(&self, marker: char, at: usize) -> bool {
        let is_opener = |before: usize| self.looks[before].opens && self.text[before] == marker;
        self.seen.contains(&marker) || (0..at).any(is_opener)
    }

    /// Skips `\(...\)` and `\[...\]`.
    fn formula(&mut self, at: usize, closing: char) -> Option<usize> {
        let inside = at + 2;
        let mut pairs = self.text[inside..].windows(2);
        if let Some(length) = pairs.position(|pair| pair == ['\\', closing]) {
            return Some(inside + length + 2);
        }
        // A formula in lines of its own begins with a line that has only this.
        self.opens_formula = self.ended && closing == ']' && self.text.len() == inside;
        self.ended.then_some(inside)
    }

    /// Skips `(https://...)` after `[text]`.
    fn destination(&self, at: usize) -> Option<usize> {
        let mut depth = 0;
        for (offset, character) in self.text[at..].iter().enumerate() {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ if character.is_whitespace() => return Some(at + 1),
                _ => {}
            }
            if depth == 0 {
                return Some(at + offset + 1);
            }
        }
        self.ended.then_some(at + 1)
    }

    fn code(&mut self, at: usize) -> Option<usize> {
        let inside = self.known(self.run_end(at))?;
        let count = inside - at;
        let mut close = inside;
        while close < self.text.len() {
            let end = self.run_end(close);
            if self.text[close] == '`' && end - close == count {
                let end = self.known(end)?;
                self.hide(at, count);
                self.hide(close, count);
                // A space on both sides is there to keep backticks apart.
                if let [' ', .., ' '] = self.text[inside..close] {
                    self.hide(inside, 1);
                    self.hide(close - 1, 1);
                }
                self.style(inside, close, |style| style.code = true);
                return Some(end);
            }
            close = end;
        }
        self.ended.then_some(inside)
    }

    fn emphasis(&mut self, at: usize) -> Option<usize> {
        let marker = self.text[at];
        let end = self.known(self.run_end(at))?;
        let count = end - at;
        let (opens, closes) = self.flanks(marker, self.before(at), end);
        let mut run = Opener {
            marker,
            at,
            left: count,
            count,
            closes,
        };
        if closes {
            self.close(&mut run, opens);
        }
        if opens && run.left > 0 && (marker != '~' || count == 2) {
            self.looks[run.at].opens = true;
            self.openers.push(run);
        }
        Some(end)
    }

    /// Ends what this run can end.
    fn close(&mut self, run: &mut Opener, opens: bool) {
        while run.left > 0 {
            let fits = |opener: &Opener| {
                let both_ways = opener.closes || opens;
                let by_three = (opener.count + run.count).is_multiple_of(3);
                let each_by_three = run.count.is_multiple_of(3) && opener.count.is_multiple_of(3);
                opener.marker == run.marker
                    && (run.marker != '~' || run.count == 2)
                    && !(both_ways && by_three && !each_by_three)
            };
            let Some(found) = self.openers.iter().rposition(fits) else {
                return;
            };
            // What opened in between is not closed any more.
            self.openers.truncate(found + 1);
            let opener = &mut self.openers[found];
            let used = opener.left.min(run.left).min(2);
            opener.left -= used;
            let inside = opener.at + opener.left;
            if used == 2 && is_name(run.marker, &self.text[inside + used..run.at]) {
                self.openers.truncate(found);
                return;
            }
            if opener.left == 0 {
                self.openers.pop();
            }
            self.hide(inside, used);
            self.hide(run.at, used);
            self.style(inside, run.at, |style| match (run.marker, used) {
                ('~', _) => style.strike = true,
                (_, 1) => style.italic = true,
                _ => style.bold = true,
            });
            run.at += used;
            run.left -= used;
        }
    }

    fn hide(&mut self, at: usize, count: usize) {
        for look in &mut self.looks[at..at + count] {
            look.is_hidden = true;
        }
    }

    fn style(&mut self, from: usize, to: usize, set: impl Fn(&mut Style)) {
        for look in &mut self.looks[from..to] {
            set(&mut look.style);
        }
    }

    /// Whether a run of markers after `before`, ending at `end`, may open and may close.
    fn flanks(&self, marker: char, before: char, end: usize) -> (bool, bool) {
        let after = self.text.get(end).copied().unwrap_or('\n');
        let is_punctuation = |c: char| is_punctuation(c) || marker != '_' && is_wide(c);
        let stands_free = |c: char| c.is_whitespace() || is_punctuation(c);
        let left = !after.is_whitespace() && (!is_punctuation(after) || stands_free(before));
        let right = !before.is_whitespace() && (!is_punctuation(before) || stands_free(after));
        let is_word = |c: char| c.is_alphanumeric() && !is_wide(c);
        if marker == '_' {
            let opens = left && (!right || is_punctuation(before));
            (opens, right && (!left || is_punctuation(after)))
        } else if is_word(before) && is_word(after) {
            (false, false)
        } else {
            (left, right)
        }
    }
}

/// `__init__` is a name. Emphasis by CommonMark, but people and models make a word bold with stars.
fn is_name(marker: char, inside: &[char]) -> bool {
    marker == '_' && inside.iter().all(|c| c.is_alphanumeric() || *c == '_')
}

fn is_punctuation(character: char) -> bool {
    // Accents that follow their letter belong to it.
    let is_mark = character.width() == Some(0);
    !character.is_alphanumeric() && !character.is_whitespace() && !is_mark
}

/// Scripts without spaces: emphasis begins and ends between any two characters.
fn is_wide(character: char) -> bool {
    character.width() == Some(2)
}
