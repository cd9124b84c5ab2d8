//! A Hugging Face checkpoint of gpt-oss becomes one GGUF file.
//!
//! ```text
//! files        which files of a folder are the weights, and what a folder is that has none
//! checkpoint   which tensors: safetensors headers, checked before anything is used
//! small        files that are read whole, up to a limit
//! config       config.json of either layout -> one checked struct; fields: a JSON object whose errors name the field
//! rope         how positions are scaled, which config.json says in several ways or leaves out
//! names        one table: GGUF name <- the names checkpoints use
//! find         the tensors that the model is made of; layout: what other names than those give away
//! source       where the rows of a GGUF tensor come from; experts: repacking and turning over
//! vocab        tokenizer.json (tokenizer_file) -> tokens, types, merges, special ids, chat template; o200k: is it the published one
//! card         name, size label, license: from the folder's name and the model card
//! metadata     all of that -> GGUF keys, and warnings about what other programs compute otherwise
//! plan         everything together and a type for each tensor, before anything is written
//! write        the plan carried out by all threads
//! lora         a PEFT adapter -> a GGUF adapter
//! ```

mod card;
mod checkpoint;
mod config;
mod error;
mod experts;
mod fields;
mod files;
mod find;
mod layout;
mod lora;
pub mod metadata;
mod names;
mod o200k;
mod plan;
mod rope;
mod safetensors;
mod small;
mod source;
mod tokenizer_file;
mod vocab;
mod write;

pub use checkpoint::Checkpoint;
pub use error::Error;
pub use lora::Lora;
pub use plan::{Options, Plan, Planned};
pub use source::Matrix;
pub use write::{Progress, Report};

/// What a function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
