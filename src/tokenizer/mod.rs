//! Text to token ids and back: a byte-pair encoder built from the vocabulary that the model file itself carries.
//!
//! What people write never becomes a special token: [`Tokenizer::encode`] knows ordinary tokens only, and special ones are
//! asked for by name with [`Tokenizer::special`]. Tokens that a fine-tune added without calling them special, such as `<think>`,
//! are text wherever they stand.

mod added;
mod classes;
mod decode;
mod error;
mod gguf;
mod long;
mod merges;
mod split;
mod tokens;

pub use decode::StreamDecoder;
pub use error::{Error, LoadError};

use added::Added;
use merges::Merges;
use split::Pieces;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use tokens::Tokens;

/// What a model file says about its tokens. `T` is any string type: texts are borrowed from the file.
pub struct Vocabulary<'a, T> {
    /// Text of each token, by id: ordinary tokens in the byte-level alphabet (`Ġ` is a space), special ones as they are.
    pub tokens: &'a [T],
    /// GGUF's type of each token: 1 ordinary; 2 and 3 special; 4 added to be text as a whole, special only if it looks like it; 5 unused.
    pub kinds: &'a [i32],
    /// Pairs `left right`, merged in this order. Without them each id is a rank, and every split of a token merges.
    pub merges: Option<&'a [T]>,
    /// Ids that the file gives names such as `eos`; they must exist.
    pub named: &'a [(&'a str, u32)],
}

const NORMAL: i32 = 1;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Encodes text to token ids, and decodes them.
pub struct Tokenizer {
    tokens: Tokens,
    merges: Merges,
    /// Special tokens by text, and added ones.
    specials: HashMap<String, u32>,
    added: Option<Added>,
    /// (tokens): what is known about each token's shortcut, see [`Tokenizer::merges_lead_to`].
    shortcuts: Vec<AtomicU8>,
    named: HashMap<String, u32>,
}

/// States of a shortcut.
const UNKNOWN: u8 = 0;
const TAKEN: u8 = 1;
const REFUSED: u8 = 2;
const SPECIAL: u8 = 3;
const ADDED: u8 = 4;

impl Tokenizer {
    /// Checks a vocabulary and prepares it for lookups.
    pub fn new<T: AsRef<str> + Sync>(vocabulary: &Vocabulary<'_, T>) -> Result<Tokenizer, Error> {
        Unmerged::new(vocabulary)?.with_merges(vocabulary.merges)
    }

    /// Number of tokens, special and unused ones included.
    pub fn vocabulary_len(&self) -> usize {
        self.tokens.len()
    }

    /// The token ids of a text. Markup such as `<|end|>` in it is encoded as the characters it is made of.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, &mut ids);
        ids
    }

    /// Appends the token ids of a text.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        let mut rest = text;
        if let Some(added) = &self.added {
            for (before, id) in added.cut(&mut rest) {
                self.encode_ordinary(before, ids);
                ids.push(id);
            }
        }
        self.encode_ordinary(rest, ids);
    }

    fn encode_ordinary(&self, text: &str, ids: &mut Vec<u32>) {
        for piece in Pieces::new(text) {
            self.encode_piece(piece.as_bytes(), ids);
        }
    }

    /// Appends the token ids of bytes that may not be text: what is not UTF-8 is kept, byte for byte, so that decoding gives
    /// the same bytes back.
    pub fn encode_bytes_into(&self, bytes: &[u8], ids: &mut Vec<u32>) {
        for chunk in bytes.utf8_chunks() {
            self.encode_into(chunk.valid(), ids);
            self.merges.apply(&self.tokens, chunk.invalid(), ids);
        }
    }

    fn encode_piece(&self, piece: &[u8], ids: &mut Vec<u32>) {
        match self.tokens.find(piece) {
            Some(id) if self.merges_lead_to(id, piece) => ids.push(id),
            _ => self.merges.apply(&self.tokens, piece, ids),
        }
    }

    /// Whether merging a token's own bytes gives that token, so that a piece equal to it needs no merging.
    ///
    /// It does for every token of a trained vocabulary, but nothing in a file promises that. Trying all 200,000 would cost more
    /// than the rest of loading, so each is tried when it is first met.
    fn merges_lead_to(&self, id: u32, piece: &[u8]) -> bool {
        let shortcut = &self.shortcuts[id as usize];
        // Two threads that meet a token at once find the same answer, so no order between them is needed.
        match shortcut.load(Ordering::Relaxed) {
            UNKNOWN => {
                let mut merged = Vec::new();
                self.merges.apply(&self.tokens, piece, &mut merged);
                let taken = merged == [id];
                shortcut.store(if taken { TAKEN } else { REFUSED }, Ordering::Relaxed);
                taken
            }
            state => state == TAKEN,
        }
    }

    /// The id of a special token, by its text, such as `<|start|>`.
    pub fn special(&self, text: &str) -> Option<u32> {
        self.specials.get(text).copied()
    }

    /// The id that the file gives a role such as `eos` or `bos`.
    pub fn named(&self, name: &str) -> Option<u32> {
        self.named.get(name).copied()
    }

    /// Whether a token is not text: special, unused, or beyond the vocabulary.
    pub fn is_special(&self, id: u32) -> bool {
        match self.shortcuts.get(id as usize) {
            Some(shortcut) => shortcut.load(Ordering::Relaxed) == SPECIAL,
            None => true,
        }
    }

    /// The bytes that a token stands for; they may be part of a character. A special token's are its name.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id)
    }

    /// The text of all tokens, special ones by name. Bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut decoder = StreamDecoder::default();
        for &id in ids {
            decoder.push(self.token_bytes(id), &mut text);
        }
        decoder.finish(&mut text);
        text
    }
}

/// Everything of a tokenizer but the merges, whose texts another thread may be gathering meanwhile.
struct Unmerged {
    tokens: Tokens,
    specials: HashMap<String, u32>,
    added: Option<Added>,
    shortcuts: Vec<AtomicU8>,
    named: HashMap<String, u32>,
}

impl Unmerged {
    fn new<T: AsRef<str>>(vocabulary: &Vocabulary<'_, T>) -> Result<Unmerged, Error> {
        let texts = vocabulary.tokens;
        check_counts(vocabulary)?;
        let text_len = texts.iter().map(|text| text.as_ref().len()).sum();
        let mut tokens = Tokens::with_capacity(texts.len(), text_len);
        let mut specials = HashMap::new();
        let mut added = Vec::new();
        let mut shortcuts = Vec::with_capacity(texts.len());
        for (id, (text, &kind)) in texts.iter().zip(vocabulary.kinds).enumerate() {
            let text = text.as_ref();
            let ordinary = kind == NORMAL;
            let is_added = kind == USER_DEFINED && Added::is_text(text);
            shortcuts.push(AtomicU8::new(match kind {
                NORMAL => UNKNOWN,
                _ if is_added => ADDED,
                _ => SPECIAL,
            }));
            if is_added {
                added.push((text, id as u32));
            }
            tokens.push(ordinary, |out| {
                if ordinary {
                    return tokens::append_bytes(text, out)
                        .map_err(|character| Error::NotByteLevel { id, character });
                }
                out.extend_from_slice(text.as_bytes());
                Ok(())
            })?;
            if !ordinary && kind != UNUSED {
                let before = specials.insert(text.to_owned(), id as u32);
                refuse_duplicate(before, id as u32, text)?;
            }
        }
        let mut bytes = Vec::new();
        for (text, &id) in &specials {
            bytes.clear();
            if tokens::append_bytes(text, &mut bytes).is_ok() {
                refuse_duplicate(tokens.find(&bytes), id, text)?;
            }
        }
        let named = vocabulary.named.iter();
        Ok(Unmerged {
            tokens,
            specials,
            added: Added::new(&added)?,
            shortcuts,
            named: named.map(|&(name, id)| (name.to_owned(), id)).collect(),
        })
    }

    fn with_merges<T: AsRef<str> + Sync>(self, merges: Option<&[T]>) -> Result<Tokenizer, Error> {
        let merges = match merges {
            Some(list) => Merges::from_list(&self.tokens, list)?,
            None => Merges::from_ranks(&self.tokens)?,
        };
        Ok(Tokenizer {
            tokens: self.tokens,
            merges,
            specials: self.specials,
            added: self.added,
            shortcuts: self.shortcuts,
            named: self.named,
        })
    }
}

fn check_counts<T: AsRef<str>>(vocabulary: &Vocabulary<'_, T>) -> Result<(), Error> {
    let tokens = vocabulary.tokens.len();
    let kinds = vocabulary.kinds.len();
    if tokens == 0 {
        return Err(Error::Empty);
    }
    check_lengths(tokens, kinds)?;
    let limit = tokens::MAX_TOKEN_BYTES;
    let lengths = vocabulary.tokens.iter().map(|text| text.as_ref().len());
    if let Some((id, bytes)) = lengths.enumerate().find(|&(_, bytes)| bytes > limit) {
        return Err(Error::TokenTooLong { id, bytes, limit });
    }
    let unknown = |&(_, kind): &(usize, &i32)| !(NORMAL..=UNUSED).contains(kind);
    if let Some((id, &kind)) = vocabulary.kinds.iter().enumerate().find(unknown) {
        return Err(Error::UnknownKind { id, kind });
    }
    match vocabulary
        .named
        .iter()
        .find(|named| named.1 as usize >= tokens)
    {
        Some(&(name, id)) => Err(Error::SpecialOutOfRange {
            name: name.to_owned(),
            id,
            last: tokens - 1,
        }),
        None => Ok(()),
    }
}

/// What the lengths of the lists say before anything is in them.
fn check_lengths(tokens: usize, kinds: usize) -> Result<(), Error> {
    if tokens > tokens::MAX_TOKENS {
        let limit = tokens::MAX_TOKENS;
        return Err(Error::TooManyTokens { tokens, limit });
    }
    if kinds != tokens {
        return Err(Error::KindCount { tokens, kinds });
    }
    Ok(())
}

fn refuse_duplicate(first: Option<u32>, second: u32, text: &str) -> Result<(), Error> {
    match first {
        None => Ok(()),
        Some(first) => Err(Error::Duplicate {
            first: first.min(second),
            second: first.max(second),
            text: text.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with all single bytes and these words, as a vocabulary without merges.
    fn refusal(words: impl Iterator<Item = String>) -> Error {
        let letters = (0..0x144).filter_map(char::from_u32);
        let letters = letters.filter(|&letter| {
            tokens::append_bytes(letter.encode_utf8(&mut [0; 4]), &mut Vec::new()).is_ok()
        });
        let tokens: Vec<String> = letters.map(String::from).chain(words).collect();
        let vocabulary = Vocabulary {
            tokens: &tokens,
            kinds: &vec![NORMAL; tokens.len()],
            merges: None,
            named: &[],
        };
        Tokenizer::new(&vocabulary).err().unwrap()
    }

    /// Every split of it would be looked up: of a megabyte, for minutes.
    #[test]
    fn a_token_as_long_as_a_book_is_refused() {
        let limit = tokens::MAX_TOKEN_BYTES;
        let bytes = 1_000_000;
        let expected = Error::TokenTooLong {
            id: 256,
            bytes,
            limit,
        };
        assert_eq!(refusal(std::iter::once("a".repeat(bytes))), expected);
    }

    #[test]
    fn splits_without_end_are_refused() {
        let lengths = 2..=tokens::MAX_TOKEN_BYTES;
        let words = ('a'..='i').flat_map(|letter| {
            let letter = letter.to_string();
            lengths.clone().map(move |length| letter.repeat(length))
        });
        let error = refusal(words);
        assert!(matches!(error, Error::TooManyMerges { .. }), "{error}");
    }
}
