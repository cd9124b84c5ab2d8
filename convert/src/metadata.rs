//! The keys of the GGUF file: what llama.cpp expects, and fourfold's own for what GGUF has no word for.

use fourfold_quantize::gguf::keys::{ROPE_TRUNCATE, STOP_TOKEN_IDS, SWIGLU_ALPHA, SWIGLU_LIMIT};
use fourfold_quantize::gguf::{Array, Metadata};

use crate::card::Card;
use crate::config::Config;
use crate::rope::Yarn;
use crate::vocab::Vocab;

/// Builds the keys in the order in which llama.cpp's converter writes them.
pub fn build(
    config: &Config,
    card: &Card,
    size_label: &str,
    file_type: u32,
    vocab: Option<&Vocab>,
) -> Metadata {
    let mut metadata = Metadata::new();
    general(&mut metadata, card, size_label);
    model(&mut metadata, config, file_type);
    match vocab {
        Some(vocab) => tokenizer(&mut metadata, vocab),
        None => {
            metadata.set("gpt-oss.vocab_size", config.vocab_size);
            metadata.set("tokenizer.ggml.model", "none");
        }
    }
    metadata
}

fn general(metadata: &mut Metadata, card: &Card, size_label: &str) {
    metadata.set("general.architecture", "gpt-oss");
    metadata.set("general.type", "model");
    metadata.set("general.name", card.title.as_str());
    let mut optional = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            metadata.set(key, value.as_str());
        }
    };
    optional("general.finetune", &card.finetune);
    optional("general.basename", &card.basename);
    metadata.set("general.size_label", size_label);
    if let Some(license) = &card.license {
        metadata.set("general.license", license.as_str());
    }
    if !card.base_models.is_empty() {
        metadata.set("general.base_model.count", card.base_models.len() as u32);
    }
    for (index, repository) in card.base_models.iter().enumerate() {
        let key = |field: &str| format!("general.base_model.{index}.{field}");
        let (organization, name) = repository.split_once('/').unwrap_or(("", repository));
        metadata.set(key("name"), name);
        if !organization.is_empty() {
            metadata.set(key("organization"), organization);
            metadata.set(
                key("repo_url"),
                format!("https://huggingface.co/{repository}"),
            );
        }
    }
    if !card.tags.is_empty() {
        metadata.set("general.tags", Array::of_strings(&card.tags));
    }
}

fn model(metadata: &mut Metadata, config: &Config, file_type: u32) {
    metadata.set("gpt-oss.block_count", config.num_hidden_layers);
    metadata.set("gpt-oss.context_length", config.max_position_embeddings);
    metadata.set("gpt-oss.embedding_length", config.hidden_size);
    metadata.set("gpt-oss.feed_forward_length", config.intermediate_size);
    metadata.set("gpt-oss.attention.head_count", config.num_attention_heads);
    metadata.set(
        "gpt-oss.attention.head_count_kv",
        config.num_key_value_heads,
    );
    match &config.yarn {
        Some(yarn) => scaling(metadata, yarn),
        None => metadata.set("gpt-oss.rope.scaling.type", "none"),
    }
    metadata.set("gpt-oss.rope.freq_base", config.rope_theta);
    metadata.set(
        "gpt-oss.attention.layer_norm_rms_epsilon",
        config.rms_norm_eps,
    );
    metadata.set("gpt-oss.expert_count", config.num_experts);
    metadata.set("gpt-oss.expert_used_count", config.experts_per_token);
    metadata.set("gpt-oss.attention.key_length", config.head_dim);
    metadata.set("gpt-oss.attention.value_length", config.head_dim);
    metadata.set("general.file_type", file_type);
    metadata.set("gpt-oss.attention.sliding_window", config.sliding_window);
    if !alternates(&config.sliding) {
        metadata.set(
            "gpt-oss.attention.sliding_window_pattern",
            Array::of(&config.sliding),
        );
    }
    metadata.set(
        "gpt-oss.expert_feed_forward_length",
        config.intermediate_size,
    );
    metadata.set(SWIGLU_LIMIT, config.swiglu_limit);
    metadata.set(SWIGLU_ALPHA, config.swiglu_alpha);
    metadata.set("general.quantization_version", 2u32);
}

fn scaling(metadata: &mut Metadata, yarn: &Yarn) {
    metadata.set("gpt-oss.rope.scaling.type", "yarn");
    metadata.set("gpt-oss.rope.scaling.factor", yarn.factor);
    metadata.set(
        "gpt-oss.rope.scaling.original_context_length",
        yarn.original_max_position_embeddings,
    );
    if let Some(factor) = yarn.attention_factor {
        // GGUF's factor multiplies the usual one.
        let usual = 0.1 * yarn.factor.ln() + 1.0;
        metadata.set("gpt-oss.rope.scaling.attn_factor", factor / usual);
    }
    metadata.set("gpt-oss.rope.scaling.yarn_beta_fast", yarn.beta_fast);
    metadata.set("gpt-oss.rope.scaling.yarn_beta_slow", yarn.beta_slow);
    metadata.set(ROPE_TRUNCATE, yarn.truncate);
}

fn tokenizer(metadata: &mut Metadata, vocab: &Vocab) {
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", "gpt-4o");
    metadata.set("tokenizer.ggml.tokens", Array::of_strings(&vocab.tokens));
    metadata.set("tokenizer.ggml.token_type", Array::of(&vocab.types));
    // The format has no empty arrays in practice: llama.cpp's own writer leaves such keys out.
    if !vocab.merges.is_empty() {
        metadata.set("tokenizer.ggml.merges", Array::of_strings(&vocab.merges));
    }
    for (name, id) in &vocab.special {
        metadata.set(format!("tokenizer.ggml.{name}_token_id"), *id);
    }
    metadata.set("tokenizer.ggml.add_bos_token", vocab.add_bos);
    metadata.set("tokenizer.ggml.add_eos_token", vocab.add_eos);
    if !vocab.stop.is_empty() {
        let ids: Vec<i32> = vocab.stop.iter().map(|&id| id as i32).collect();
        metadata.set(STOP_TOKEN_IDS, Array::of(&ids));
    }
    if !vocab.named_templates.is_empty() {
        let names = vocab.named_templates.iter().map(|(name, _)| name);
        metadata.set("tokenizer.chat_templates", Array::of_strings(names));
        for (name, text) in &vocab.named_templates {
            metadata.set(format!("tokenizer.chat_template.{name}"), text.as_str());
        }
    }
    if let Some(text) = &vocab.chat_template {
        metadata.set("tokenizer.chat_template", text.as_str());
    }
}

fn alternates(sliding: &[bool]) -> bool {
    sliding
        .iter()
        .enumerate()
        .all(|(layer, &sliding)| sliding == (layer % 2 == 0))
}

/// What other programs will compute otherwise than this checkpoint means, a sentence each.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if config.swiglu_limit != 7.0 || config.swiglu_alpha != 1.702 {
        notes.push(format!(
            "the activation has the limit {} and the steepness {}; llama.cpp computes with 7 and 1.702 whatever a file says",
            config.swiglu_limit, config.swiglu_alpha
        ));
    }
    if !config.sliding.contains(&true) {
        notes.push("no layer has sliding attention; llama.cpp stops at such a file with a failed assertion".to_owned());
    } else if !alternates(&config.sliding) {
        notes.push("sliding and full attention do not take turns, beginning with sliding; programs that do not read `sliding_window_pattern` will be wrong".to_owned());
    }
    match &config.yarn {
        None => notes.push(
            "config.json asks for positions without scaling; every published gpt-oss model scales them (YaRN, factor 32)".to_owned(),
        ),
        Some(yarn) => {
            if yarn.truncate {
                notes.push("YaRN's ramp is rounded to whole dimensions (`truncate`), unlike in the published models; llama.cpp always does that".to_owned());
            }
            if (yarn.beta_fast, yarn.beta_slow) != (32.0, 1.0) {
                notes.push(format!(
                    "YaRN's betas are {} and {}; llama.cpp computes with 32 and 1 whatever a file says",
                    yarn.beta_fast, yarn.beta_slow
                ));
            }
        }
    }
    notes
}
