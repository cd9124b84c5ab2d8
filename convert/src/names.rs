//! The one table of names: what a tensor is called in GGUF, in Hugging Face checkpoints and in `original/`.

use crate::config::Config;

/// A dimension of the model, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    Vocabulary,
    Hidden,
    /// All query heads side by side: heads * head_dim, which is not the hidden size.
    Query,
    KeyValue,
    Heads,
    Experts,
}

impl Dim {
    /// Its size in this model.
    pub fn of(self, config: &Config) -> u64 {
        u64::from(match self {
            Dim::Vocabulary => config.vocab_size,
            Dim::Hidden => config.hidden_size,
            Dim::Query => config.num_attention_heads * config.head_dim,
            Dim::KeyValue => config.num_key_value_heads * config.head_dim,
            Dim::Heads => config.num_attention_heads,
            Dim::Experts => config.num_experts,
        })
    }
}

/// Which rows of a tensor of `original/` a GGUF tensor is: all, or a part of the fused q, k, v.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    All,
    Query,
    Key,
    Value,
}

/// A tensor that is not an expert's.
pub struct Name {
    /// Its name in GGUF; within a layer, what follows `blk.N.`.
    pub gguf: &'static str,
    /// Dimensions, slowest first.
    pub shape: &'static [Dim],
    /// Its names in Hugging Face checkpoints, the usual one first; within a layer, what follows `model.layers.N.`.
    pub hugging_face: &'static [&'static str],
    /// Its name in `original/`; within a layer, what follows `block.N.`.
    pub original: (&'static str, Part),
}

const fn name(
    gguf: &'static str,
    shape: &'static [Dim],
    hugging_face: &'static [&'static str],
    original: &'static str,
) -> Name {
    fused(gguf, shape, hugging_face, original, Part::All)
}

const fn fused(
    gguf: &'static str,
    shape: &'static [Dim],
    hugging_face: &'static [&'static str],
    original: &'static str,
    part: Part,
) -> Name {
    Name {
        gguf,
        shape,
        hugging_face,
        original: (original, part),
    }
}

use Dim::{Experts, Heads, Hidden, KeyValue, Query, Vocabulary};

/// Tensors that exist once.
#[rustfmt::skip]
pub const MODEL: [Name; 3] = [
    name("output.weight",      &[Vocabulary, Hidden], &["lm_head.weight"],            "unembedding.weight"),
    name("output_norm.weight", &[Hidden],             &["model.norm.weight"],         "norm.scale"),
    name(EMBEDDING,            &[Vocabulary, Hidden], &["model.embed_tokens.weight"], "embedding.weight"),
];

/// The embedding's name: a tied output is a second copy of it.
pub const EMBEDDING: &str = "token_embd.weight";

/// Tensors of every layer, experts left out. Some fine-tuning programs wrap the router in a module of their own.
#[rustfmt::skip]
pub const LAYER: [Name; 13] = [
    name("attn_norm.weight",           &[Hidden],           &["input_layernorm.weight"],          "attn.norm.scale"),
    fused("attn_q.weight",             &[Query, Hidden],    &["self_attn.q_proj.weight"],         "attn.qkv.weight", Part::Query),
    fused("attn_q.bias",               &[Query],            &["self_attn.q_proj.bias"],           "attn.qkv.bias", Part::Query),
    fused("attn_k.weight",             &[KeyValue, Hidden], &["self_attn.k_proj.weight"],         "attn.qkv.weight", Part::Key),
    fused("attn_k.bias",               &[KeyValue],         &["self_attn.k_proj.bias"],           "attn.qkv.bias", Part::Key),
    fused("attn_v.weight",             &[KeyValue, Hidden], &["self_attn.v_proj.weight"],         "attn.qkv.weight", Part::Value),
    fused("attn_v.bias",               &[KeyValue],         &["self_attn.v_proj.bias"],           "attn.qkv.bias", Part::Value),
    name("attn_output.weight",         &[Hidden, Query],    &["self_attn.o_proj.weight"],         "attn.out.weight"),
    name("attn_output.bias",           &[Hidden],           &["self_attn.o_proj.bias"],           "attn.out.bias"),
    name("attn_sinks.weight",          &[Heads],            &["self_attn.sinks"],                 "attn.sinks"),
    name("post_attention_norm.weight", &[Hidden],           &["post_attention_layernorm.weight"], "mlp.norm.scale"),
    name("ffn_gate_inp.weight",        &[Experts, Hidden],  &["mlp.router.weight", "mlp.router.linear.weight"], "mlp.gate.weight"),
    name("ffn_gate_inp.bias",          &[Experts],          &["mlp.router.bias", "mlp.router.linear.bias"],     "mlp.gate.bias"),
];

/// Which rows of a fused expert matrix a GGUF tensor is: gate and up alternate, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    All,
    Even,
    Odd,
}

impl Pick {
    /// Rows of the fused matrix per row of the picked one.
    pub fn step(self) -> u64 {
        match self {
            Pick::All => 1,
            Pick::Even | Pick::Odd => 2,
        }
    }

    /// The first picked row.
    pub fn first(self) -> u64 {
        u64::from(self == Pick::Odd)
    }
}

/// The experts' matrices of one layer.
pub struct ExpertName {
    /// What follows `blk.N.` and precedes `.weight` or `.bias`.
    pub gguf: &'static str,
    /// What follows `model.layers.N.mlp.experts.`.
    pub hugging_face: &'static str,
    /// What follows `block.N.mlp.` and precedes `_weight` or `_bias`.
    pub original: &'static str,
    /// Which rows of the checkpoint's matrix.
    pub pick: Pick,
}

impl ExpertName {
    /// Rows (outputs) and columns (inputs) of the GGUF tensor, for one expert.
    pub fn size(&self, config: &Config) -> (u64, u64) {
        let (hidden, width) = (config.hidden_size.into(), config.intermediate_size.into());
        match self.pick {
            Pick::All => (hidden, width),
            Pick::Even | Pick::Odd => (width, hidden),
        }
    }
}

/// Every expert's three matrices.
#[rustfmt::skip]
pub const EXPERTS: [ExpertName; 3] = [
    ExpertName { gguf: "ffn_down_exps", hugging_face: "down_proj",    original: "mlp2", pick: Pick::All },
    ExpertName { gguf: "ffn_gate_exps", hugging_face: "gate_up_proj", original: "mlp1", pick: Pick::Even },
    ExpertName { gguf: "ffn_up_exps",   hugging_face: "gate_up_proj", original: "mlp1", pick: Pick::Odd },
];
