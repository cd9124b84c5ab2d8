//! fourfold runs OpenAI's open-weight models on the machine a person already owns.

pub mod sample;
pub mod tokenizer;
