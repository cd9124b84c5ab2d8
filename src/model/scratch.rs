//! What a forward pass keeps from one step to the next.

use crate::kernels::{self, Activations};

use super::attention::AttentionScratch;
use super::offload::Device;
use super::phases::Phases;
use super::rope::Turns;

/// Memory between the steps of a forward pass, kept from one to the next.
#[derive(Default)]
pub struct Scratch {
    /// The residual stream, `(tokens, dim)`.
    pub(super) x: Vec<f32>,
    /// `(tokens, dim)`
    pub(super) normed: Vec<f32>,
    /// What a matrix product multiplies with.
    pub(super) activations: Activations,
    /// `(tokens, heads * head_dim)`
    pub(super) queries: Vec<f32>,
    /// `(tokens, kv_heads * head_dim)`
    pub(super) keys: Vec<f32>,
    /// `(tokens, kv_heads * head_dim)`
    pub(super) values: Vec<f32>,
    /// `(tokens, heads * head_dim)`
    pub(super) attended: Vec<f32>,
    /// `(tokens, experts)`
    pub(super) router_logits: Vec<f32>,
    /// `(tokens, experts_used)`: expert and weight.
    pub(super) routes: Vec<(usize, f32)>,
    pub(super) experts: kernels::Scratch,
    pub(super) turns: Turns,
    pub(super) attention: AttentionScratch,
    pub(super) phases: Phases,
    /// The experts that every layer chose, if somebody asked.
    pub(super) routing: Option<Routing>,
    /// The last layers, if they are on a GPU.
    pub(super) device: Option<Device>,
}

/// For every layer, the experts and weights of each token in turn.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// One list per layer; a token has as many entries as it uses experts.
    pub layers: Vec<Vec<(usize, f32)>>,
}

impl Scratch {
    /// Empty. Weights in a float type need inputs that are kept as they are beside their quantized form.
    pub fn new(keep_values: bool) -> Self {
        let mut scratch = Self::default();
        scratch.activations.keep_values(keep_values);
        scratch
    }
}
