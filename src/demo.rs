//! The model that is built in: tiny, trained by `scripts/`, and enough to try and test everything.

use crate::generate::{Error, Generator};
use crate::model::{self, Model, Options};
use fourfold_quantize::gguf::{self, Gguf};
use std::path::Path;
use std::sync::Arc;

/// Tensors are read in place, so the file begins where a mapped one would: at an aligned address.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../demo/demo.gguf"));

/// Its file.
pub fn file() -> Result<Gguf, gguf::Error> {
    Gguf::from_bytes(&FILE.0)
}

/// What stands for the path of its file.
pub const PATH: &str = "the built-in demo model";

/// The model, to be run as `options` say.
pub fn model(options: Options) -> Result<Model, model::Error> {
    Model::from_file(file()?, Path::new(PATH), options)
}

impl Generator {
    /// Generates with the built-in model.
    pub fn demo() -> Result<Self, Error> {
        Self::new(Arc::new(model(Options::default())?))
    }
}
