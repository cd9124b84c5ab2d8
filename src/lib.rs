//! fourfold runs OpenAI's open-weight models on the machine a person already owns.
//!
//! A [`Model`] maps a GGUF file, a [`Generator`] turns prompts into events, a [`Session`] holds a conversation:
//!
//! ```
//! use fourfold::generate::{Event, Request};
//! use fourfold::sample::{Sampler, Settings};
//!
//! let mut generator = fourfold::Generator::demo()?; // or Generator::open("gpt-oss-20b.gguf")?
//! let prompt = generator.tokenizer().encode("Once upon a time");
//! let mut sampler = Sampler::new(Settings::default(), 42)?;
//! let mut request = Request::raw(prompt, &mut sampler);
//! request.max_tokens = Some(10);
//! for event in generator.generate(request, &mut |_| true)? {
//!     if let Event::Final(text) = event? {
//!         print!("{text}");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/` has a conversation, JSON after a schema, and which experts tokens go to.

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
