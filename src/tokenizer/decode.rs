//! Bytes of tokens to text while they arrive: a character split over tokens is held back until it is whole.

/// Turns the bytes of successive tokens into text.
///
/// The pieces it gives, joined, are what [`String::from_utf8_lossy`] gives for all bytes at once.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The start of a character whose rest has not arrived: at most three bytes.
    held: [u8; 3],
    held_len: usize,
}

impl StreamDecoder {
    /// Appends the characters that these bytes complete.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        if self.held_len == 0 {
            self.append(bytes, out);
            return;
        }
        let mut joined = self.held[..self.held_len].to_vec();
        joined.extend_from_slice(bytes);
        self.held_len = 0;
        self.append(&joined, out);
    }

    /// Appends U+FFFD if the end came inside a character.
    pub fn finish(&mut self, out: &mut String) {
        if self.held_len > 0 {
            out.push(char::REPLACEMENT_CHARACTER);
            self.held_len = 0;
        }
    }

    fn append(&mut self, mut bytes: &[u8], out: &mut String) {
        loop {
            let error = match std::str::from_utf8(bytes) {
                Ok(text) => return out.push_str(text),
                Err(error) => error,
            };
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            out.push_str(&String::from_utf8_lossy(valid));
            let Some(invalid) = error.error_len() else {
                // Only the start of a character of four bytes is this long.
                self.held_len = rest.len();
                self.held[..rest.len()].copy_from_slice(rest);
                return;
            };
            out.push(char::REPLACEMENT_CHARACTER);
            bytes = &rest[invalid..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_split_character_waits_for_its_last_byte() {
        let mut decoder = StreamDecoder::default();
        let mut text = String::new();
        decoder.push(&[b'a', 0xF0, 0x9F], &mut text);
        assert_eq!(text, "a");
        decoder.push(&[0x98], &mut text);
        assert_eq!(text, "a");
        decoder.push(&[0x80, b'b', 0xE2], &mut text);
        assert_eq!(text, "a😀b");
        decoder.finish(&mut text);
        assert_eq!(text, "a😀b\u{FFFD}");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_text_of_the_whole(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![
                any::<u8>(), Just(0xF0), Just(0x9F), Just(0x98), Just(0x80), Just(0xE2), Just(0xED), Just(b'a')
            ], 0..5), 0..12)
        ) {
            let mut decoder = StreamDecoder::default();
            let mut text = String::new();
            for chunk in &chunks {
                decoder.push(chunk, &mut text);
            }
            decoder.finish(&mut text);
            prop_assert_eq!(text, String::from_utf8_lossy(&chunks.concat()).into_owned());
        }
    }
}
