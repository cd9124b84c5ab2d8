//! What Hugging Face transformers and PEFT themselves saved (scripts/transformers_checkpoint.py).

mod common;

use common::*;
use fourfold_convert::{Checkpoint, Lora, Plan};
use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::{Gguf, WriteOptions};

/// The numbers of a BF16 or F32 tensor.
fn numbers(bytes: &[u8], dtype: &str) -> Vec<f32> {
    match dtype {
        "BF16" => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| half::bf16::from_le_bytes(*b).to_f32())
            .collect(),
        _ => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
    }
}

#[test]
fn a_saved_random_model_keeps_its_numbers() {
    let folder = data("transformers/model");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let plan = Plan::new(&checkpoint, &without_tokenizer()).unwrap();
    // Random experts are not MXFP4: they stay what they are, and the plan says so.
    assert!(
        plan.notes.iter().any(|note| note.contains("stay BF16")),
        "{:?}",
        plan.notes
    );

    let found = converted(&folder, &without_tokenizer());
    assert_eq!(
        found.metadata().f32("gpt-oss.rope.freq_base").unwrap(),
        150_000.0
    );
    let mut weights = Weights::read(&folder.join("model.safetensors"));
    for layer in 0..2 {
        let fused = weights.take(&format!("model.layers.{layer}.mlp.experts.gate_up_proj"));
        let fused = numbers(&fused.bytes, &fused.dtype);
        for (name, parity) in [("gate", 0), ("up", 1)] {
            let tensor = found
                .tensor(&format!("blk.{layer}.ffn_{name}_exps.weight"))
                .unwrap();
            assert_eq!((tensor.dtype, tensor.dims), (DType::BF16, &[64, 32, 4][..]));
            for (index, value) in numbers(tensor.bytes, "BF16").into_iter().enumerate() {
                let (input, row, expert) = (index % 64, index / 64 % 32, index / (64 * 32));
                assert_eq!(
                    value,
                    fused[(expert * 64 + input) * 64 + 2 * row + parity],
                    "{name} {index}"
                );
            }
        }
        let query = weights.take(&format!("model.layers.{layer}.self_attn.q_proj.weight"));
        let tensor = found.tensor(&format!("blk.{layer}.attn_q.weight")).unwrap();
        assert!(tensor.bytes == query.bytes);
    }
}

#[test]
fn an_adapter_becomes_a_gguf_adapter() {
    let base_folder = tempfile::tempdir().unwrap();
    let base_path = base_folder.path().join("base.gguf");
    convert(
        &data("transformers/model"),
        &without_tokenizer(),
        &base_path,
    )
    .unwrap();
    let base = Gguf::open(&base_path).unwrap();
    let lora = Lora::read(&data("transformers/adapter"), &base).unwrap();
    assert_eq!(lora.matrices(), 8);
    let path = base_folder.path().join("adapter.gguf");
    lora.write(&path, &WriteOptions::default()).unwrap();

    let found = Gguf::open(&path).unwrap();
    assert_eq!(found.metadata().string("general.type").unwrap(), "adapter");
    assert_eq!(found.metadata().string("adapter.type").unwrap(), "lora");
    assert_eq!(found.metadata().f32("adapter.lora.alpha").unwrap(), 8.0);
    let mut weights = Weights::read(&data("transformers/adapter/adapter_model.safetensors"));
    let half = weights.take("base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight");
    let tensor = found.tensor("blk.1.attn_output.weight.lora_b").unwrap();
    assert_eq!((tensor.dtype, tensor.dims), (DType::F32, &[4, 64][..]));
    assert!(tensor.bytes == half.bytes);

    // An adapter of other sizes, or for other matrices, is refused by name.
    let refusal = |change: &dyn Fn(&mut Weights)| {
        let folder = tempfile::tempdir().unwrap();
        let config = "adapter_config.json";
        let from = data("transformers/adapter");
        std::fs::copy(from.join(config), folder.path().join(config)).unwrap();
        let mut weights = Weights::read(&from.join("adapter_model.safetensors"));
        change(&mut weights);
        weights.save(&folder.path().join("adapter_model.safetensors"));
        Lora::read(folder.path(), &base).unwrap_err().to_string()
    };
    let layer = "base_model.model.model.layers.0.";
    let query = format!("{layer}self_attn.q_proj.lora_B.weight");
    let message = refusal(&|weights| weights.get(&query).shape = vec![64, 8]);
    assert!(
        message.contains("blk.0.attn_q.weight") && message.contains("has the shape"),
        "{message}"
    );
    let message = refusal(&|weights| drop(weights.take(&query)));
    assert!(
        message.contains("only one of lora_A and lora_B"),
        "{message}"
    );
    let experts = format!("{layer}mlp.experts.lora_B.weight");
    let message = refusal(&|weights| weights.rename(&query, &experts));
    assert!(
        message.contains(&experts) && message.contains("merge"),
        "{message}"
    );
}
