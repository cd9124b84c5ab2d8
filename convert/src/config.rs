//! config.json, of the Hugging Face layout (old and new transformers) and of `original/`, as one checked struct.

use fourfold_quantize::gguf::keys::MOST_CONTEXT;
use std::path::Path;

use fourfold_quantize::gguf::vocabulary::MAX_TOKENS;
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::fields::Fields;
use crate::files;
use crate::rope::Yarn;
use crate::small::read_json;
use crate::{Error, Result};

/// The numbers of the model. Field names are the reference model's.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the checkpoint's own")]
pub struct Config {
    pub num_hidden_layers: u32,
    pub num_experts: u32,
    pub experts_per_token: u32,
    pub hidden_size: u32,
    pub intermediate_size: u32,
    pub num_attention_heads: u32,
    pub num_key_value_heads: u32,
    pub head_dim: u32,
    pub sliding_window: u32,
    pub max_position_embeddings: u32,
    pub vocab_size: u32,
    pub rms_norm_eps: f32,
    pub rope_theta: f32,
    /// `None`: positions are not scaled.
    pub yarn: Option<Yarn>,
    pub swiglu_limit: f32,
    pub swiglu_alpha: f32,
    /// For every layer, whether it attends to the sliding window only.
    pub sliding: Vec<bool>,
    pub tie_word_embeddings: bool,
    /// bos, eos and pad as config.json gives them, if it does: not all need be tokens of the model.
    pub bos_token_ids: Vec<i64>,
    pub eos_token_ids: Vec<i64>,
    pub pad_token_ids: Vec<i64>,
    /// What the model was called when it was saved, if the file says so.
    pub name: Option<String>,
    /// Whether the names of tensors and fields are those of `original/`.
    pub original: bool,
    /// What config.json does not say and what was taken for it, a sentence each.
    pub notes: Vec<String>,
}

/// More rows would be tokens that no tokenizer here can number.
const MAX_VOCAB: u64 = MAX_TOKENS as u64;

impl Config {
    /// Reads the config.json beside the weights; refuses other architectures and other quantizations by name.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let path = checkpoint.folder.join("config.json");
        files::check_link(&path)?;
        if !path.exists() {
            let message = "holds weights but no config.json; download it too";
            return Err(Error::file(&checkpoint.folder, message));
        }
        let fields: Map<String, Value> = read_json(&path)?;
        if checkpoint.folder.join("hf_quant_config.json").is_file() {
            return Err(quantized(&path, "modelopt"));
        }
        Self::from_fields(Fields { path, fields })
    }

    fn from_fields(fields: Fields) -> Result<Self> {
        fields.refuse_what_is_not_gpt_oss()?;
        let original = fields.get("num_experts").is_some() && fields.get("model_type").is_none();
        let config = if original {
            Self::original(&fields)?
        } else {
            Self::hugging_face(&fields)?
        };
        config.check(&fields)?;
        Ok(config)
    }

    fn hugging_face(fields: &Fields) -> Result<Self> {
        let num_hidden_layers = fields.count("num_hidden_layers")?;
        let max_position_embeddings = match fields.get("max_position_embeddings") {
            Some(_) => fields.limited("max_position_embeddings", MOST_CONTEXT.into())?,
            None => 131_072,
        };
        let mut notes = Vec::new();
        let (rope_theta, yarn) = fields.rope(max_position_embeddings, &mut notes)?;
        Ok(Self {
            num_hidden_layers,
            num_experts: fields.count("num_local_experts")?,
            experts_per_token: match fields.get("num_experts_per_tok") {
                Some(_) => fields.count("num_experts_per_tok")?,
                None => fields.count("experts_per_token")?,
            },
            hidden_size: fields.count("hidden_size")?,
            intermediate_size: fields.count("intermediate_size")?,
            num_attention_heads: fields.count("num_attention_heads")?,
            num_key_value_heads: fields.count("num_key_value_heads")?,
            head_dim: fields.count_or("head_dim", 64, &mut notes)?,
            sliding_window: fields.count_or("sliding_window", 128, &mut notes)?,
            max_position_embeddings,
            vocab_size: fields.limited("vocab_size", MAX_VOCAB)?,
            rms_norm_eps: fields.number_or("rms_norm_eps", 1e-5)?,
            rope_theta,
            yarn,
            swiglu_limit: fields.number_or("swiglu_limit", 7.0)?,
            swiglu_alpha: fields.number_or("swiglu_alpha", 1.702)?,
            sliding: fields.layer_types(num_hidden_layers)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            bos_token_ids: fields.ids("bos_token_id")?,
            eos_token_ids: fields.ids("eos_token_id")?,
            pad_token_ids: fields.ids("pad_token_id")?,
            name: fields
                .get("_name_or_path")
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            original: false,
            notes,
        })
    }

    /// `original/config.json` leaves out what was fixed when it was written: the rounding of the ramp (none),
    /// the epsilon and the longest context (initial context times factor).
    fn original(fields: &Fields) -> Result<Self> {
        let num_hidden_layers = fields.count("num_hidden_layers")?;
        let original_context = fields.limited("initial_context_length", u32::MAX.into())?;
        let factor = fields.number("rope_scaling_factor")?;
        Ok(Self {
            num_hidden_layers,
            num_experts: fields.count("num_experts")?,
            experts_per_token: fields.count("experts_per_token")?,
            hidden_size: fields.count("hidden_size")?,
            intermediate_size: fields.count("intermediate_size")?,
            num_attention_heads: fields.count("num_attention_heads")?,
            num_key_value_heads: fields.count("num_key_value_heads")?,
            head_dim: fields.count("head_dim")?,
            sliding_window: fields.count("sliding_window")?,
            max_position_embeddings: (original_context as f32 * factor) as u32,
            vocab_size: fields.limited("vocab_size", MAX_VOCAB)?,
            rms_norm_eps: 1e-5,
            rope_theta: fields.number("rope_theta")?,
            yarn: (factor > 1.0).then_some(Yarn {
                factor,
                original_max_position_embeddings: original_context,
                beta_fast: fields.number_or("rope_ntk_beta", 32.0)?,
                beta_slow: fields.number_or("rope_ntk_alpha", 1.0)?,
                truncate: false,
                attention_factor: None,
            }),
            swiglu_limit: fields.number_or("swiglu_limit", 7.0)?,
            swiglu_alpha: 1.702,
            sliding: fields.layer_types(num_hidden_layers)?,
            tie_word_embeddings: false,
            bos_token_ids: Vec::new(),
            eos_token_ids: Vec::new(),
            pad_token_ids: Vec::new(),
            name: None,
            original: true,
            notes: Vec::new(),
        })
    }

    fn check(&self, fields: &Fields) -> Result<()> {
        let rules = [
            (
                self.num_attention_heads
                    .is_multiple_of(self.num_key_value_heads),
                "`num_attention_heads` is not a multiple of `num_key_value_heads`",
            ),
            (
                self.experts_per_token <= self.num_experts,
                "more experts are used per token than there are",
            ),
            (
                self.head_dim.is_multiple_of(2) && self.head_dim <= 1024,
                "`head_dim` must be even and at most 1024",
            ),
            (
                self.num_hidden_layers <= 512,
                "`num_hidden_layers` is more than 512",
            ),
            (
                (1..=MOST_CONTEXT).contains(&self.max_position_embeddings),
                "`max_position_embeddings` is not from 1 to 16777216",
            ),
            (
                self.rms_norm_eps > 0.0 && self.rope_theta > 0.0 && self.swiglu_limit > 0.0,
                "`rms_norm_eps`, `rope_theta` and `swiglu_limit` must be positive",
            ),
            (
                self.yarn.as_ref().is_none_or(|yarn| {
                    yarn.factor >= 1.0
                        && yarn.beta_fast > yarn.beta_slow
                        && yarn.beta_slow > 0.0
                        && yarn
                            .attention_factor
                            .is_none_or(|factor| factor > 0.0 && factor.is_finite())
                }),
                "the YaRN scaling needs factor >= 1, beta_fast > beta_slow > 0 and a positive attention factor",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(Error::file(&fields.path, *message)),
            None => Ok(()),
        }
    }
}

/// What is particular to gpt-oss.
impl Fields {
    fn layer_types(&self, layers: u32) -> Result<Vec<bool>> {
        let Some(value) = self.get("layer_types") else {
            return Ok((0..layers).map(|layer| layer % 2 == 0).collect());
        };
        let kinds: Option<Vec<bool>> = value.as_array().and_then(|kinds| {
            let sliding = |kind: &Value| match kind.as_str() {
                Some("sliding_attention") => Some(true),
                Some("full_attention") => Some(false),
                _ => None,
            };
            kinds.iter().map(sliding).collect()
        });
        kinds.filter(|kinds| kinds.len() == layers as usize).ok_or_else(|| {
            let message = format!(
                "`layer_types` must name `sliding_attention` or `full_attention` for each of the {layers} layers"
            );
            Error::file(&self.path, message)
        })
    }

    fn refuse_what_is_not_gpt_oss(&self) -> Result<()> {
        let architecture = self
            .get("architectures")
            .and_then(|list| list.get(0))
            .and_then(Value::as_str);
        let kind = self.text("model_type").or(architecture);
        let known = matches!(kind, None | Some("gpt_oss" | "GptOssForCausalLM"));
        let nameless = kind.is_none() && self.get("num_experts").is_none();
        if !known || nameless {
            let what = match kind {
                Some(kind) => format!("a model of the architecture {kind:?}"),
                None => "not the configuration of a gpt-oss model".to_owned(),
            };
            let instead = "fourfold converts gpt-oss models only (openai/gpt-oss-20b, openai/gpt-oss-120b and models made from them)";
            return Err(Error::unsupported(&self.path, what, instead));
        }
        // A class of someone's own may keep the tensors as they are; one without a head for tokens cannot.
        if let Some(class) = architecture.filter(|class| !class.ends_with("ForCausalLM")) {
            let what = format!("a model of the architecture {class:?}");
            let instead = "it does not predict tokens; only GptOssForCausalLM is converted";
            return Err(Error::unsupported(&self.path, what, instead));
        }
        if self.flag("attention_bias")? == Some(false) {
            let what = "a model without biases in its attention (`attention_bias` is false)";
            let instead = "a GGUF file of gpt-oss has them: add biases of zeros to the checkpoint and set the field to true";
            return Err(Error::unsupported(&self.path, what, instead));
        }
        self.refuse_other_quantizations()
    }

    fn refuse_other_quantizations(&self) -> Result<()> {
        // MLX repeats its own object under the name that others use, without a method.
        if self.object("quantization").is_some() {
            return Err(quantized(&self.path, "mlx"));
        }
        let Some(quantization) = self.object("quantization_config") else {
            return Ok(());
        };
        let bitsandbytes = ["load_in_4bit", "load_in_8bit"]
            .iter()
            .any(|key| quantization.get(key).is_some());
        match quantization.text("quant_method") {
            Some("mxfp4") => Ok(()),
            None if bitsandbytes => Err(quantized(&self.path, "bitsandbytes")),
            method => Err(quantized(&self.path, method.unwrap_or_default())),
        }
    }
}

fn quantized(path: &Path, method: &str) -> Error {
    let what = match method {
        "bitsandbytes" => "a checkpoint quantized with bitsandbytes".to_owned(),
        "modelopt" => "a checkpoint quantized with NVIDIA ModelOpt".to_owned(),
        "compressed-tensors" => "a checkpoint in the compressed-tensors format".to_owned(),
        "mlx" => "a checkpoint quantized for MLX".to_owned(),
        "" => "a quantized checkpoint (`quantization_config` gives no `quant_method`)".to_owned(),
        other => format!("a checkpoint quantized with {other:?}"),
    };
    let instead = "its weights were rounded for another program; download the MXFP4 original (openai/gpt-oss-20b or -120b) or, of a fine-tune, the BF16 upload";
    Error::unsupported(path, what, instead)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::PathBuf;

    pub fn tiny() -> Config {
        parse(|_| {}).unwrap()
    }

    pub fn parse(edit: impl FnOnce(&mut Map<String, Value>)) -> Result<Config> {
        let text = include_str!("../tests/data/tiny/hf_mxfp4/config.json");
        let mut fields: Map<String, Value> = serde_json::from_str(text).unwrap();
        edit(&mut fields);
        let path = PathBuf::from("config.json");
        Config::from_fields(Fields { path, fields })
    }

    #[test]
    fn what_the_file_does_not_say_is_what_transformers_takes() {
        let old = parse(|_| {}).unwrap();
        assert_eq!(old.notes, [""; 0]);
        let config = parse(|fields| {
            for key in ["rope_scaling", "rope_theta", "head_dim", "sliding_window"] {
                fields.remove(key);
            }
            fields.insert("rope_parameters".into(), Value::Null);
        });
        let config = config.unwrap();
        assert_eq!(
            (config.rope_theta, config.yarn, config.head_dim),
            (150_000.0, old.yarn, 64)
        );
        assert_eq!(config.sliding_window, 128);
        for (note, expected) in config.notes.iter().zip([
            "`rope_theta`; 150000 is taken",
            "`rope_scaling`; the published models' YaRN (factor 32, from 4096 positions) is taken",
            "`head_dim`; 64 is taken",
            "`sliding_window`; 128 is taken",
        ]) {
            assert!(note.contains(expected), "{note}");
        }
        assert_eq!(config.notes.len(), 4);
        // A window of nothing is not a window that is left out.
        let message = parse(|fields| fields["sliding_window"] = Value::Null).unwrap_err();
        assert!(
            message.to_string().contains("`sliding_window` is null"),
            "{message}"
        );
    }

    #[test]
    fn the_original_layout_gives_the_same_numbers() {
        let text = r#"{"num_hidden_layers":2,"num_experts":4,"experts_per_token":2,"vocab_size":64,"hidden_size":64,
            "intermediate_size":32,"swiglu_limit":7.0,"head_dim":64,"num_attention_heads":2,"num_key_value_heads":1,
            "sliding_window":8,"initial_context_length":4096,"rope_theta":150000,"rope_scaling_factor":32.0,
            "rope_ntk_alpha":1,"rope_ntk_beta":32}"#;
        let path = PathBuf::from("config.json");
        let fields = serde_json::from_str(text).unwrap();
        let original = Config::from_fields(Fields { path, fields }).unwrap();
        let hugging_face = parse(|_| {}).unwrap();
        let expected = Config {
            eos_token_ids: Vec::new(),
            original: true,
            ..hugging_face
        };
        assert_eq!(original, expected);
    }

    #[test]
    fn refusals_name_the_field_and_the_reason() {
        type Edit = fn(&mut Map<String, Value>);
        let cases: [(Edit, &str); 15] = [
            (
                |f| drop(f.remove("hidden_size")),
                "`hidden_size` is missing",
            ),
            (
                |f| f["hidden_size"] = (-1).into(),
                "`hidden_size` is -1; expected a whole number",
            ),
            (
                |f| f["num_local_experts"] = 0.into(),
                "`num_local_experts` is 0",
            ),
            (
                |f| f["model_type"] = "llama".into(),
                "architecture \"llama\"",
            ),
            (
                |f| f["quantization_config"]["quant_method"] = "bitsandbytes".into(),
                "bitsandbytes",
            ),
            (
                |f| f["architectures"][0] = "GptOssForSequenceClassification".into(),
                "architecture \"GptOssForSequenceClassification\"",
            ),
            (
                |f| f["attention_bias"] = false.into(),
                "`attention_bias` is false",
            ),
            (
                |f| f["quantization_config"] = serde_json::json!({"load_in_4bit": true}),
                "quantized with bitsandbytes",
            ),
            (
                |f| f["quantization_config"] = serde_json::json!({"bits": 4}),
                "gives no `quant_method`",
            ),
            (
                |f| f["rope_scaling"]["attention_factor"] = 0.into(),
                "positive attention factor",
            ),
            (
                |f| f["layer_types"] = serde_json::json!(["full_attention"]),
                "each of the 2 layers",
            ),
            (
                |f| f["rope_scaling"]["rope_type"] = "llama3".into(),
                "\"llama3\"",
            ),
            (|f| f["rope_scaling"]["factor"] = 0.into(), "factor >= 1"),
            (|f| f["num_key_value_heads"] = 3.into(), "multiple"),
            (
                |f| f["vocab_size"] = (MAX_TOKENS + 1).into(),
                "expected a whole number from 1 to 2097152",
            ),
        ];
        for (edit, expected) in cases {
            let found = parse(edit).unwrap_err().to_string();
            assert!(
                found.starts_with("config.json: ") && found.contains(expected),
                "{found}"
            );
        }
    }
}
