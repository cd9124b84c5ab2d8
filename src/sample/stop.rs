//! Stop strings: text ends just before the first of them, even when it arrives in pieces.

/// Watches streamed text for the strings that end it.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    strings: Vec<String>,
    /// Text that may be the beginning of a stop string and is not shown yet.
    held: String,
    found: bool,
}

impl StopStrings {
    /// Stops at the first of `strings`; empty ones are ignored.
    pub fn new(strings: impl IntoIterator<Item = String>) -> Self {
        Self {
            strings: strings.into_iter().filter(|s| !s.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// Takes the next piece of text; gives back what is certain to be shown.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(piece);
        let first = self.strings.iter().filter_map(|s| self.held.find(s)).min();
        if let Some(position) = first {
            self.found = true;
            self.held.truncate(position);
            return std::mem::take(&mut self.held);
        }
        let shown = self.held.len() - self.possible_start();
        self.held.drain(..shown).collect()
    }

    /// Whether a stop string has been seen.
    pub fn found(&self) -> bool {
        self.found
    }

    /// The text ended: gives back what was held.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The length of the longest end of `held` that a stop string begins with.
    fn possible_start(&self) -> usize {
        let longest = |stop: &String| {
            (1..stop.len())
                .rev()
                .filter(|&length| stop.is_char_boundary(length))
                .find(|&length| self.held.ends_with(&stop[..length]))
        };
        self.strings.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text shown when it arrives one character at a time.
    fn shown(stops: &[&str], text: &str) -> (String, bool) {
        let mut stop = StopStrings::new(stops.iter().map(|s| s.to_string()));
        let mut out = String::new();
        for character in text.chars() {
            out += &stop.push(&character.to_string());
        }
        let found = stop.found();
        out += &stop.finish();
        (out, found)
    }

    #[test]
    fn text_ends_before_the_stop_string() {
        assert_eq!(shown(&["\n\n"], "a\nb\n\nc"), ("a\nb".into(), true));
        assert_eq!(shown(&["END", "N"], "xEND"), ("xE".into(), true));
        assert_eq!(shown(&["aab"], "aaab"), ("a".into(), true));
        assert_eq!(shown(&["ü!"], "über ü!?"), ("über ".into(), true));
    }

    #[test]
    fn text_without_it_is_whole() {
        assert_eq!(shown(&["###"], "a ## b ##"), ("a ## b ##".into(), false));
        assert_eq!(shown(&[""], "abc"), ("abc".into(), false));
    }

    #[test]
    fn nothing_follows_and_no_possible_start_leaks() {
        let mut stop = StopStrings::new(["stop".to_string()]);
        assert_eq!(stop.push("to st"), "to ");
        assert_eq!(stop.push("op it"), "");
        assert_eq!(stop.push("more"), "");
        assert_eq!(stop.finish(), "");
    }
}
