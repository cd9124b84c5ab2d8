//! A device with layers on it: loading them, and running batches through them.

use std::collections::HashMap;
use std::sync::Arc;

use ggml_sys_bindgen::{Error as DeviceError, Stream};

use super::cache::LayerTensors;
use super::graph::{Built, Form, Parts};
use super::layout::row_bytes;
use super::pace::Pace;
use super::pages::{Cache, Pool};
use super::stage::Stage;
use super::tensors::{DeviceHead, DeviceLayer, Inputs, Progress, obstacle};
use crate::kernels::page::{KvType, PAGE};
use crate::model::forward::CHUNK;
use crate::model::offload::{HEAD_ROWS, Plan, Source};
use crate::model::{Config, Error};

/// Graphs that are kept for later; a decoded token uses as many as there are spans, a wide batch four times as many.
const MOST_GRAPHS: usize = 512;
/// Pages by which the visible part of the cache grows from one graph to the next.
const GROWTH: usize = 4;

/// Layers on a device, and all that they need there.
pub struct Device {
    stream: Stream,
    plan: Plan,
    layers: Vec<DeviceLayer>,
    /// Of each layer: the index of its list of pages, and its cache.
    caches: Vec<(usize, LayerTensors)>,
    head: DeviceHead,
    /// Where experts from the host's memory are computed, and when.
    pub(super) stage: Option<Stage>,
    pub(super) pace: Pace,
    pub(super) inputs: Inputs,
    pub(super) pools: Vec<Arc<Pool>>,
    magnitude: f32,
    graphs: HashMap<Form, Built>,
    /// Counts passes, so that pages know who looked at them last.
    pub(super) pass: u64,
    /// Set when the device has failed; it stays so.
    lost: Option<String>,
}

impl Device {
    /// Takes the memory of a plan and fills it with weights.
    pub fn open(source: &Source, plan: &Plan, progress: Progress) -> Result<Self, Error> {
        let Source {
            config, weights, ..
        } = source;
        let obstacle = match source.layout.kv_type {
            KvType::F32 => Some("--exact computes on the processor only".into()),
            _ => obstacle(config, weights, plan),
        };
        if let Some(reason) = obstacle {
            return Err(Error::Unsupported(format!(
                "these layers cannot be on a GPU ({reason}): use --no-gpu"
            )));
        }
        let device = super::find(&plan.device)?;
        Self::load(source, plan, device.open().map_err(failed)?, progress).map_err(failed)
    }

    fn load(
        source: &Source,
        plan: &Plan,
        stream: Stream,
        progress: Progress,
    ) -> Result<Self, DeviceError> {
        let &Source {
            config,
            weights,
            rope,
            layout,
            file,
        } = source;
        let mut windows: Vec<Option<usize>> = Vec::new();
        for window in &config.windows[plan.first..] {
            if !windows.contains(window) {
                windows.push(*window);
            }
        }
        let inputs = Inputs::new(&stream, rope, &windows, plan)?;
        let mut caches = Vec::new();
        for layer in plan.first..plan.layers {
            let window = config.windows[layer];
            let list = windows.iter().position(|other| *other == window);
            let list = list.expect("every window of these layers was listed above");
            let tensors = LayerTensors::new(&stream, &layout, layer, plan.places(window))?;
            caches.push((list, tensors));
        }
        let pools = windows.iter().enumerate().map(|(list, &window)| {
            let tensors = caches.iter().filter(|(other, _)| *other == list);
            let tensors = tensors.map(|(_, tensors)| tensors.clone()).collect();
            let places = plan.places(window);
            Arc::new(Pool::new(window, tensors, row_bytes(&layout), places))
        });
        let pools = pools.collect();
        let mut layers = Vec::new();
        for index in plan.first..plan.layers {
            let layer = &weights.layers[index];
            let with_experts = plan.has_experts(index);
            layers.push(DeviceLayer::load(
                &stream,
                layer,
                with_experts,
                file,
                progress,
            )?);
        }
        let head = DeviceHead::load(&stream, &weights.norm, &weights.head, file, progress)?;
        let (mut stage, mut rate) = (None, f64::INFINITY);
        if plan.bytes.stage > 0 {
            let layer = &weights.layers[plan.first];
            let place = Stage::new(&stream, layer)?;
            rate = place.rate(layer)?;
            stage = Some(place);
        }
        let mut device = Self {
            stream,
            plan: plan.clone(),
            layers,
            caches,
            head,
            stage,
            pace: Pace::new(rate),
            inputs,
            pools,
            magnitude: rope.magnitude() as f32,
            graphs: HashMap::new(),
            pass: 0,
            lost: None,
        };
        device.reserve(config)?;
        Ok(device)
    }

    /// Builds the largest graphs once, so that what they need is taken now and never grows.
    fn reserve(&mut self, config: &Config) -> Result<(), DeviceError> {
        let positions = self.positions(|list| self.plan.places(self.pools[list].window));
        for span in self.spans() {
            for wanted in [HEAD_ROWS, CHUNK] {
                let last = span.layers.1 == config.layers;
                let form = Form {
                    tokens: CHUNK,
                    wanted: last.then_some(wanted),
                    head: last && span.experts && wanted <= HEAD_ROWS,
                    positions,
                    ..span
                };
                self.built(config, form)?;
            }
        }
        self.built(config, self.head_form(config, HEAD_ROWS))?;
        if self.stage.is_some() {
            self.built(config, self.stage_form(config, CHUNK))?;
        }
        self.graphs.clear();
        Ok(())
    }

    /// Positions that the graphs of a pass show of each list, for some number of its pages.
    pub(super) fn positions(&self, pages: impl Fn(usize) -> usize) -> [usize; 2] {
        let mut positions = [0; 2];
        for (list, pool) in self.pools.iter().enumerate() {
            let places = self.plan.places(pool.window);
            positions[list] = pages(list).next_multiple_of(GROWTH).min(places) * PAGE;
        }
        positions
    }

    /// The first layer that is here.
    pub fn first_layer(&self) -> usize {
        self.plan.first
    }

    /// What was placed here.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The cache of a new sequence.
    pub fn new_cache(&self) -> Cache {
        Cache::new(&self.pools)
    }

    /// Bytes that are really taken for values between operations and for the inputs of a pass.
    pub fn scratch_bytes(&self) -> u64 {
        (self.stream.bytes() + self.inputs.store.bytes()) as u64
    }

    /// What is computed in one go: one layer up to its experts where those are on the processor, else all that follow.
    pub(super) fn spans(&self) -> Vec<Form> {
        let Plan {
            first,
            first_experts,
            layers,
            ..
        } = self.plan;
        let form = |start, end, experts| Form {
            layers: (start, end),
            experts,
            stage: false,
            start: 0,
            tokens: 0,
            wanted: None,
            head: false,
            positions: [0; 2],
        };
        let mut spans: Vec<Form> = (first..first_experts)
            .map(|layer| form(layer, layer + 1, false))
            .collect();
        if first_experts < layers {
            spans.push(form(first_experts, layers, true));
        }
        spans
    }

    /// The head alone.
    pub(super) fn head_form(&self, config: &Config, rows: usize) -> Form {
        Form {
            layers: (config.layers, config.layers),
            experts: false,
            stage: false,
            start: 0,
            tokens: rows,
            wanted: None,
            head: true,
            positions: [0; 2],
        }
    }

    /// The experts that were brought here last.
    pub(super) fn stage_form(&self, config: &Config, tokens: usize) -> Form {
        Form {
            stage: true,
            head: false,
            ..self.head_form(config, tokens)
        }
    }

    fn built(&mut self, config: &Config, form: Form) -> Result<&mut Built, DeviceError> {
        let stream = &mut self.stream;
        let known = self.graphs.get(&form);
        if !known.is_some_and(|built| built.graph.is_placed(stream)) {
            if self.graphs.len() >= MOST_GRAPHS {
                self.graphs.clear();
            }
            let parts = Parts {
                config,
                magnitude: self.magnitude,
                inputs: &self.inputs,
                layers: &self.layers,
                caches: &self.caches,
                first: self.plan.first,
                stage: self.stage.as_ref(),
                head: &self.head,
            };
            let built = parts.build(&form, stream)?;
            self.graphs.insert(form, built);
        }
        let built = self.graphs.get_mut(&form);
        Ok(built.expect("it was there or has just been put there"))
    }

    /// Runs one graph: `x` in, what `out` has room for out.
    pub(super) fn run(
        &mut self,
        config: &Config,
        form: Form,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), Error> {
        let result = self.compute(config, form, x, out);
        self.remember(result)
    }

    fn compute(
        &mut self,
        config: &Config,
        form: Form,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), DeviceError> {
        self.built(config, form)?;
        let (stream, built) = (&mut self.stream, self.graphs.get_mut(&form));
        let built = built.expect("it was just built");
        built.graph.set(stream, built.input, x)?;
        built.graph.run(stream)?;
        match built.output {
            Some(output) => built.graph.read(stream, output, out),
            None => Ok(()),
        }
    }

    /// Keeps in mind that the device failed, if it did: what it holds can no longer be trusted.
    pub(super) fn remember<T>(&mut self, result: Result<T, DeviceError>) -> Result<T, Error> {
        result.map_err(|error| {
            if matches!(
                error,
                DeviceError::Device { .. } | DeviceError::Memory { .. }
            ) {
                self.lost = Some(error.to_string());
            }
            failed(error)
        })
    }

    /// That the device has not failed before.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.lost {
            Some(reason) => Err(Error::Device(reason.clone())),
            None => Ok(()),
        }
    }
}

/// The model's error for a device's.
fn failed(error: DeviceError) -> Error {
    match error {
        DeviceError::Unsupported { .. } => Error::Unsupported(format!("{error}: use --no-gpu")),
        error => Error::Device(error.to_string()),
    }
}
