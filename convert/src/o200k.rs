//! Whether a vocabulary is the published o200k: its ranks rebuilt from the byte-level texts, and hashed.

use fourfold_quantize::gguf::vocabulary::byte_of;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Tokens made of bytes; special tokens follow.
const ORDINARY: usize = 199_998;
/// Merges of the published tokenizer.json.
const MERGES: usize = 446_189;
/// sha256 of the published `o200k_base.tiktoken`: a line `base64(token) rank` for each rank.
const RANKS_SHA256: &str = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d";
/// sha256 of all merges, joined by line breaks, as they follow from the ranks.
const MERGES_SHA256: &str = "fbb4bf8ec1a0dec603d12b4f4f7ff2939ff6ae1a8d94e6df0380b74b1c90f66f";

/// How o200k cuts text into pieces, one alternative a line.
const SPLIT: [&str; 7] = [
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
];

/// What differs from the published vocabulary: nothing, or a sentence each.
pub fn verify(tokens: &[String], merges: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    match ranks_hash(tokens) {
        Some(hash) if hash == RANKS_SHA256 => {}
        Some(_) => notes.push("the vocabulary is not o200k's: its first 199,998 tokens hash to another sha256 than the published ranks; right for a model trained with a vocabulary of its own, wrong for gpt-oss".to_owned()),
        None => notes.push(format!("the vocabulary is not o200k's: it does not begin with {ORDINARY} tokens of bytes; right for a model trained with a vocabulary of its own, wrong for gpt-oss")),
    }
    if notes.is_empty() && (merges.len() != MERGES || merges_hash(merges) != MERGES_SHA256) {
        notes.push(format!(
            "the vocabulary is o200k's, but its {} merges are not the {MERGES} that follow from it",
            merges.len()
        ));
    }
    notes
}

/// Whether a pre-tokenizer of tokenizer.json cuts text as o200k does.
pub fn splits_as_o200k(pre_tokenizer: &Value) -> bool {
    let pattern = SPLIT.join("|");
    let steps = match &pre_tokenizer["pretokenizers"] {
        Value::Array(steps) => steps.as_slice(),
        _ => std::slice::from_ref(pre_tokenizer),
    };
    steps
        .iter()
        .any(|step| step["pattern"]["Regex"].as_str() == Some(&pattern))
}

fn ranks_hash(tokens: &[String]) -> Option<String> {
    let mut hash = Sha256::new();
    let (mut bytes, mut line) = (Vec::new(), String::new());
    for (rank, token) in tokens.get(..ORDINARY)?.iter().enumerate() {
        bytes.clear();
        for character in token.chars() {
            bytes.push(byte_of(character)?);
        }
        line.clear();
        base64(&bytes, &mut line);
        line.push_str(&format!(" {rank}\n"));
        hash.update(&line);
    }
    Some(hex(&hash.finalize()))
}

fn merges_hash(merges: &[String]) -> String {
    let mut hash = Sha256::new();
    for (index, merge) in merges.iter().enumerate() {
        if index > 0 {
            hash.update("\n");
        }
        hash.update(merge);
    }
    hex(&hash.finalize())
}

fn base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            // n bytes make n + 1 digits; the rest is padding.
            out.push(match digit <= three.len() {
                true => DIGITS[(bits >> (18 - 6 * digit) & 63) as usize].into(),
                false => '=',
            });
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn base64_pads_as_the_standard_says() {
        // The examples of RFC 4648.
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = String::new();
            base64(text.as_bytes(), &mut out);
            assert_eq!(out, expected);
        }
    }

    /// The real vocabulary, spelled as tokenizer.json spells it, and the merges that follow from it.
    fn published() -> (Vec<String>, Vec<String>) {
        let bpe = tiktoken_rs::o200k_base_singleton();
        let spelling: HashMap<u8, char> = ('!'..='\u{143}')
            .filter_map(|character| Some((byte_of(character)?, character)))
            .collect();
        let spell = |bytes: &[u8]| bytes.iter().map(|byte| spelling[byte]).collect::<String>();
        let tokens: Vec<Vec<u8>> = (0..ORDINARY as u32)
            .map(|rank| bpe.decode_bytes(&[rank]).unwrap())
            .collect();
        let ranks: HashMap<&[u8], usize> = tokens
            .iter()
            .enumerate()
            .map(|(rank, token)| (token.as_slice(), rank))
            .collect();
        let mut merges = Vec::new();
        for token in &tokens {
            let splits = (1..token.len()).map(|cut| token.split_at(cut));
            let mut splits: Vec<_> = splits
                .filter_map(|(left, right)| {
                    Some((ranks.get(left)?, ranks.get(right)?, left, right))
                })
                .collect();
            splits.sort();
            merges.extend(
                splits
                    .iter()
                    .map(|(_, _, left, right)| format!("{} {}", spell(left), spell(right))),
            );
        }
        (tokens.iter().map(|token| spell(token)).collect(), merges)
    }

    #[test]
    fn the_published_vocabulary_is_recognized() {
        let (mut tokens, mut merges) = published();
        assert_eq!(verify(&tokens, &merges), [""; 0]);
        merges.swap(1000, 1001);
        assert!(verify(&tokens, &merges)[0].contains("446189 merges are not"));
        tokens.swap(1000, 1001);
        assert!(verify(&tokens, &merges)[0].contains("another sha256"));
    }

    #[test]
    fn another_vocabulary_is_noticed() {
        let few = vec!["a".to_owned(); 3];
        assert!(verify(&few, &[])[0].contains("does not begin with 199998"));
        let many = vec!["a".to_owned(); ORDINARY];
        assert!(verify(&many, &[])[0].contains("another sha256"));
    }
}
