//! The forward pass, in the order of the paper.

use crate::kernels::{Kernels, Product, Router};
use crate::threads::Pool;

use super::attention::Attention;
use super::batch::{Batch, BatchToken};
use super::logits::Logits;
use super::offload::Device;
use super::phases::Phase;
use super::rope::Rope;
use super::scratch::Scratch;
use super::weights::{Layer, Linear};
use super::{Config, Error, Sequence, Weights};

/// Tokens that pass through the layers together; longer batches are cut. A device may take several times as many.
pub const CHUNK: usize = 512;

/// What a forward pass computes with.
pub(super) struct Engine<'a> {
    pub config: &'a Config,
    pub weights: &'a Weights<'a>,
    pub rope: &'a Rope,
    pub kernels: &'a Kernels,
    pub pool: &'a Pool,
}

impl Engine<'_> {
    /// Runs a batch: fills the sequences' caches and computes the logits that were asked for.
    pub fn forward(
        &self,
        batch: &Batch,
        sequences: &mut [&mut Sequence],
        scratch: &mut Scratch,
        logits: &mut Logits,
    ) -> Result<(), Error> {
        batch.check(self.config.vocabulary, sequences)?;
        let on_host = self.layers_on_host(scratch);
        if sequences.iter().any(|it| it.layers.len() != on_host) {
            return Err(elsewhere());
        }
        logits.restart(self.config.vocabulary);
        let chunk = scratch.device.as_ref().map_or(CHUNK, |it| it.plan().chunk);
        for tokens in batch.tokens.chunks(chunk) {
            let count = |sequence| {
                tokens
                    .iter()
                    .filter(|token| token.sequence == sequence)
                    .count()
            };
            for (index, sequence) in sequences.iter_mut().enumerate() {
                sequence.reserve(count(index))?;
            }
            self.chunk(tokens, sequences, scratch, logits)?;
            for (index, sequence) in sequences.iter_mut().enumerate() {
                sequence.advance(count(index));
            }
        }
        Ok(())
    }

    fn chunk(
        &self,
        tokens: &[BatchToken],
        sequences: &[&mut Sequence],
        scratch: &mut Scratch,
        logits: &mut Logits,
    ) -> Result<(), Error> {
        scratch.phases.start();
        self.embed(tokens, &mut scratch.x);
        let positions = tokens.iter().map(|token| token.position);
        self.rope.turn(positions, &mut scratch.turns);
        scratch.phases.end(Phase::Prepare);
        let on_host = self.layers_on_host(scratch);
        let last = self.config.layers - 1;
        let all_rows: Vec<usize> = (0..tokens.len()).collect();
        let wanted_rows: Vec<usize> = all_rows
            .iter()
            .copied()
            .filter(|&row| tokens[row].logits)
            .collect();
        for index in 0..on_host {
            // Only some rows are wanted after the last layer. There the other rows give their keys and values and nothing more.
            let rows = if index == last {
                &wanted_rows
            } else {
                &all_rows
            };
            self.attention(index, tokens, rows, sequences, scratch)?;
            self.mixture_of_experts(index, scratch)?;
        }
        match scratch.device.take() {
            None => self.head(scratch, logits),
            Some(mut device) => {
                let rest = self.on_device(
                    &mut device,
                    tokens,
                    &wanted_rows,
                    sequences,
                    scratch,
                    logits,
                );
                scratch.device = Some(device);
                scratch.phases.end(Phase::Device);
                rest
            }
        }
    }

    /// The first layers, which are not on a GPU.
    fn layers_on_host(&self, scratch: &Scratch) -> usize {
        let device = scratch.device.as_ref();
        device.map_or(self.config.layers, Device::first_layer)
    }

    /// `x = x + output . attention(query . h, key . h, value . h)` with `h = rmsnorm(x)`.
    fn attention(
        &self,
        index: usize,
        tokens: &[BatchToken],
        rows: &[usize],
        sequences: &[&mut Sequence],
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let (config, layer) = (self.config, &self.weights.layers[index]);
        let before = || match index {
            0 => "the embedding".to_string(),
            _ => format!("the experts of layer {}", index - 1),
        };
        self.normalize(&layer.attention_norm, scratch, before)?;
        self.quantize_normed(scratch);
        self.queries_keys_values(layer, tokens.len(), rows, scratch);

        let step = Attention {
            kernels: self.kernels,
            config,
            index,
            layer,
            sequences,
            turns: &scratch.turns,
        };
        step.remember(
            self.pool,
            tokens,
            &scratch.keys,
            &scratch.values,
            &mut scratch.attention,
        );
        scratch.phases.end(Phase::Remember);
        let looking: Vec<BatchToken> = rows.iter().map(|&row| tokens[row]).collect();
        let width = config.heads * config.head_dim;
        scratch.attended.resize(rows.len() * width, 0.0);
        let finite = step.look_back(
            self.pool,
            &looking,
            rows,
            &scratch.queries,
            &mut scratch.attended,
            &mut scratch.attention,
        );
        if !finite {
            return Err(Error::NotFinite {
                place: format!("the attention of layer {index}"),
            });
        }
        scratch.phases.end(Phase::LookBack);

        self.kernels.quantize(
            self.pool,
            &scratch.attended,
            rows.len(),
            width,
            &mut scratch.activations,
        );
        scratch.phases.end(Phase::Quantize);
        self.add_product(&layer.output, scratch);
        scratch.phases.end(Phase::Output);
        Ok(())
    }

    /// Keys and values of all tokens, and queries of the rows that look back, which alone go on.
    fn queries_keys_values(
        &self,
        layer: &Layer,
        tokens: usize,
        rows: &[usize],
        scratch: &mut Scratch,
    ) {
        for (linear, out, count) in [
            (&layer.query, &mut scratch.queries, rows.len()),
            (&layer.key, &mut scratch.keys, tokens),
            (&layer.value, &mut scratch.values, tokens),
        ] {
            out.resize(count * linear.weight.rows(), 0.0);
        }
        let key = product(&layer.key, &mut scratch.keys);
        let value = product(&layer.value, &mut scratch.values);
        let query = product(&layer.query, &mut scratch.queries);
        if rows.len() == tokens {
            self.kernels
                .matmul(self.pool, &scratch.activations, &mut [key, value, query]);
        } else {
            self.kernels
                .matmul(self.pool, &scratch.activations, &mut [key, value]);
            scratch.phases.end(Phase::QueryKeyValue);
            self.keep(rows, scratch);
            let query = product(&layer.query, &mut scratch.queries);
            self.kernels
                .matmul(self.pool, &scratch.activations, &mut [query]);
        }
        scratch.phases.end(Phase::QueryKeyValue);
    }

    /// Forgets all tokens but these rows.
    fn keep(&self, rows: &[usize], scratch: &mut Scratch) {
        keep_rows(&mut scratch.x, rows, self.config.dim);
        keep_rows(&mut scratch.normed, rows, self.config.dim);
        self.quantize_normed(scratch);
    }

    /// `x = x + sum of weight * expert(h)` over the experts that the router chose for `h = rmsnorm(x)`.
    pub(super) fn mixture_of_experts(
        &self,
        index: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let (config, layer) = (self.config, &self.weights.layers[index]);
        if scratch.x.is_empty() {
            return Ok(());
        }
        self.normalize(&layer.ffn_norm, scratch, || {
            format!("the attention of layer {index}")
        })?;
        let router = Router {
            weight: &layer.router,
            bias: &layer.router_bias,
        };
        self.kernels.route(
            self.pool,
            &router,
            &scratch.normed,
            config.experts_used,
            &mut scratch.router_logits,
            &mut scratch.routes,
        );
        scratch.phases.end(Phase::Route);
        if let Some(routing) = &mut scratch.routing {
            routing.layers.resize(config.layers, Vec::new());
            routing.layers[index].extend_from_slice(&scratch.routes);
        }
        self.quantize_normed(scratch);
        self.kernels.experts(
            self.pool,
            &layer.experts.lend(),
            &scratch.activations,
            &scratch.routes,
            config.experts_used,
            &mut scratch.x,
            &mut scratch.experts,
        );
        scratch.phases.end(Phase::Experts);
        Ok(())
    }

    /// `logits = head . rmsnorm(x)`
    fn head(&self, scratch: &mut Scratch, logits: &mut Logits) -> Result<(), Error> {
        let config = self.config;
        let rows = scratch.x.len() / config.dim;
        if rows == 0 {
            return Ok(());
        }
        self.normalize(&self.weights.norm, scratch, || {
            format!("the experts of layer {}", config.layers - 1)
        })?;
        self.quantize_normed(scratch);
        let out = logits.more(rows * config.vocabulary);
        self.kernels.matmul(
            self.pool,
            &scratch.activations,
            &mut [product(&self.weights.head, out)],
        );
        scratch.phases.end(Phase::Head);
        if out.iter().all(|logit| logit.is_finite()) {
            Ok(())
        } else {
            Err(Error::NotFinite {
                place: "the head".into(),
            })
        }
    }
}

impl Engine<'_> {
    /// The rows of the embedding that belong to the tokens.
    fn embed(&self, tokens: &[BatchToken], x: &mut Vec<f32>) {
        let dim = self.config.dim;
        x.resize(tokens.len() * dim, 0.0);
        for (token, row) in tokens.iter().zip(x.chunks_exact_mut(dim)) {
            self.weights.embedding.decode_row(token.token as usize, row);
        }
    }

    /// `normed = rmsnorm(x)`, unless `x` holds something that is not a number.
    fn normalize(
        &self,
        weight: &[f32],
        scratch: &mut Scratch,
        place: impl Fn() -> String,
    ) -> Result<(), Error> {
        scratch.normed.resize(scratch.x.len(), 0.0);
        let Scratch { x, normed, .. } = scratch;
        let finite = self
            .kernels
            .rmsnorm(self.pool, x, weight, self.config.rms_epsilon, normed);
        scratch.phases.end(Phase::Normalize);
        finite
            .then_some(())
            .ok_or_else(|| Error::NotFinite { place: place() })
    }

    /// Makes `normed` the input of the next products.
    fn quantize_normed(&self, scratch: &mut Scratch) {
        let dim = self.config.dim;
        let Scratch {
            normed,
            activations,
            ..
        } = scratch;
        self.kernels
            .quantize(self.pool, normed, normed.len() / dim, dim, activations);
        scratch.phases.end(Phase::Quantize);
    }

    /// `x = x + linear(activations)`
    fn add_product(&self, linear: &Linear, scratch: &mut Scratch) {
        let mut product = product(linear, &mut scratch.x);
        product.add = true;
        self.kernels
            .matmul(self.pool, &scratch.activations, &mut [product]);
    }
}

/// A sequence whose cache is not where the layers are.
pub(super) fn elsewhere() -> Error {
    Error::Batch("a sequence was made for another placement of the layers".into())
}

fn product<'a>(linear: &'a Linear<'_>, out: &'a mut [f32]) -> Product<'a> {
    Product {
        weight: linear.weight,
        scale: linear.scale,
        bias: linear.bias.as_deref(),
        out,
        add: false,
    }
}

/// Moves the rows that are kept, given in ascending order, to the front, and forgets the others.
fn keep_rows(list: &mut Vec<f32>, rows: &[usize], width: usize) {
    for (to, &from) in rows.iter().enumerate() {
        if to != from {
            list.copy_within(from * width..(from + 1) * width, to * width);
        }
    }
    list.truncate(rows.len() * width);
}
