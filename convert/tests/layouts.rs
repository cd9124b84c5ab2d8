//! One model in every layout that checkpoints come in: the same tensors come out.

mod common;

use std::fs;

use common::*;
use fourfold_convert::{Checkpoint, Options, Plan};
use fourfold_quantize::gguf::{Gguf, WriteOptions};
use fourfold_quantize::recipe::Recipe;
use serde_json::json;

fn floats() -> Options {
    Options {
        recipe: Some(Recipe::F32),
        ..without_tokenizer()
    }
}

fn golden() -> Gguf {
    Gguf::open(&data("tiny/tiny.gguf")).unwrap()
}

#[test]
fn hugging_face_mxfp4_gives_the_golden_tensors_and_keys() {
    let found = converted(&data("tiny/hf_mxfp4"), &floats());
    assert_same(&found, &golden(), |_| true);
    for (key, value) in golden().metadata().iter() {
        // The golden file was labelled "all F32" although its experts are MXFP4.
        if key != "general.file_type" {
            assert_eq!(found.metadata().get(key), Some(value), "{key}");
        }
    }
    assert!(!found.metadata().bool("fourfold.rope_truncate").unwrap());
    assert_eq!(found.metadata().f32("fourfold.swiglu_limit").unwrap(), 7.0);
}

#[test]
fn a_dequantized_checkpoint_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let report = convert(&data("tiny/hf_bf16"), &without_tokenizer(), &path).unwrap();
    assert_eq!(report.requantized, (2 * 4 * 3 * 64 * 32, 0));
    let packed = converted(&data("tiny/hf_mxfp4"), &without_tokenizer());
    assert_same(&Gguf::open(&path).unwrap(), &packed, |_| true);
}

#[test]
fn dequantized_experts_under_the_names_of_their_blocks_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = copy("tiny/hf_bf16", folder.path());
    for layer in 0..2 {
        for name in ["gate_up_proj", "down_proj"] {
            let name = format!("model.layers.{layer}.mlp.experts.{name}");
            weights.rename(&name, &format!("{name}_blocks"));
        }
    }
    weights.save(&folder.path().join("model.safetensors"));
    // As numbers, so that each has to be in its place.
    let options = Options {
        recipe: Some(Recipe::BF16),
        ..without_tokenizer()
    };
    let expected = converted(&data("tiny/hf_bf16"), &options);
    assert_same(&converted(folder.path(), &options), &expected, |_| true);
}

#[test]
fn a_download_cache_with_one_snapshot_is_as_good_as_the_snapshot() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("models--openai--gpt-oss-20b");
    let weights = copy("tiny/hf_mxfp4", &folder.join("snapshots/0123abcd"));
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let plan = Plan::new(&checkpoint, &without_tokenizer()).unwrap();
    assert_eq!(plan.file_name, "gpt-oss-20b-mxfp4.gguf");

    // Of two, a person chooses; what `main` was is the example.
    weights.save(&folder.join("snapshots/0000abcd/model.safetensors"));
    fs::create_dir(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), "0123abcd\n").unwrap();
    let message = Checkpoint::open(&folder).unwrap_err().to_string();
    let example = folder.join("snapshots/0123abcd");
    assert!(
        message.contains("2 snapshots") && message.ends_with(&example.display().to_string()),
        "{message}"
    );
}

#[test]
fn notes_say_what_llama_cpp_will_not_do_and_how_much_rounding_saves() {
    let notes = |change: &dyn Fn(&std::path::Path, &mut Weights)| {
        let folder = tempfile::tempdir().unwrap();
        let mut weights = copy("tiny/hf_bf16", folder.path());
        change(folder.path(), &mut weights);
        weights.save(&folder.path().join("model.safetensors"));
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        Plan::new(&checkpoint, &without_tokenizer()).unwrap().notes
    };
    assert_eq!(notes(&|_, _| {}), [""; 0]);
    let layers = |first: &'static str, second: &'static str| {
        notes(&|folder, _| {
            edit_config(folder, |config| {
                config["layer_types"] = json!([first, second])
            })
        })
    };
    let full = layers("full_attention", "full_attention");
    assert!(full[0].contains("llama.cpp stops"), "{full:?}");
    let swapped = layers("full_attention", "sliding_attention");
    assert!(swapped[0].contains("take turns"), "{swapped:?}");
    let unscaled = notes(&|folder, _| {
        edit_config(folder, |config| {
            config["rope_scaling"] = json!({"rope_type": "default"})
        })
    });
    assert!(unscaled[0].contains("without scaling"), "{unscaled:?}");
    for (dtype, size) in [("BF16", "about a quarter"), ("F32", "about an eighth")] {
        let trained = notes(&|_, weights| {
            for (name, tensor) in &mut weights.0 {
                if name.ends_with("_proj") {
                    tensor.dtype = dtype.to_owned();
                    let count = tensor.shape.iter().product::<u64>();
                    let values = (0..count).map(|index| 1.0 + (index % 97) as f32 / 128.0);
                    tensor.bytes = match dtype {
                        "F32" => values.flat_map(f32::to_le_bytes).collect(),
                        _ => values
                            .flat_map(|value| half::bf16::from_f32(value).to_le_bytes())
                            .collect(),
                    };
                }
            }
        });
        assert!(
            trained[0].contains(&format!("stay {dtype}")) && trained[0].contains(size),
            "{trained:?}"
        );
    }
}

#[test]
fn the_original_layout_gives_the_same_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = copy("tiny/hf_mxfp4", folder.path());
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    weights.rename("model.embed_tokens.weight", "embedding.weight");
    weights.rename("lm_head.weight", "unembedding.weight");
    weights.rename("model.norm.weight", "norm.scale");
    for layer in 0..2 {
        let (from, to) = (format!("model.layers.{layer}."), format!("block.{layer}."));
        for part in ["weight", "bias"] {
            let mut fused = weights.take(&format!("{from}self_attn.q_proj.{part}"));
            for other in ["k", "v"] {
                let next = weights.take(&format!("{from}self_attn.{other}_proj.{part}"));
                fused.shape[0] += next.shape[0];
                fused.bytes.extend(next.bytes);
            }
            weights.0.insert(format!("{to}attn.qkv.{part}"), fused);
        }
        for (theirs, original) in [
            ("input_layernorm.weight", "attn.norm.scale"),
            ("self_attn.sinks", "attn.sinks"),
            ("self_attn.o_proj.weight", "attn.out.weight"),
            ("self_attn.o_proj.bias", "attn.out.bias"),
            ("post_attention_layernorm.weight", "mlp.norm.scale"),
            ("mlp.router.weight", "mlp.gate.weight"),
            ("mlp.router.bias", "mlp.gate.bias"),
            ("mlp.experts.gate_up_proj_blocks", "mlp.mlp1_weight.blocks"),
            ("mlp.experts.gate_up_proj_scales", "mlp.mlp1_weight.scales"),
            ("mlp.experts.gate_up_proj_bias", "mlp.mlp1_bias"),
            ("mlp.experts.down_proj_blocks", "mlp.mlp2_weight.blocks"),
            ("mlp.experts.down_proj_scales", "mlp.mlp2_weight.scales"),
            ("mlp.experts.down_proj_bias", "mlp.mlp2_bias"),
        ] {
            weights.rename(&format!("{from}{theirs}"), &format!("{to}{original}"));
        }
    }
    // As people download it: only the folder `original`.
    weights.save(&folder.path().join("original/model.safetensors"));
    let config = json!({"num_hidden_layers": 2, "num_experts": 4, "experts_per_token": 2, "vocab_size": 64,
        "hidden_size": 64, "intermediate_size": 32, "swiglu_limit": 7.0, "head_dim": 64, "num_attention_heads": 2,
        "num_key_value_heads": 1, "sliding_window": 8, "initial_context_length": 4096, "rope_theta": 150000,
        "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32});
    fs::write(
        folder.path().join("original/config.json"),
        config.to_string(),
    )
    .unwrap();
    assert_same(&converted(folder.path(), &floats()), &golden(), |_| true);
}

/// `[experts, inputs, outputs]` -> one `[outputs, inputs]` for each expert, as fine-tuning programs keep them.
fn split_experts(weights: &mut Weights) {
    let fused: Vec<String> = weights
        .0
        .keys()
        .filter(|name| name.contains(".experts."))
        .cloned()
        .collect();
    for name in fused {
        let tensor = weights.take(&name);
        let base = name.strip_suffix("_bias").unwrap_or(&name);
        let size = tensor.bytes.len() / tensor.shape[0] as usize;
        for (expert, bytes) in tensor.bytes.chunks(size).enumerate() {
            let mut one = tensor.clone();
            one.shape.remove(0);
            one.bytes = bytes.to_vec();
            let kind = if name == base { "weight" } else { "bias" };
            if let [inputs, outputs] = one.shape[..] {
                one.shape.reverse();
                let at = |row: u64, column: u64| (column * outputs + row) as usize * 2;
                let places =
                    (0..outputs).flat_map(|row| (0..inputs).map(move |column| at(row, column)));
                one.bytes = places.flat_map(|at| [bytes[at], bytes[at + 1]]).collect();
            }
            weights.0.insert(format!("{base}s.{expert}.{kind}"), one);
        }
    }
}

#[test]
fn one_module_for_each_expert_gives_the_same_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = copy("tiny/hf_bf16", folder.path());
    split_experts(&mut weights);
    for layer in 0..2 {
        for part in ["weight", "bias"] {
            let router = format!("model.layers.{layer}.mlp.router.");
            weights.rename(
                &format!("{router}{part}"),
                &format!("{router}linear.{part}"),
            );
        }
    }
    weights.save(&folder.path().join("model.safetensors"));
    let expected = converted(&data("tiny/hf_mxfp4"), &without_tokenizer());
    assert_same(
        &converted(folder.path(), &without_tokenizer()),
        &expected,
        |_| true,
    );
}

#[test]
fn f32_and_f16_checkpoints_give_the_same_experts() {
    for dtype in ["F32", "F16"] {
        let folder = tempfile::tempdir().unwrap();
        let mut weights = copy("tiny/hf_bf16", folder.path());
        for tensor in weights.0.values_mut() {
            tensor.dtype = dtype.to_owned();
            let values = tensor
                .bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| half::bf16::from_le_bytes(*b).to_f32());
            tensor.bytes = match dtype {
                "F32" => values.flat_map(f32::to_le_bytes).collect(),
                _ => values
                    .flat_map(|value| half::f16::from_f32(value).to_le_bytes())
                    .collect(),
            };
        }
        weights.save(&folder.path().join("model.safetensors"));
        let expected = converted(&data("tiny/hf_mxfp4"), &without_tokenizer());
        // The other weights are not all F16 numbers; the experts are.
        let exact = |name: &str| dtype == "F32" || name.ends_with("_exps.weight");
        assert_same(
            &converted(folder.path(), &without_tokenizer()),
            &expected,
            exact,
        );
    }
}

#[test]
fn shards_numbered_from_zero_and_tied_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = copy("tiny/hf_mxfp4", folder.path());
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    weights.take("lm_head.weight");
    edit_config(folder.path(), |config| {
        config["tie_word_embeddings"] = true.into()
    });
    let mut map = serde_json::Map::new();
    let names: Vec<String> = weights.0.keys().cloned().collect();
    for (number, names) in names.chunks(20).enumerate() {
        let file = format!("model-{number:05}-of-00001.safetensors");
        let shard = Weights(
            names
                .iter()
                .map(|name| (name.clone(), weights.take(name)))
                .collect(),
        );
        map.extend(names.iter().map(|name| (name.clone(), file.clone().into())));
        shard.save(&folder.path().join(file));
    }
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let found = converted(folder.path(), &floats());
    assert_same(&found, &golden(), |name| name != "output.weight");
    let (output, embedding) = (
        found.tensor("output.weight").unwrap(),
        found.tensor("token_embd.weight").unwrap(),
    );
    assert!(output.bytes == embedding.bytes);
}

#[test]
fn a_split_file_holds_the_same_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&data("tiny/hf_mxfp4")).unwrap();
    let plan = Plan::new(&checkpoint, &floats()).unwrap();
    let options = WriteOptions {
        split_max_bytes: Some(100_000),
        ..WriteOptions::default()
    };
    let report = plan
        .write(
            &folder.path().join("model.gguf"),
            &options,
            &|_| {},
            &|| false,
        )
        .unwrap();
    assert!(report.paths.len() > 1);
    assert!(report.paths[0].ends_with(format!("model-00001-of-{:05}.gguf", report.paths.len())));
    assert_same(&Gguf::open(&report.paths[0]).unwrap(), &golden(), |_| true);
}

#[test]
fn recipes_and_patterns_choose_types() {
    let types = |options: &Options| {
        let checkpoint = Checkpoint::open(&data("tiny/hf_bf16")).unwrap();
        let plan = Plan::new(&checkpoint, options).unwrap();
        let type_of = |name: &str| {
            let planned = plan
                .tensors
                .iter()
                .find(|planned| planned.matrix.name == name);
            planned.unwrap().dtype.name()
        };
        [
            "blk.0.attn_q.weight",
            "blk.1.ffn_up_exps.weight",
            "blk.1.ffn_gate_inp.weight",
        ]
        .map(type_of)
    };
    let with = |recipe, pattern: Option<&str>| Options {
        recipe: Some(recipe),
        overrides: pattern
            .iter()
            .map(|text| fourfold_quantize::recipe::Override::parse(text).unwrap())
            .collect(),
        ..without_tokenizer()
    };
    assert_eq!(types(&with(Recipe::BF16, None)), ["BF16", "BF16", "F32"]);
    assert_eq!(types(&with(Recipe::Q4_K_M, None)), ["Q5_0", "Q5_0", "F32"]);
    assert_eq!(
        types(&with(Recipe::Q8_0, Some("_exps=mxfp4"))),
        ["Q8_0", "MXFP4", "F32"]
    );
}
