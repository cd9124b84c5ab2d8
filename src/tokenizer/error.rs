//! What can be wrong with a vocabulary, one variant per way.

use fourfold_quantize::gguf;
use std::path::PathBuf;
use thiserror::Error;

/// Why a model file gave no tokenizer.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A key is missing or holds something else than expected.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The vocabulary is there and cannot be used.
    #[error("{path:?}: {error}")]
    Vocabulary {
        /// The file, of a split model its first part.
        path: PathBuf,
        /// What is wrong.
        error: Error,
    },
}

/// A vocabulary that cannot be used, and why.
#[derive(Debug, Error, PartialEq)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum Error {
    #[error("the vocabulary has no tokens")]
    Empty,
    #[error("the vocabulary has {tokens} tokens, more than the {limit} this program can number")]
    TooManyTokens { tokens: usize, limit: usize },
    #[error("token {id} has a text of {bytes} bytes, more than the {limit} that are accepted")]
    TokenTooLong {
        id: usize,
        bytes: usize,
        limit: usize,
    },
    #[error("the vocabulary has {tokens} tokens but {kinds} token types: one each is expected")]
    KindCount { tokens: usize, kinds: usize },
    #[error("token {id} has type {kind}: 1 to 5 are the types of a byte-level vocabulary")]
    UnknownKind { id: usize, kind: i32 },
    #[error("token {id} has no text")]
    EmptyToken { id: usize },
    #[error("token {id} contains {character:?}, which is not in the byte-level alphabet")]
    NotByteLevel { id: usize, character: char },
    #[error("tokens {first} and {second} have the same text {text:?}: a text must have one id")]
    Duplicate {
        first: u32,
        second: u32,
        text: String,
    },
    #[error("no token stands for the byte {byte:#04x}: a byte-level vocabulary needs all 256")]
    MissingByte { byte: u8 },
    #[error("merge {index} is {merge:?}: two token texts with one space between are expected")]
    MalformedMerge { index: usize, merge: String },
    #[error("merge {index} ({merge:?}) needs the token {missing:?}, which the vocabulary lacks")]
    MergeWithoutToken {
        index: usize,
        merge: String,
        missing: String,
    },
    #[error("the vocabulary has {merges} merges, more than the {limit} this program can number")]
    TooManyMerges { merges: usize, limit: usize },
    #[error(
        "the vocabulary's added tokens have {bytes} bytes, more than the {limit} that are looked for in texts"
    )]
    TooMuchAdded { bytes: usize, limit: usize },
    #[error("the {name} token is {id}, but the vocabulary ends at {last}")]
    SpecialOutOfRange { name: String, id: u32, last: usize },
    #[error(
        "the tokenizer model is {found:?}: only byte-level BPE (\"gpt2\") is supported; raw token ids still work"
    )]
    UnsupportedModel { found: String },
    #[error(
        "the tokenizer splits text as {found:?} does: only \"gpt-4o\", which all gpt-oss models use, and \"llama4\", which is the same, are supported"
    )]
    UnsupportedSplit { found: String },
}
