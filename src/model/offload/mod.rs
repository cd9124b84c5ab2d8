//! Layers on a GPU: what goes there, and how it runs.
//!
//! [`plan()`] decides, from sizes alone, which layers go on a card; `Device` holds them and runs them, through ggml.
//! This module is the only place that knows whether ggml is there: without one of the features `vulkan`, `cuda` and
//! `metal`, `disabled.rs` takes the place of `enabled.rs`.
//!
//! The last layers of the model go on the device, and the head with them, so hidden states cross once. Where experts of
//! such a layer stay on the processor, its attention runs on the device and its norm, router and experts here, with the
//! same code as ever; the residual stream, 12 kB a token, crosses twice.

mod plan;
mod table;

#[cfg(not(feature = "gpu"))]
mod disabled;
#[cfg(feature = "gpu")]
mod enabled;

#[cfg(not(feature = "gpu"))]
use disabled as build;
#[cfg(feature = "gpu")]
use enabled as build;

pub use build::{AVAILABLE, cards, listen};
pub(in crate::model) use build::{Cache, Copies, Device};
pub use plan::{
    Amount, BringExperts, Bytes, Card, HEAD_ROWS, LayerSize, Plan, PlanError, Sizes, Wish, plan,
};
pub use table::gib;

use super::forward::CHUNK;
use super::{Config, Rope, Weights};
use crate::kernels::page::PageLayout;
use fourfold_quantize::gguf::Gguf;

/// What layers on a device are made from.
#[cfg_attr(
    not(feature = "gpu"),
    allow(dead_code, reason = "read where there are devices")
)]
pub(in crate::model) struct Source<'a> {
    pub config: &'a Config,
    pub weights: &'a Weights<'a>,
    pub rope: &'a Rope,
    pub layout: PageLayout,
    /// The file that the weights lie in.
    pub file: &'a Gguf,
}

impl Sizes {
    /// What the parts of a model take whose caches are laid out like this.
    pub fn of(config: &Config, weights: &Weights, layout: &PageLayout) -> Self {
        let vector = |numbers: &[f32]| size_of_val(numbers) as u64;
        let linear = |linear: &super::Linear| {
            linear.weight.bytes().len() as u64 + linear.bias.as_deref().map_or(0, vector)
        };
        let layers = weights.layers.iter().zip(&config.windows);
        let layers = layers.map(|(layer, &window)| {
            let experts = &layer.experts;
            let matrices = [experts.gate, experts.up, experts.down];
            let biases = [&experts.gate_bias, &experts.up_bias, &experts.down_bias];
            let linears = [&layer.query, &layer.key, &layer.value, &layer.output];
            let vectors = [&layer.attention_norm, &layer.sinks];
            let moved_with_experts = [&layer.ffn_norm, &layer.router, &layer.router_bias];
            LayerSize {
                attention: linears.into_iter().map(linear).sum::<u64>()
                    + vectors.map(|it| vector(it)).iter().sum::<u64>(),
                experts: matrices
                    .map(|it| it.bytes().len() as u64)
                    .iter()
                    .sum::<u64>()
                    + biases.map(|it| vector(it)).iter().sum::<u64>()
                    + moved_with_experts.map(|it| vector(it)).iter().sum::<u64>(),
                window,
            }
        });
        Self {
            layers: layers.collect(),
            head: linear(&weights.head) + vector(&weights.norm),
            position: (layout.bytes() / crate::kernels::page::PAGE) as u64,
            context: config.context,
            chunk: CHUNK,
            dim: config.dim,
            queries: config.heads * config.head_dim,
            expert_numbers: config.experts_used * config.ff,
            vocabulary: config.vocabulary,
        }
    }
}
