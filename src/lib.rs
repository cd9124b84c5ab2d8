//! fourfold runs OpenAI's open-weight models on the machine a person already owns.

pub mod harmony;
pub mod kernels;
pub mod model;
pub mod sample;
pub mod threads;
pub mod tokenizer;
mod work;

pub use model::Model;
