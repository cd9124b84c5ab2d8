//! What `tokenizer.ggml.tokens` may hold: the same for the converter that writes it and the tokenizer that reads it.

/// More tokens than this cannot be numbered by the tokenizer.
pub const MAX_TOKENS: usize = 1 << 21;

/// A token's text may be this many bytes long. The longest of o200k, 128 spaces, takes 256; and a vocabulary without
/// merges is searched for every split of every token, which takes the square of its length.
pub const MAX_TOKEN_BYTES: usize = 1 << 10;

/// The byte-level alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards.
#[inline]
pub fn byte_of(character: char) -> Option<u8> {
    const HIGH: [u8; 68] = high_bytes();
    match character as u32 {
        code @ (33..=126 | 161..=172 | 174..=255) => Some(code as u8),
        code => HIGH.get(code.checked_sub(256)? as usize).copied(),
    }
}

const fn high_bytes() -> [u8; 68] {
    let mut high = [0; 68];
    let (mut byte, mut count) = (0u8, 0);
    loop {
        if !matches!(byte, 33..=126 | 161..=172 | 174..=255) {
            high[count] = byte;
            count += 1;
        }
        if byte == 255 {
            return high;
        }
        byte += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_covers_every_byte_once() {
        let mut bytes: Vec<u8> = (0..=0x143)
            .filter_map(char::from_u32)
            .filter_map(byte_of)
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
        assert_eq!(byte_of(' '), None);
        assert_eq!(byte_of('\u{144}'), None);
    }
}
