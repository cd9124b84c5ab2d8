//! What the bytes of a model file mean: block formats, the GGUF container, recipes and requantizing.
//!
//! This is the leaf crate: nothing here knows about text, threads of a forward pass, or a terminal.

pub mod block;
pub mod check;
pub mod dtype;
pub mod file;
pub mod gguf;
pub mod imatrix;
mod parallel;
pub mod recipe;
pub mod requantize;
