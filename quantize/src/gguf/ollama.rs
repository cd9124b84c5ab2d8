//! Files from Ollama's own store: the names that they have for everything, turned into everybody else's.
//!
//! `ollama pull gpt-oss:20b` brings a GGUF of architecture `gptoss`. Its tensors are those of `gpt-oss`, bit for bit and in the
//! same layout; keys and some tensors are called otherwise, and three keys are missing or say less. All that is undone here,
//! when the file is opened, so that nothing else need know of it. (Files that Ollama gave out before October 2025 had experts of
//! a type of their own: [`super::foreign`] says what to do about them.)

use super::metadata::Metadata;
use super::parse::Parsed;
use super::value::{Array, Value};
use super::vocabulary::MAX_TOKENS;

const ARCHITECTURE: &str = "general.architecture";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
/// What `tokenizer.ggml.token_type` says of tokens that were added as text, and of those that are none.
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Translates a model of Ollama's; whether it is one.
pub(super) fn translate(file: &mut Parsed) -> bool {
    if file.metadata.string(ARCHITECTURE).ok() != Some("gptoss") {
        return false;
    }
    for record in &mut file.tensors {
        if let Some(name) = tensor_name(&record.name) {
            record.name = name.into();
        }
    }
    translate_keys(&mut file.metadata);
    retire_padding(&mut file.metadata);
    true
}

/// The usual name of a tensor, if Ollama's differs.
fn tensor_name(name: &str) -> Option<String> {
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let part = match part {
        "attn_out.weight" => "attn_output.weight",
        "attn_out.bias" => "attn_output.bias",
        "attn_sinks" => "attn_sinks.weight",
        "ffn_norm.weight" => "post_attention_norm.weight",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}"))
}

fn translate_keys(metadata: &mut Metadata) {
    metadata.rename_prefix("gptoss.", "gpt-oss.");
    metadata.set(ARCHITECTURE, "gpt-oss");
    // Ollama stretches the context of every gpt-oss model by YaRN and does not say so.
    let missing = [
        ("gpt-oss.rope.scaling.type", Some(Value::from("yarn"))),
        (
            "gpt-oss.expert_feed_forward_length",
            metadata.get("gpt-oss.feed_forward_length").cloned(),
        ),
    ];
    for (key, value) in missing {
        if let (None, Some(value)) = (metadata.get(key), value) {
            metadata.set(key, value);
        }
    }
    // "default" in the file; its own code splits text as the reference does.
    metadata.set("tokenizer.ggml.pre", "gpt-4o");
}

/// The rows of the embedding that have no token are called `[PAD0]`, `[PAD1]`, ... and typed as tokens that a user added, so a
/// prompt with that text would become one of them. Elsewhere they are unused.
fn retire_padding(metadata: &mut Metadata) {
    let length = |key| match metadata.get(key) {
        Some(Value::Array(array)) => array.len(),
        _ => 0,
    };
    // Nothing is collected that only a file with holes can hold.
    if length(TOKENS) != length(TOKEN_TYPE) || length(TOKENS) > MAX_TOKENS {
        return;
    }
    let (Ok(tokens), Ok(mut kinds)) = (metadata.strings(TOKENS), metadata.i32s(TOKEN_TYPE)) else {
        return;
    };
    for (token, kind) in tokens.zip(&mut kinds) {
        if *kind == USER_DEFINED && is_padding(token) {
            *kind = UNUSED;
        }
    }
    metadata.set(TOKEN_TYPE, Array::of(&kinds));
}

fn is_padding(token: &str) -> bool {
    let number = token
        .strip_prefix("[PAD")
        .and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_tensors_have_other_names() {
        let elsewhere = |name| tensor_name(name).unwrap_or_else(|| String::from("the same"));
        assert_eq!(elsewhere("blk.11.attn_out.bias"), "blk.11.attn_output.bias");
        assert_eq!(elsewhere("blk.0.attn_sinks"), "blk.0.attn_sinks.weight");
        assert_eq!(
            elsewhere("blk.0.ffn_norm.weight"),
            "blk.0.post_attention_norm.weight"
        );
        for name in [
            "output_norm.weight",
            "blk.0.attn_sinks.weight",
            "blk.0.ffn_gate_exps.bias",
            "blk.attn_sinks",
        ] {
            assert_eq!(elsewhere(name), "the same", "{name}");
        }
    }

    #[test]
    fn padding_is_unused_and_what_a_user_added_is_not() {
        let mut metadata = Metadata::new();
        let tokens = [
            "[PAD7]",
            "[PAD0]",
            "[PAD1068]",
            "[PAD]",
            "[PADDING]",
            "<think>",
        ];
        metadata.set(TOKENS, Array::of_strings(tokens));
        metadata.set(TOKEN_TYPE, Array::of(&[1i32, 4, 4, 4, 4, 4]));
        retire_padding(&mut metadata);
        assert_eq!(metadata.i32s(TOKEN_TYPE).unwrap(), [1, 5, 5, 4, 4, 4]);
        // Lists that do not fit together are left to who reads them.
        metadata.set(TOKEN_TYPE, Array::of(&[4i32; 5]));
        retire_padding(&mut metadata);
        assert_eq!(metadata.i32s(TOKEN_TYPE).unwrap(), [4; 5]);
    }

    #[test]
    fn keys_that_are_there_stay_as_they_are() {
        let mut metadata = Metadata::new();
        metadata.set(ARCHITECTURE, "gptoss");
        metadata.set("gptoss.feed_forward_length", 2880u32);
        metadata.set("gptoss.rope.scaling.type", "none");
        metadata.set("tokenizer.ggml.pre", "default");
        translate_keys(&mut metadata);
        let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                ARCHITECTURE,
                "gpt-oss.feed_forward_length",
                "gpt-oss.rope.scaling.type",
                "tokenizer.ggml.pre",
                "gpt-oss.expert_feed_forward_length",
            ]
        );
        let text = |key| metadata.string(key).unwrap();
        assert_eq!(text("gpt-oss.rope.scaling.type"), "none");
        assert_eq!(text("tokenizer.ggml.pre"), "gpt-4o");
    }
}
