//! Which file a MODEL argument means.

use super::ollama::{self, Modelfile};
use super::placement::GpuArgs;
use anyhow::bail;
use fourfold::model::{self, KvType, Model, Options, RopeForm};
use fourfold_quantize::gguf::Gguf;
use std::path::{Path, PathBuf};

/// The file that a MODEL argument names, or that Ollama has under that name.
pub fn find(model: &Path) -> anyhow::Result<PathBuf> {
    let name = model.to_str().unwrap_or_default();
    if model.exists() {
        return Ok(model.to_owned());
    }
    match ollama::find(name)? {
        Some(blob) => Ok(blob),
        None if ollama::is_name(name) => match ollama::stores() {
            stores if stores.is_empty() => {
                bail!(
                    "{name:?} is no file, and there are no models of Ollama's on this machine (OLLAMA_MODELS says where else to look)"
                )
            }
            stores => bail!(
                "{name:?} is no file, and Ollama has no model of that name in {stores:?}: `ollama list` shows them"
            ),
        },
        // Opening it says what is wrong.
        None => Ok(model.to_owned()),
    }
}

/// Opens the model that was named.
pub fn open(model: Option<&Path>) -> anyhow::Result<Gguf> {
    match model {
        Some(model) => Ok(Gguf::open(&find(model)?)?),
        None => Ok(fourfold::demo::file()?),
    }
}

/// Which model to run, and how
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// The model: a .gguf file (of a split one the first part), or a name that Ollama has for one it downloaded, such as gpt-oss:20b
    /// [default: the built-in demo model]
    #[arg(value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Most tokens that the context may hold [default: all that the model was made for]
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub ctx: usize,
    /// How the cache stores numbers
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv_type: CacheType,
    /// Positions as the reference computes them, or as llama.cpp does
    #[arg(long, value_name = "FORM", default_value = "exact")]
    rope: Rope,
    /// Reference arithmetic: slow, and exact to the last bit of f32
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    pub gpu: GpuArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum CacheType {
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Rope {
    Exact,
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

impl ModelArgs {
    /// What Ollama keeps beside the weights, if the model was named as there.
    pub fn modelfile(&self) -> anyhow::Result<Modelfile> {
        match self.model.as_deref().and_then(Path::to_str) {
            Some(name) if !Path::new(name).exists() => Modelfile::find(name),
            _ => Ok(Modelfile::default()),
        }
    }

    /// Opens the model, with layers on a GPU if there is one.
    pub fn open(&self) -> anyhow::Result<Model> {
        let options = Options {
            threads: super::threads(),
            exact: self.exact,
            rope: match self.rope {
                Rope::Exact => RopeForm::Exact,
                Rope::LlamaCpp => RopeForm::LlamaCpp,
            },
            kv_type: match self.kv_type {
                CacheType::F16 => KvType::F16,
                CacheType::Q8_0 => KvType::Q8_0,
            },
            context: self.ctx,
        };
        let (file, path) = match &self.model {
            Some(model) => {
                let path = find(model)?;
                (Gguf::open(&path)?, path)
            }
            None => (fourfold::demo::file()?, fourfold::demo::PATH.into()),
        };
        let mut model = Model::from_file(file, &path, options).map_err(|error| match error {
            // These name it themselves.
            model::Error::File(_) => error.into(),
            other => anyhow::Error::new(other).context(format!("{path:?}")),
        })?;
        let most = model.config().context;
        if self.ctx > most {
            bail!(
                "--ctx is {}, but the model was made for {most} tokens",
                self.ctx
            );
        }
        self.gpu.place(&mut model)?;
        Ok(model)
    }
}
