//! The o200k_harmony vocabulary laid out as a gpt-oss model file lays it out, for tests that have no model.

#![allow(
    dead_code,
    reason = "each test program uses its own part of this module"
)]

use fourfold::tokenizer::{Tokenizer, Vocabulary};
use fourfold_quantize::gguf::{Array, Layout, Metadata, WriteOptions, Writer};
use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

/// Ordinary tokens of o200k.
pub const ORDINARY: usize = 199_998;
/// Rows of the published models' embedding.
pub const ROWS: usize = 201_088;

/// Token texts, types and merges as they stand in a file.
pub struct File {
    /// Texts by id.
    pub tokens: Vec<String>,
    /// Types by id.
    pub kinds: Vec<i32>,
    /// Merges, first to be merged first.
    pub merges: Vec<String>,
}

/// The vocabulary of the published files.
pub static FILE: LazyLock<File> = LazyLock::new(build);

/// A tokenizer made from [`FILE`].
pub static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| FILE.tokenizer());

impl File {
    /// A tokenizer made from this vocabulary.
    pub fn tokenizer(&self) -> Tokenizer {
        Tokenizer::new(&self.vocabulary()).expect("the published vocabulary is valid")
    }

    /// This vocabulary as the tokenizer takes it.
    pub fn vocabulary(&self) -> Vocabulary<'_, String> {
        Vocabulary {
            tokens: &self.tokens,
            kinds: &self.kinds,
            merges: Some(&self.merges),
            named: &[("bos", 199_998), ("eos", 200_002), ("padding", 199_999)],
        }
    }
}

impl File {
    /// The metadata that this vocabulary is in a model file.
    pub fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "gpt-oss");
        metadata.set("tokenizer.ggml.model", "gpt2");
        metadata.set("tokenizer.ggml.pre", "gpt-4o");
        metadata.set("tokenizer.ggml.tokens", Array::of_strings(&self.tokens));
        metadata.set("tokenizer.ggml.token_type", Array::of(&self.kinds));
        metadata.set("tokenizer.ggml.merges", Array::of_strings(&self.merges));
        metadata.set("tokenizer.ggml.bos_token_id", 199_998u32);
        metadata.set("tokenizer.ggml.eos_token_id", 200_002u32);
        metadata
    }
}

/// Writes a model file without tensors.
pub fn write_gguf(metadata: Metadata, path: &Path) {
    Writer::begin(Layout::new(metadata), path, &WriteOptions::default())
        .and_then(Writer::finish)
        .expect("a file can be written to a temporary folder");
}

/// The byte-level text of some bytes.
pub fn byte_level(bytes: &[u8]) -> String {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others: Vec<u8> = (0..=255).filter(|&byte| !printable(byte)).collect();
    bytes
        .iter()
        .map(
            |&byte| match others.iter().position(|&other| other == byte) {
                None => char::from(byte),
                Some(place) => char::from_u32(256 + place as u32).expect("below the surrogates"),
            },
        )
        .collect()
}

fn build() -> File {
    let reference = tiktoken_rs::o200k_harmony_singleton();
    let bytes: Vec<Vec<u8>> = (0..ORDINARY as u32)
        .map(|id| reference.decode_bytes(&[id]).expect("an ordinary token"))
        .collect();
    let mut tokens: Vec<String> = bytes.iter().map(|bytes| byte_level(bytes)).collect();
    for id in ORDINARY..ROWS {
        tokens.push(match id {
            200_018 => "<|endofprompt|>".to_owned(),
            200_019.. => format!("[PAD{id}]"),
            _ => String::from_utf8(
                reference
                    .decode_bytes(&[id as u32])
                    .expect("a special token"),
            )
            .expect("special tokens are named in ASCII"),
        });
    }
    let kind = |id| match id {
        ..ORDINARY => 1,
        ORDINARY..=200_018 => 3,
        _ => 5,
    };
    File {
        merges: merges(&bytes, &tokens),
        tokens,
        kinds: (0..ROWS).map(kind).collect(),
    }
}

/// Every split of every token into two tokens: by result, then by the ids of the halves.
fn merges(bytes: &[Vec<u8>], texts: &[String]) -> Vec<String> {
    let ids: HashMap<&[u8], usize> = bytes
        .iter()
        .enumerate()
        .map(|(id, bytes)| (bytes.as_slice(), id))
        .collect();
    let mut merges = Vec::new();
    for token in bytes {
        let mut splits: Vec<(usize, usize)> = (1..token.len())
            .filter_map(|at| Some((*ids.get(&token[..at])?, *ids.get(&token[at..])?)))
            .collect();
        splits.sort_unstable();
        merges.extend(
            splits
                .iter()
                .map(|&(left, right)| format!("{} {}", texts[left], texts[right])),
        );
    }
    merges
}
