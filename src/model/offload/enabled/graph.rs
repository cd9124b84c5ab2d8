//! The layers as operations of ggml, in the order of `forward.rs`.

use std::sync::Arc;

use ggml_sys_bindgen::{
    ElementType, Error, Graph, GraphBuilder, Rope, Store, Stream, TensorId, Value,
};

use super::cache::LayerTensors;
use super::stage::Stage;
use super::tensors::{DeviceExperts, DeviceHead, DeviceLayer, DeviceLinear, Inputs};
use crate::model::Config;

/// Values that a layer adds to a graph at most.
const LAYER_VALUES: usize = 96;

/// What a graph computes. A graph is built once for each form and used whenever it comes again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// The first layer of the model that it computes, and the one after the last.
    pub layers: (usize, usize),
    /// Whether the experts of its layers are on the device; else it ends with the attention of its only layer.
    pub experts: bool,
    /// Whether it is the experts on the stage, and no layer.
    pub stage: bool,
    /// The first of the batch's tokens that come in.
    pub start: usize,
    /// Tokens that come in.
    pub tokens: usize,
    /// Tokens that go on after the attention of the last layer of the model, if it is among these layers.
    pub wanted: Option<usize>,
    /// Whether the logits come out, not the residual stream.
    pub head: bool,
    /// Positions of the cache that are looked at: of each list of pages.
    pub positions: [usize; 2],
}

/// A graph with what goes in and out.
pub struct Built {
    pub graph: Graph,
    /// The residual stream, `(tokens, dim)`.
    pub input: Value,
    /// The residual stream or the logits of the tokens that go on; nothing if none do.
    pub output: Option<Value>,
}

/// What graphs are made of.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub magnitude: f32,
    pub inputs: &'a Inputs,
    /// Of the layers from `first` on: weights, and list and cache.
    pub layers: &'a [DeviceLayer],
    pub caches: &'a [(usize, LayerTensors)],
    pub first: usize,
    pub stage: Option<&'a Stage>,
    pub head: &'a DeviceHead,
}

impl Parts<'_> {
    /// Builds a graph of this form.
    pub fn build(&self, form: &Form, stream: &mut Stream) -> Result<Built, Error> {
        let (start, end) = form.layers;
        let mut make = Maker {
            parts: self,
            form,
            graph: GraphBuilder::new((end - start + 1) * LAYER_VALUES),
        };
        let dim = self.config.dim;
        let input = make.graph.input(ElementType::F32, &[dim, form.tokens])?;
        let mut x = Some(input);
        for index in start..end {
            let last = index + 1 == self.config.layers;
            let wanted = form.wanted.filter(|_| last);
            x = match x {
                Some(x) => make.attention(index, x, wanted)?,
                None => None,
            };
            if let (Some(stream), Some(experts)) = (x, self.layer(index).experts.as_ref())
                && form.experts
            {
                x = Some(make.experts(&self.layer(index).store, experts, stream)?);
            }
        }
        if let (Some(stream), Some(stage), true) = (x, self.stage, form.stage) {
            x = Some(make.experts(&stage.store, &stage.experts, stream)?);
        }
        if let (Some(stream), true) = (x, form.head) {
            x = Some(make.head(stream)?);
        }
        if let Some(output) = x {
            make.graph.output(output)?;
        }
        let graph = make.graph.finish(stream)?;
        Ok(Built {
            graph,
            input,
            output: x,
        })
    }

    fn layer(&self, index: usize) -> &DeviceLayer {
        &self.layers[index - self.first]
    }
}

/// Adds operations to one graph.
struct Maker<'a> {
    parts: &'a Parts<'a>,
    form: &'a Form,
    graph: GraphBuilder,
}

impl Maker<'_> {
    /// `x + output . attention(query . h, key . h, value . h)` with `h = rmsnorm(x)`, of the tokens that go on.
    fn attention(
        &mut self,
        index: usize,
        x: Value,
        wanted: Option<usize>,
    ) -> Result<Option<Value>, Error> {
        let &Parts { config, inputs, .. } = self.parts;
        let layer = self.parts.layer(index);
        let (list, cache) = &self.parts.caches[index - self.parts.first];
        let (tokens, positions) = (self.form.tokens, self.form.positions[*list]);
        let (head_dim, heads, kv_heads) = (config.head_dim, config.heads, config.kv_heads);
        let shared = inputs.lists[*list];
        let store = &layer.store;

        let h = self.norm(store, layer.attention_norm, x)?;
        let key = self.linear(store, &layer.key, h)?;
        let key = self.turn(key, kv_heads, shared.factors)?;
        let value = self.linear(store, &layer.value, h)?;
        let rows = self.shared(shared.rows, self.form.start, [tokens, 1, 1, 1])?;
        let mut caches = [key, value];
        for (new, tensor) in caches.iter_mut().zip([cache.keys, cache.values]) {
            let all = self.graph.stored(&cache.store, tensor)?;
            let flat = [kv_heads * head_dim, tokens, 1, 1];
            let rows_of_new = self.graph.reshape(*new, flat)?;
            self.graph.set_rows(all, rows_of_new, rows)?;
            let seen = [head_dim, kv_heads, positions, 1];
            let seen = self.graph.view(all, 0, seen)?;
            *new = self.graph.permute(seen, [0, 2, 1, 3])?;
        }
        if wanted == Some(0) {
            return Ok(None);
        }
        let query = self.linear(store, &layer.query, h)?;
        let query = self.turn(query, heads, shared.factors)?;
        let query = self.graph.permute(query, [0, 2, 1, 3])?;
        let mask = self.shared(
            shared.mask,
            self.form.start * positions,
            [positions, tokens, 1, 1],
        )?;
        let sinks = self.graph.stored(store, layer.sinks)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let [key, value] = caches;
        let mut attended = self
            .graph
            .attention(query, key, value, mask, sinks, scale)?;
        let flat = [heads * head_dim, tokens, 1, 1];
        attended = self.graph.reshape(attended, flat)?;
        let mut x = x;
        if let Some(wanted) = wanted {
            let rows = self.shared(inputs.wanted, self.form.start, [wanted, 1, 1, 1])?;
            attended = self.graph.get_rows(attended, rows)?;
            x = self.graph.get_rows(x, rows)?;
        }
        let out = self.linear(store, &layer.output, attended)?;
        Ok(Some(self.graph.add(x, out)?))
    }

    /// `x + sum of weight * expert(h)` over the experts that the router chose for `h = rmsnorm(x)`.
    fn experts(
        &mut self,
        store: &Arc<Store>,
        layer: &DeviceExperts,
        x: Value,
    ) -> Result<Value, Error> {
        let config = self.parts.config;
        let (dim, all, used) = (config.dim, config.experts, config.experts_used);
        let tokens = self.graph.shape(x)?[1];
        let h = self.norm(store, layer.norm, x)?;
        let logits = self.linear(store, &layer.router, h)?;
        let chosen = self.graph.top_k(logits, used)?;
        let table = self.graph.reshape(logits, [1, all, tokens, 1])?;
        let best = self.graph.get_rows(table, chosen)?;
        let best = self.graph.reshape(best, [used, tokens, 1, 1])?;
        let weights = self.graph.soft_max(best)?;
        let weights = self.graph.reshape(weights, [1, used, tokens, 1])?;

        let h = self.graph.reshape(h, [dim, 1, tokens, 1])?;
        let gate = self.expert(store, &layer.gate, h, chosen)?;
        let up = self.expert(store, &layer.up, h, chosen)?;
        let (alpha, limit) = (config.swiglu_alpha, config.swiglu_limit);
        let inner = self.graph.swiglu(gate, up, alpha, limit)?;
        let out = self.expert(store, &layer.down, inner, chosen)?;
        let out = self.graph.mul(out, weights)?;
        let mut sum = x;
        for index in 0..used {
            let part = self.graph.part(out, index)?;
            sum = self.graph.add(sum, part)?;
        }
        Ok(sum)
    }

    /// `head . rmsnorm(x)`
    fn head(&mut self, x: Value) -> Result<Value, Error> {
        let head = self.parts.head;
        let h = self.norm(&head.store, head.norm, x)?;
        self.linear(&head.store, &head.linear, h)
    }

    fn norm(&mut self, store: &Arc<Store>, weight: TensorId, x: Value) -> Result<Value, Error> {
        let normed = self.graph.rms_norm(x, self.parts.config.rms_epsilon)?;
        let weight = self.graph.stored(store, weight)?;
        self.graph.mul(normed, weight)
    }

    fn linear(
        &mut self,
        store: &Arc<Store>,
        linear: &DeviceLinear,
        x: Value,
    ) -> Result<Value, Error> {
        let weight = self.graph.stored(store, linear.weight)?;
        let product = self.graph.mul_mat(weight, x)?;
        match linear.bias {
            Some(bias) => {
                let bias = self.graph.stored(store, bias)?;
                self.graph.add(product, bias)
            }
            None => Ok(product),
        }
    }

    fn expert(
        &mut self,
        store: &Arc<Store>,
        linear: &DeviceLinear,
        x: Value,
        chosen: Value,
    ) -> Result<Value, Error> {
        let weight = self.graph.stored(store, linear.weight)?;
        let product = self.graph.mul_mat_id(weight, x, chosen)?;
        match linear.bias {
            Some(bias) => {
                let bias = self.graph.stored(store, bias)?;
                self.graph.add_id(product, bias, chosen)
            }
            None => Ok(product),
        }
    }

    /// Heads turned to their tokens' positions: `[head_dim, heads, tokens]`.
    fn turn(&mut self, x: Value, heads: usize, factors: TensorId) -> Result<Value, Error> {
        let config = self.parts.config;
        let tokens = self.form.tokens;
        let x = self.graph.reshape(x, [config.head_dim, heads, tokens, 1])?;
        let positions = self.shared(
            self.parts.inputs.positions,
            self.form.start,
            [tokens, 1, 1, 1],
        )?;
        let factors = self.graph.stored(&self.parts.inputs.store, factors)?;
        let rope = Rope {
            dimensions: config.rope.dimensions,
            frequency_base: 1.0,
            magnitude: self.parts.magnitude,
        };
        self.graph.rope(x, positions, factors, rope)
    }

    /// A part of one of the inputs that all graphs share.
    fn shared(&mut self, tensor: TensorId, start: usize, dims: [usize; 4]) -> Result<Value, Error> {
        let all = self.graph.stored(&self.parts.inputs.store, tensor)?;
        self.graph.view(all, start, dims)
    }
}
