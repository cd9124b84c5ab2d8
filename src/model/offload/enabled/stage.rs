//! The place on the device for experts that live in the host's memory: those of one layer at a time, for wide batches.

use std::sync::Arc;
use std::time::Instant;

use fourfold_quantize::dtype::DType;
use ggml_sys_bindgen::{Error as DeviceError, Store, Stream, TensorId};

use super::device::Device;
use super::tensors::{DeviceExperts, Loader, PIECE, Part, upload};
use crate::model::forward::CHUNK;
use crate::model::offload::BringExperts;
use crate::model::weights::Layer;
use crate::model::{Config, Error};

/// The experts of one layer, with their norm and router.
pub struct Stage {
    pub store: Arc<Store>,
    pub experts: DeviceExperts,
    /// In the order in which a [`Loader`] declares them.
    tensors: Vec<TensorId>,
    types: [DType; 3],
}

impl Stage {
    /// Takes the memory for the experts of layers like this one.
    pub fn new(stream: &Stream, layer: &Layer) -> Result<Self, DeviceError> {
        let mut loader = Loader::new();
        let experts = loader.experts(layer)?;
        Ok(Self {
            experts,
            tensors: loader.parts.iter().map(|(tensor, _)| *tensor).collect(),
            types: types(layer),
            store: loader.builder.allocate(stream, "experts on their way")?,
        })
    }

    /// Whether this layer's experts have the types that there is room for.
    pub fn suits(&self, layer: &Layer) -> bool {
        types(layer) == self.types
    }

    /// Brings a layer's experts.
    pub fn fill(&self, layer: &Layer) -> Result<(), DeviceError> {
        let mut loader = Loader::new();
        loader.experts(layer)?;
        for (&tensor, (_, part)) in self.tensors.iter().zip(&loader.parts) {
            match part {
                Part::Bytes(bytes) => upload(&self.store, tensor, bytes, |_| ())?,
                Part::Numbers(numbers) => upload(&self.store, tensor, numbers, |_| ())?,
            }
        }
        Ok(())
    }

    /// Bytes per second that the bus carries: of a piece that is in memory because it was copied just before.
    pub fn rate(&self, layer: &Layer) -> Result<f64, DeviceError> {
        let bytes = layer.experts.gate.bytes();
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.store.upload(self.experts.gate.weight, 0, piece)?;
        let start = Instant::now();
        self.store.upload(self.experts.gate.weight, 0, piece)?;
        Ok(piece.len() as f64 / start.elapsed().as_secs_f64().max(1e-9))
    }
}

fn types(layer: &Layer) -> [DType; 3] {
    let experts = &layer.experts;
    [experts.gate, experts.up, experts.down].map(|matrix| matrix.dtype())
}

impl Device {
    /// Whether the experts of this layer should come here for so many tokens.
    pub(super) fn brings(&mut self, layer: &Layer, tokens: usize) -> bool {
        let Some(stage) = self.stage.as_ref().filter(|stage| stage.suits(layer)) else {
            return false;
        };
        match self.plan().bring_experts {
            BringExperts::Always => tokens > 0,
            BringExperts::Auto => self.pace.bring(tokens, stage.store.bytes() as u64),
            BringExperts::Never => false,
        }
    }

    /// Brings the experts of a layer here, and adds what they say to the residual stream.
    pub(super) fn bring(
        &mut self,
        config: &Config,
        layer: &Layer,
        x: &mut [f32],
    ) -> Result<(), Error> {
        let filled = self
            .stage
            .as_ref()
            .map_or(Ok(()), |stage| stage.fill(layer));
        self.remember(filled)?;
        let mut out = Vec::new();
        for x in x.chunks_mut(CHUNK * config.dim) {
            out.resize(x.len(), 0.0);
            let form = self.stage_form(config, x.len() / config.dim);
            self.run(config, form, x, &mut out)?;
            x.copy_from_slice(&out);
        }
        Ok(())
    }
}
