//! Tokens that a fine-tune added without calling them special (GGUF's type 4): text becomes them as a whole, before it is split.

use super::Error;
use aho_corasick::{AhoCorasick, MatchKind};

/// More text than this is no list of added tokens, and would take a hundred times its size to look for.
const MOST_BYTES: usize = 1 << 20;

/// Finds them.
pub struct Added {
    finder: AhoCorasick,
    /// By pattern.
    ids: Vec<u32>,
}

impl Added {
    /// Whether an added token is text. One that looks like markup stays special whatever the file says: what people write must not
    /// become it.
    pub fn is_text(token: &str) -> bool {
        let is_markup = token.starts_with("<|") && token.ends_with("|>");
        !token.is_empty() && !is_markup
    }

    /// Finds these tokens; none of none.
    pub fn new(tokens: &[(&str, u32)]) -> Result<Option<Self>, Error> {
        if tokens.is_empty() {
            return Ok(None);
        }
        let bytes = tokens.iter().map(|(text, _)| text.len()).sum();
        let refused = Error::TooMuchAdded {
            bytes,
            limit: MOST_BYTES,
        };
        if bytes > MOST_BYTES {
            return Err(refused);
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(text, _)| text))
            .map_err(|_| refused)?;
        let ids = tokens.iter().map(|(_, id)| *id).collect();
        Ok(Some(Self { finder, ids }))
    }

    /// Each added token in a text, with the text before it; `text` is left with what comes after the last.
    pub fn cut<'t>(&self, text: &mut &'t str) -> Vec<(&'t str, u32)> {
        let whole = *text;
        let mut start = 0;
        let mut found = Vec::new();
        for token in self.finder.find_iter(whole) {
            found.push((
                &whole[start..token.start()],
                self.ids[token.pattern().as_usize()],
            ));
            start = token.end();
        }
        *text = &whole[start..];
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_token_at_the_first_place_counts() {
        let added = Added::new(&[("<think>", 7), ("<think>er", 8), ("x", 9)])
            .unwrap()
            .unwrap();
        let mut text = "a<think>er x <think>";
        let found = added.cut(&mut text);
        assert_eq!(found, [("a", 8), (" ", 9), (" ", 7)]);
        assert_eq!(text, "");
        let mut text = "none";
        assert!(added.cut(&mut text).is_empty());
        assert_eq!(text, "none");
    }

    #[test]
    fn markup_is_not_text_and_a_book_no_token_list() {
        assert!(!Added::is_text("<|start|>") && !Added::is_text(""));
        assert!(Added::new(&[]).unwrap().is_none());
        let book = "x".repeat(MOST_BYTES + 1);
        assert!(Added::new(&[(&book, 1)]).is_err());
    }
}
