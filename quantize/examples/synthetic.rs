//! Writes a BF16 model of gpt-oss's shape with random weights, to measure quantizing with:
//! `cargo run --release -p fourfold-quantize --example synthetic -- OUT.gguf [LAYERS] [EXPERTS] [VOCABULARY]`.

use std::path::PathBuf;

use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::{Array, Layout, Metadata, WriteOptions, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let out = PathBuf::from(
        args.next()
            .ok_or("usage: synthetic OUT.gguf [LAYERS] [EXPERTS] [VOCABULARY]")?,
    );
    let mut number = |default: u64| args.next().map_or(Ok(default), |text| text.parse());
    let (layers, experts, vocabulary) = (number(1)?, number(32)?, number(100_544)?);

    let mut layout = Layout::new(metadata(layers, experts, vocabulary));
    let mut tensors = Vec::new();
    let mut add = |name: String, dims: &[u64]| -> Result<(), Box<dyn std::error::Error>> {
        let is_matrix =
            name.ends_with(".weight") && dims.len() > 1 && !name.contains("ffn_gate_inp");
        let dtype = if is_matrix { DType::BF16 } else { DType::F32 };
        tensors.push((
            layout.add_tensor(&name, dtype, dims)?,
            dtype,
            dims.iter().product::<u64>(),
        ));
        Ok(())
    };
    add("token_embd.weight".into(), &[2880, vocabulary])?;
    add("output_norm.weight".into(), &[2880])?;
    add("output.weight".into(), &[2880, vocabulary])?;
    for layer in 0..layers {
        let named = |name: &str| format!("blk.{layer}.{name}");
        for (name, columns, rows) in [
            ("attn_q", 2880, 4096),
            ("attn_k", 2880, 512),
            ("attn_v", 2880, 512),
            ("attn_output", 4096, 2880),
            ("ffn_gate_inp", 2880, experts),
        ] {
            add(named(&format!("{name}.weight")), &[columns, rows])?;
            add(named(&format!("{name}.bias")), &[rows])?;
        }
        for name in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"] {
            add(named(&format!("{name}.weight")), &[2880, 2880, experts])?;
            add(named(&format!("{name}.bias")), &[2880, experts])?;
        }
        add(named("attn_norm.weight"), &[2880])?;
        add(named("post_attention_norm.weight"), &[2880])?;
        add(named("attn_sinks.weight"), &[64])?;
    }

    let options = WriteOptions {
        overwrite: true,
        ..WriteOptions::default()
    };
    let writer = Writer::begin(layout, &out, &options)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::new();
    for (index, dtype, elements) in tensors {
        let mut offset = 0;
        let mut left = elements;
        while left > 0 {
            let count = left.min(1 << 20);
            bytes.clear();
            for _ in 0..count {
                let value = 0.02 * random.normal();
                match dtype {
                    DType::F32 => bytes.extend(value.to_le_bytes()),
                    _ => bytes.extend(&value.to_le_bytes()[2..]),
                }
            }
            writer.write_at(index, offset, &bytes)?;
            offset += bytes.len() as u64;
            left -= count;
        }
    }
    writer.finish()?;
    Ok(())
}

fn metadata(layers: u64, experts: u64, vocabulary: u64) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "gpt-oss");
    metadata.set("general.name", "synthetic");
    for (key, value) in [
        ("block_count", layers as u32),
        ("context_length", 131_072),
        ("embedding_length", 2880),
        ("feed_forward_length", 2880),
        ("attention.head_count", 64),
        ("attention.head_count_kv", 8),
        ("attention.key_length", 64),
        ("attention.value_length", 64),
        ("attention.sliding_window", 128),
        ("expert_count", experts as u32),
        ("expert_used_count", 4),
        ("expert_feed_forward_length", 2880),
        ("rope.scaling.original_context_length", 4096),
    ] {
        metadata.set(format!("gpt-oss.{key}"), value);
    }
    metadata.set("gpt-oss.attention.layer_norm_rms_epsilon", 1e-5f32);
    metadata.set("gpt-oss.rope.freq_base", 150_000f32);
    metadata.set("gpt-oss.rope.scaling.type", "yarn");
    metadata.set("gpt-oss.rope.scaling.factor", 32f32);
    metadata.set("general.file_type", 32u32);
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", "gpt-4o");
    let tokens = (0..vocabulary).map(|id| format!("<{id}>"));
    metadata.set("tokenizer.ggml.tokens", Array::of_strings(tokens));
    metadata.set(
        "tokenizer.ggml.token_type",
        Array::of(&vec![1i32; vocabulary as usize]),
    );
    metadata.set("tokenizer.ggml.merges", Array::of_strings(["< 0"]));
    metadata
}

/// Good enough noise, fast: the sum of four 16-bit pieces of an xorshift step is close to normal.
struct Random(u64);

impl Random {
    fn normal(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let sum: u64 = (0..4).map(|piece| self.0 >> (16 * piece) & 0xffff).sum();
        // Mean 2, variance 4/12, in units of 65536.
        (sum as f32 / 65536.0 - 2.0) * 1.732
    }
}
