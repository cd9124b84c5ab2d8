//! A PEFT adapter for the attention matrices becomes a GGUF adapter for a given model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::{Gguf, Layout, Metadata, WriteOptions, Writer};
use serde_json::{Map, Value};

use crate::experts::to_f32;
use crate::names::LAYER;
use crate::safetensors::{Record, Shard};
use crate::small::read_json;
use crate::{Error, Result};

/// A checked adapter, ready to be written.
#[derive(Debug)]
pub struct Lora {
    shard: Shard,
    metadata: Metadata,
    /// GGUF name of the matrix -> its two halves, as indices of the shard's records.
    pairs: BTreeMap<String, Pair>,
}

#[derive(Debug, Default)]
struct Pair {
    /// `[rank, inputs]`.
    a: Option<usize>,
    /// `[outputs, rank]`.
    b: Option<usize>,
}

impl Lora {
    /// Reads `adapter_config.json` and `adapter_model.safetensors`, and checks that the adapter fits `base`.
    pub fn read(folder: &Path, base: &Gguf) -> Result<Self> {
        let config_path = folder.join("adapter_config.json");
        let config = AdapterConfig {
            fields: read_json(&config_path)?,
            path: config_path,
        };
        let alpha = config.alpha()?;
        let architecture = base.metadata().string("general.architecture")?;
        if architecture != "gpt-oss" {
            let message = format!("is for gpt-oss, but the base model is {architecture:?}");
            return Err(Error::file(folder, message));
        }
        let shard = Shard::open(&folder.join("adapter_model.safetensors"))?;
        let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
        for (index, record) in shard.records.iter().enumerate() {
            let Some((matrix, half)) = place(&record.name) else {
                let message = "is not an adapter of an attention matrix (q_proj, k_proj, v_proj or o_proj), and only those can be converted; merge this adapter into its base model and convert the result";
                return Err(Error::tensor(&shard.path, &record.name, message));
            };
            let pair = pairs.entry(matrix).or_default();
            match half {
                Half::A => pair.a = Some(index),
                Half::B => pair.b = Some(index),
            }
        }
        if pairs.is_empty() {
            return Err(Error::file(&shard.path, "holds no tensors"));
        }
        let lora = Self {
            metadata: metadata(folder, &config, alpha),
            shard,
            pairs,
        };
        for (name, pair) in &lora.pairs {
            lora.check(name, pair, base)?;
        }
        Ok(lora)
    }

    /// Writes the adapter, its numbers as F32.
    pub fn write(&self, path: &Path, options: &WriteOptions) -> Result<Vec<PathBuf>> {
        let mut layout = Layout::new(self.metadata.clone());
        let mut halves = Vec::new();
        for (name, pair) in &self.pairs {
            for (suffix, half) in [("lora_a", pair.a), ("lora_b", pair.b)] {
                let Some(record) = half.map(|index| &self.shard.records[index]) else {
                    continue;
                };
                let dims: Vec<u64> = record.shape.iter().rev().copied().collect();
                let index = layout.add_tensor(&format!("{name}.{suffix}"), DType::F32, &dims)?;
                halves.push((index, record));
            }
        }
        let writer = Writer::begin(layout, path, options)?;
        for (index, record) in halves {
            writer.write_at(index, 0, &self.f32_bytes(record)?)?;
        }
        Ok(writer.finish()?)
    }

    /// How many matrices it adapts.
    pub fn matrices(&self) -> usize {
        self.pairs.len()
    }

    fn f32_bytes(&self, record: &Record) -> Result<Vec<u8>> {
        let count = record.shape.iter().product::<u64>() as usize;
        let mut values = vec![0.0; count];
        if let Some(dtype) = record.dtype() {
            to_f32(dtype, self.shard.bytes(record), &mut values);
        }
        if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
            let message = format!("holds {bad}");
            return Err(Error::tensor(&self.shard.path, &record.name, message));
        }
        Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect())
    }

    /// Both halves are there, their ranks agree, and they fit the base's matrix.
    fn check(&self, name: &str, pair: &Pair, base: &Gguf) -> Result<()> {
        let refuse = |message: String| Err(Error::tensor(&self.shard.path, name, message));
        let (Some(a), Some(b)) = (pair.a, pair.b) else {
            return refuse("has only one of lora_A and lora_B".to_owned());
        };
        let (a, b) = (&self.shard.records[a], &self.shard.records[b]);
        for record in [a, b] {
            if !record.dtype().is_some_and(|dtype| dtype.is_float()) {
                let message = format!("has the element type {}", record.dtype_name);
                return Err(Error::tensor(&self.shard.path, &record.name, message));
            }
        }
        let Some(matrix) = base.tensor(name) else {
            return refuse("is not in the base model".to_owned());
        };
        let fits = a.shape.len() == 2
            && b.shape.len() == 2
            && a.shape[0] == b.shape[1]
            && a.shape[0] > 0
            && matrix.dims == [a.shape[1], b.shape[0]];
        if fits {
            return Ok(());
        }
        refuse(format!(
            "has the shape {:?} in the base model (inputs, outputs), but the adapter's halves have {:?} and {:?}",
            matrix.dims, a.shape, b.shape
        ))
    }
}

enum Half {
    A,
    B,
}

/// `base_model.model.model.layers.N.self_attn.q_proj.lora_A.weight` -> (`blk.N.attn_q.weight`, A).
fn place(name: &str) -> Option<(String, Half)> {
    let inside = name.split_once("model.layers.")?.1;
    let (layer, rest) = inside.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (module, rest) = rest.split_once(".lora_")?;
    let half = match rest {
        "A.weight" | "A.default.weight" => Half::A,
        "B.weight" | "B.default.weight" => Half::B,
        _ => return None,
    };
    let wanted = format!("{module}.weight");
    let name = LAYER.iter().find(|name| {
        module.starts_with("self_attn.") && name.hugging_face.contains(&wanted.as_str())
    })?;
    Some((format!("blk.{layer}.{}", name.gguf), half))
}

fn metadata(folder: &Path, config: &AdapterConfig, alpha: f32) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "gpt-oss");
    metadata.set("general.type", "adapter");
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if let Some(name) = folder.file_name() {
        metadata.set("general.name", name.to_string_lossy().into_owned());
    }
    let base = config.fields.get("base_model_name_or_path");
    if let Some(base) = base.and_then(Value::as_str).filter(|base| !base.is_empty()) {
        metadata.set("general.base_model.count", 1u32);
        let (organization, name) = base.rsplit_once('/').unwrap_or(("", base));
        metadata.set("general.base_model.0.name", name);
        // A repository, not a path.
        if !organization.is_empty() && !organization.contains(['/', '.']) {
            metadata.set("general.base_model.0.organization", organization);
        }
    }
    metadata.set("adapter.type", "lora");
    metadata.set("adapter.lora.alpha", alpha);
    metadata.set("general.quantization_version", 2u32);
    metadata
}

struct AdapterConfig {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl AdapterConfig {
    /// GGUF's alpha: programs scale by alpha / rank. Refuses kinds of adapters that one number cannot describe.
    fn alpha(&self) -> Result<f32> {
        let refuse = |message: &str| Err(Error::file(&self.path, message));
        let set = |key: &str| match self.fields.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(values)) => !values.is_empty(),
            Some(Value::Object(values)) => !values.is_empty(),
            Some(_) => true,
        };
        let kind = self.fields.get("peft_type").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "LORA") {
            return refuse("describes a PEFT adapter that is not LoRA; only LoRA can be converted");
        }
        for (key, what) in [
            (
                "use_dora",
                "is a DoRA adapter, which GGUF cannot hold; merge it into its base model",
            ),
            (
                "alpha_pattern",
                "has `alpha_pattern`, and GGUF holds one alpha for all matrices; merge the adapter into its base model",
            ),
            (
                "modules_to_save",
                "has `modules_to_save`, whole matrices that GGUF adapters cannot hold; merge the adapter into its base model",
            ),
            (
                "target_parameters",
                "adapts parameters by `target_parameters` (experts); only attention matrices can be converted; merge the adapter into its base model",
            ),
        ] {
            if set(key) {
                return refuse(what);
            }
        }
        let number = |key: &str| {
            let value = self.fields.get(key).and_then(Value::as_f64);
            value.filter(|value| *value > 0.0).ok_or_else(|| {
                Error::file(
                    &self.path,
                    format!("`{key}` is missing or not a positive number"),
                )
            })
        };
        let (alpha, rank) = (number("lora_alpha")?, number("r")?);
        if !set("use_rslora") {
            return Ok(alpha as f32);
        }
        if set("rank_pattern") {
            return refuse(
                "scales by the square root of the rank (`use_rslora`) with different ranks (`rank_pattern`), which one alpha cannot express; merge the adapter into its base model",
            );
        }
        // alpha / sqrt(rank) as a fraction of the rank.
        Ok((alpha * rank.sqrt()) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_matrix_and_the_half() {
        let found = place("base_model.model.model.layers.7.self_attn.o_proj.lora_B.weight");
        let (name, half) = found.unwrap();
        assert_eq!(name, "blk.7.attn_output.weight");
        assert!(matches!(half, Half::B));
        for other in [
            "base_model.model.model.layers.7.mlp.router.lora_A.weight",
            "base_model.model.model.layers.7.mlp.experts.lora_A.weight",
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.model.layers.7.self_attn.sinks.lora_A.weight",
        ] {
            assert!(place(other).is_none(), "{other}");
        }
    }

    #[test]
    fn alpha_is_what_a_scale_of_alpha_over_rank_needs() {
        let alpha = |text: &str| {
            let path = PathBuf::from("adapter_config.json");
            let fields = serde_json::from_str(text).unwrap();
            AdapterConfig { path, fields }
                .alpha()
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            alpha(r#"{"peft_type":"LORA","r":16,"lora_alpha":32,"alpha_pattern":{}}"#),
            Ok(32.0)
        );
        assert_eq!(
            alpha(r#"{"r":16,"lora_alpha":32,"use_rslora":true}"#),
            Ok(128.0)
        );
        for (text, expected) in [
            (r#"{"r":16}"#, "`lora_alpha` is missing"),
            (r#"{"peft_type":"LOHA","r":1,"lora_alpha":1}"#, "not LoRA"),
            (r#"{"r":1,"lora_alpha":1,"use_dora":true}"#, "DoRA"),
            (
                r#"{"r":1,"lora_alpha":1,"target_parameters":["7.mlp.experts.down_proj"]}"#,
                "target_parameters",
            ),
        ] {
            assert!(alpha(text).unwrap_err().contains(expected), "{text}");
        }
    }
}
