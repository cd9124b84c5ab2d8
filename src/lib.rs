//! fourfold runs OpenAI's open-weight models on the machine a person already owns.

pub mod demo;
pub mod generate;
pub mod harmony;
pub mod kernels;
pub mod model;
pub mod sample;
pub mod session;
pub mod speculate;
pub mod threads;
pub mod tokenizer;
mod work;

pub use generate::Generator;
pub use model::Model;
pub use session::Session;
