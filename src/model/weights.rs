//! Every tensor of the model, found by name once, its shape and type checked once, its bytes left in the map.
//!
//! The fields are named as in the reference model; their names in the file are in `weights/finder.rs`.

mod finder;

use std::borrow::Cow;

use crate::kernels::{self, Matrix};

use super::Config;

/// A list of f32, in the map where it can be used from there.
pub type Vector<'a> = Cow<'a, [f32]>;

/// A model's tensors. Shapes are `(rows, columns)`; a row is what one output is computed from.
pub struct Weights<'a> {
    /// `(vocabulary, dim)`
    pub embedding: Matrix<'a>,
    /// One per layer.
    pub layers: Vec<Layer<'a>>,
    /// `(dim)`
    pub norm: Vector<'a>,
    /// `(vocabulary, dim)`
    pub head: Linear<'a>,
}

/// One layer.
pub struct Layer<'a> {
    /// `(dim)`
    pub attention_norm: Vector<'a>,
    /// `(heads * head_dim, dim)`
    pub query: Linear<'a>,
    /// `(kv_heads * head_dim, dim)`
    pub key: Linear<'a>,
    /// `(kv_heads * head_dim, dim)`
    pub value: Linear<'a>,
    /// `(heads)`: a logit of attention that takes weight and gives nothing.
    pub sinks: Vector<'a>,
    /// `(dim, heads * head_dim)`
    pub output: Linear<'a>,
    /// `(dim)`
    pub ffn_norm: Vector<'a>,
    /// `(experts, dim)`
    pub router: Vector<'a>,
    /// `(experts)`
    pub router_bias: Vector<'a>,
    /// `gate` and `up` `(experts, ff, dim)`, `down` `(experts, dim, ff)`, with their biases.
    pub experts: Experts<'a>,
}

/// A matrix with what belongs to it: `scale * (weight . x) + bias`.
pub struct Linear<'a> {
    /// The matrix.
    pub weight: Matrix<'a>,
    /// The factor that NVFP4 files keep beside a matrix.
    pub scale: f32,
    /// One number per row.
    pub bias: Option<Vector<'a>>,
}

/// The experts of a layer.
pub struct Experts<'a> {
    /// `(experts * ff, dim)`
    pub gate: Matrix<'a>,
    /// `(experts * ff, dim)`
    pub up: Matrix<'a>,
    /// `(experts * dim, ff)`
    pub down: Matrix<'a>,
    /// `(experts * ff)`
    pub gate_bias: Vector<'a>,
    /// `(experts * ff)`
    pub up_bias: Vector<'a>,
    /// `(experts * dim)`
    pub down_bias: Vector<'a>,
    /// The factors `(experts)` that NVFP4 files keep beside each of the three.
    pub scales: [Option<Vector<'a>>; 3],
    /// Number of experts.
    pub count: usize,
    /// Width of an expert.
    pub ff: usize,
    /// Width of its input and output.
    pub dim: usize,
    /// The clamp inside the activation.
    pub swiglu_limit: f32,
    /// The steepness of its sigmoid.
    pub swiglu_alpha: f32,
}

impl Experts<'_> {
    /// The same, as the kernels take it.
    pub fn lend(&self) -> kernels::Experts<'_> {
        kernels::Experts {
            gate: self.gate,
            up: self.up,
            down: self.down,
            gate_bias: &self.gate_bias,
            up_bias: &self.up_bias,
            down_bias: &self.down_bias,
            n_experts: self.count,
            ff: self.ff,
            columns: self.dim,
            swiglu_limit: self.swiglu_limit,
            swiglu_alpha: self.swiglu_alpha,
            scales: self.scales.each_ref().map(|scales| scales.as_deref()),
        }
    }
}

impl Weights<'_> {
    /// Whether some matrix is in a float type, and so multiplied with inputs that are not quantized. `down` is left out: the kernels keep what
    /// goes into it.
    pub fn has_float_matrices(&self) -> bool {
        let layers = self.layers.iter().flat_map(|layer| {
            [
                layer.query.weight,
                layer.key.weight,
                layer.value.weight,
                layer.output.weight,
                layer.experts.gate,
                layer.experts.up,
            ]
        });
        layers
            .chain([self.head.weight])
            .any(|matrix| matrix.dtype().is_float())
    }

    /// Bytes that one decoded token reads: everything but the embedding and the experts it is not sent to.
    pub fn bytes_per_token(&self, config: &Config) -> u64 {
        let bytes = |linear: &Linear| linear.weight.bytes().len() as u64;
        let layers = self.layers.iter().map(|layer| {
            let experts = &layer.experts;
            let all: usize = [experts.gate, experts.up, experts.down]
                .map(|matrix| matrix.bytes().len())
                .iter()
                .sum();
            let used = (all / config.experts * config.experts_used) as u64;
            let router = 4 * layer.router.len() as u64;
            bytes(&layer.query)
                + bytes(&layer.key)
                + bytes(&layer.value)
                + bytes(&layer.output)
                + router
                + used
        });
        layers.sum::<u64>() + bytes(&self.head)
    }

    /// Multiplications that one token of a prompt takes, the head left out.
    pub fn multiplications_per_token(&self, config: &Config) -> u64 {
        let attention = config.dim * config.head_dim * 2 * (config.heads + config.kv_heads);
        let experts =
            config.experts * config.dim + config.experts_used * 3 * config.dim * config.ff;
        (config.layers * (attention + experts)) as u64
    }
}
