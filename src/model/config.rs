//! The hyper-parameters: read from the metadata once, and believed only after they were checked.

use fourfold_quantize::gguf::keys::{MOST_CONTEXT, ROPE_TRUNCATE, SWIGLU_ALPHA, SWIGLU_LIMIT};
use fourfold_quantize::gguf::{Metadata, Value};

use super::Error;

/// More layers than any gpt-oss has; a larger number means a damaged file.
const MOST_LAYERS: usize = 512;
/// No length in a file may exceed this, so that products of two of them cannot overflow.
const LARGEST: usize = MOST_CONTEXT as usize;

/// The widest vector that passes through: of the queries of gpt-oss-120b, 4096 numbers. A forward pass keeps several for each of its 512 tokens, so
/// a small file that claims more would take gigabytes.
const WIDEST: usize = 1 << 18;
/// gpt-oss-120b has 128 experts.
const MOST_EXPERTS: usize = 4096;
/// gpt-oss has 201,088 tokens.
const MOST_TOKENS: usize = 1 << 21;

/// The shape of a gpt-oss model and the constants of its arithmetic.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Rows of the embedding and of the head.
    pub vocabulary: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head, for queries, keys and values alike.
    pub head_dim: usize,
    /// Experts of a layer.
    pub experts: usize,
    /// Experts that a token is sent to.
    pub experts_used: usize,
    /// Width of one expert.
    pub ff: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// For each layer the number of positions that a token sees, itself included; `None` sees all.
    pub windows: Vec<Option<usize>>,
    /// Added to the mean square before the root.
    pub rms_epsilon: f32,
    /// The clamp inside the experts' activation.
    pub swiglu_limit: f32,
    /// The steepness of that activation's sigmoid.
    pub swiglu_alpha: f32,
    /// How positions turn queries and keys.
    pub rope: RopeConfig,
}

/// How positions turn queries and keys.
#[derive(Clone, Debug)]
pub struct RopeConfig {
    /// Leading elements of a head that are turned.
    pub dimensions: usize,
    /// Base of the frequencies of full layers.
    pub base: f64,
    /// Base of the frequencies of windowed layers.
    pub window_base: f64,
    /// How the frequencies are stretched.
    pub scaling: Scaling,
}

/// How rotary frequencies are stretched beyond the original context.
#[derive(Clone, Debug)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All by the same factor.
    Linear(f64),
    /// Slow ones by the factor, fast ones not at all, a ramp in between.
    Yarn(Yarn),
}

/// The parameters of YaRN.
#[derive(Clone, Debug)]
pub struct Yarn {
    /// Context after stretching over context before.
    pub factor: f64,
    /// Positions before stretching.
    pub original_context: f64,
    /// Turns within the original context above which a frequency is kept.
    pub beta_fast: f64,
    /// Turns within the original context below which a frequency is divided by the factor.
    pub beta_slow: f64,
    /// A further factor on queries and keys.
    pub attention_factor: f64,
    /// Whether the ends of the ramp are rounded outwards to whole pairs.
    ///
    /// The reference does not; llama.cpp always does, which moves one frequency by 76 %.
    pub truncate: bool,
}

impl Config {
    /// Refuses what is no gpt-oss model, before anything of it is looked for.
    pub fn check_kind(metadata: &Metadata) -> Result<(), Error> {
        let keys = Keys { metadata };
        keys.architecture()?;
        if let Some(Value::Bool(false)) = metadata.get(&keys.key("attention.causal")) {
            return Err(keys.wrong("attention.causal", false, "true"));
        }
        Ok(())
    }

    /// Reads and checks the hyper-parameters of a gpt-oss model. `vocabulary` is the number of rows of the embedding.
    pub fn read(metadata: &Metadata, vocabulary: usize) -> Result<Self, Error> {
        let keys = Keys { metadata };
        let layers = keys.count("block_count", None, 1, MOST_LAYERS)?;
        let dim = keys.count("embedding_length", None, 1, WIDEST)?;
        let heads = keys.count("attention.head_count", None, 1, WIDEST)?;
        let kv_heads = keys.count("attention.head_count_kv", Some(heads), 1, heads)?;
        let head_dim = keys.count("attention.key_length", Some(dim / heads), 2, 4096)?;
        let experts = keys.count("expert_count", None, 1, MOST_EXPERTS)?;
        let experts_used = keys.count("expert_used_count", None, 1, experts)?;
        let ff = keys.count("feed_forward_length", Some(0), 0, WIDEST)?;
        let ff = keys.count("expert_feed_forward_length", Some(ff), 1, WIDEST)?;
        let context = keys.count("context_length", None, 1, LARGEST)?;
        let window = keys.count("attention.sliding_window", None, 1, LARGEST)?;

        keys.expect("attention.value_length", head_dim)?;
        if heads * head_dim > WIDEST {
            let most = WIDEST / head_dim;
            let expected = format!("at most {most} heads of {head_dim} numbers");
            return Err(keys.wrong("attention.head_count", heads, expected));
        }
        if experts_used * ff > 4 * WIDEST {
            let most = 4 * WIDEST / ff;
            let expected = format!("at most {most} experts of {ff} numbers");
            return Err(keys.wrong("expert_used_count", experts_used, expected));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.wrong(
                "attention.head_count_kv",
                kv_heads,
                format!("a divisor of the {heads} query heads"),
            ));
        }
        if vocabulary > MOST_TOKENS {
            return Err(Error::HyperParameter {
                key: "token_embd.weight".into(),
                found: format!("{vocabulary} rows"),
                expected: format!("at most {MOST_TOKENS}"),
            });
        }
        if let Some(Value::Array(tokens)) = metadata.get("tokenizer.ggml.tokens")
            && tokens.len() != vocabulary
        {
            return Err(Error::HyperParameter {
                key: "tokenizer.ggml.tokens".into(),
                found: format!("a list of {} tokens", tokens.len()),
                expected: format!("{vocabulary}, the rows of token_embd.weight"),
            });
        }
        Ok(Self {
            layers,
            dim,
            vocabulary,
            heads,
            kv_heads,
            head_dim,
            experts,
            experts_used,
            ff,
            context,
            windows: keys.windows(layers, window)?,
            rms_epsilon: keys.positive("attention.layer_norm_rms_epsilon", None)? as f32,
            swiglu_limit: keys.positive(SWIGLU_LIMIT, Some(7.0))? as f32,
            swiglu_alpha: keys.positive(SWIGLU_ALPHA, Some(1.702))? as f32,
            rope: keys.rope(head_dim, context)?,
        })
    }

    /// Query heads that share one key and value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// Typed and range-checked access to the keys of this architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
}

impl Keys<'_> {
    /// The whole key: what only this program writes is named in full.
    fn key(&self, name: &str) -> String {
        match name.starts_with("fourfold.") {
            true => name.to_owned(),
            false => format!("gpt-oss.{name}"),
        }
    }

    fn wrong(&self, name: &str, found: impl ToString, expected: impl Into<String>) -> Error {
        Error::HyperParameter {
            key: self.key(name),
            // A text from a file may have lines.
            found: found.to_string().escape_debug().to_string(),
            expected: expected.into(),
        }
    }

    fn architecture(&self) -> Result<(), Error> {
        match self.metadata.string("general.architecture")? {
            "gpt-oss" => Ok(()),
            other => Err(Error::HyperParameter {
                key: "general.architecture".into(),
                found: other.escape_debug().to_string(),
                expected: "gpt-oss, the only architecture that fourfold runs".into(),
            }),
        }
    }

    /// A whole number between `least` and `most`; a list holds one per layer, which must agree.
    fn count(
        &self,
        name: &str,
        default: Option<usize>,
        least: usize,
        most: usize,
    ) -> Result<usize, Error> {
        let key = self.key(name);
        let value = match (self.metadata.get(&key), default) {
            (None, Some(default)) => default,
            (Some(Value::Array(array)), _) => {
                let mut list = array.iter().map(|value| value.integer());
                match list.next().flatten() {
                    Some(first) if list.all(|value| value == Some(first)) => {
                        usize::try_from(first).unwrap_or(0)
                    }
                    _ => return Err(self.wrong(name, "a list of different values", "one value")),
                }
            }
            _ => self.metadata.u32(&key)? as usize,
        };
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(self.wrong(name, value, format!("{least} to {most}")))
        }
    }

    fn expect(&self, name: &str, expected: usize) -> Result<(), Error> {
        match self.count(name, Some(expected), 1, LARGEST)? {
            value if value == expected => Ok(()),
            value => Err(self.wrong(name, value, format!("{expected}, the length of a key"))),
        }
    }

    fn positive(&self, name: &str, default: Option<f64>) -> Result<f64, Error> {
        let key = self.key(name);
        let value = match (self.metadata.get(&key), default) {
            (None, Some(default)) => default,
            _ => f64::from(self.metadata.f32(&key)?),
        };
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(self.wrong(name, value, "a positive number"))
        }
    }

    fn one_or_more(&self, name: &str, default: f64) -> Result<f64, Error> {
        match self.positive(name, Some(default))? {
            value if value >= 1.0 => Ok(value),
            value => Err(self.wrong(name, value, "1 or more")),
        }
    }

    /// One whose logarithm is divided by.
    fn above_one(&self, name: &str, default: f64) -> Result<f64, Error> {
        match self.positive(name, Some(default))? {
            value if value > 1.0 => Ok(value),
            value => Err(self.wrong(name, value, "a number above 1")),
        }
    }

    /// Which layers see only a window: a period `n` leaves every `n`-th layer full; a list names each.
    fn windows(&self, layers: usize, window: usize) -> Result<Vec<Option<usize>>, Error> {
        let name = "attention.sliding_window_pattern";
        let windowed: Vec<bool> = match self.metadata.get(&self.key(name)) {
            Some(Value::Array(list)) => {
                let flags: Option<Vec<bool>> = list
                    .iter()
                    .map(|value| match value {
                        Value::Bool(flag) => Some(flag),
                        other => other.integer().map(|number| number != 0),
                    })
                    .collect();
                flags.ok_or_else(|| {
                    self.wrong(name, "a list of something else", "a list of truth values")
                })?
            }
            _ => {
                let period = self.count(name, Some(2), 0, LARGEST)?;
                // A period of 0 means in llama.cpp that no layer is full.
                (0..layers)
                    .map(|layer| period == 0 || layer % period < period - 1)
                    .collect()
            }
        };
        if windowed.len() != layers {
            let found = format!("a list of {} entries", windowed.len());
            return Err(self.wrong(name, found, format!("{layers}, one per layer")));
        }
        Ok(windowed
            .into_iter()
            .map(|windowed| windowed.then_some(window))
            .collect())
    }

    fn rope(&self, head_dim: usize, context: usize) -> Result<RopeConfig, Error> {
        let dimensions = self.count("rope.dimension_count", Some(head_dim), 2, head_dim)?;
        if !dimensions.is_multiple_of(2) {
            return Err(self.wrong("rope.dimension_count", dimensions, "an even number"));
        }
        let base = self.above_one("rope.freq_base", 10000.0)?;
        let factor = self.one_or_more("rope.scaling.factor", 1.0)?;
        let key = self.key("rope.scaling.type");
        let kind = match self.metadata.get(&key) {
            None => "linear",
            Some(_) => self.metadata.string(&key)?,
        };
        let scaling = match kind {
            "none" => Scaling::None,
            "linear" => Scaling::Linear(factor),
            "yarn" => Scaling::Yarn(Yarn {
                factor,
                original_context: self.count(
                    "rope.scaling.original_context_length",
                    Some(context),
                    1,
                    LARGEST,
                )? as f64,
                beta_fast: self.positive("rope.scaling.yarn_beta_fast", Some(32.0))?,
                beta_slow: self.positive("rope.scaling.yarn_beta_slow", Some(1.0))?,
                attention_factor: self.positive("rope.scaling.attn_factor", Some(1.0))?,
                truncate: matches!(self.metadata.get(ROPE_TRUNCATE), Some(Value::Bool(true))),
            }),
            other => {
                return Err(self.wrong("rope.scaling.type", other, "yarn, linear or none"));
            }
        };
        Ok(RopeConfig {
            dimensions,
            base,
            window_base: self.above_one("rope.freq_base_swa", base)?,
            scaling,
        })
    }
}
