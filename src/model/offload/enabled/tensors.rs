//! The tensors on the device: weights, copied from the map once, and the inputs that all graphs of a pass share.

use std::sync::Arc;

use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::Gguf;
use ggml_sys_bindgen::{ElementType, Error, Plain, Store, StoreBuilder, Stream, TensorId};

use crate::kernels::Matrix;
use crate::kernels::page::PAGE;
use crate::model::offload::Plan;
use crate::model::weights::{Experts, Layer, Linear, Weights};
use crate::model::{Config, Rope, memory};

/// Bytes that are copied at once: enough for the bus, and often enough for a progress bar.
pub(super) const PIECE: usize = 16 << 20;

/// Pieces that are asked of the disk before their turn, so that it reads while the bus copies.
const LEAD: usize = 4;

/// A matrix and what is added to its results.
pub struct DeviceLinear {
    pub weight: TensorId,
    pub bias: Option<TensorId>,
}

/// A layer's tensors, named as in `weights.rs`.
pub struct DeviceLayer {
    pub store: Arc<Store>,
    pub attention_norm: TensorId,
    pub query: DeviceLinear,
    pub key: DeviceLinear,
    pub value: DeviceLinear,
    pub sinks: TensorId,
    pub output: DeviceLinear,
    pub experts: Option<DeviceExperts>,
}

/// The second half of a layer, where it is on the device.
pub struct DeviceExperts {
    pub norm: TensorId,
    pub router: DeviceLinear,
    pub gate: DeviceLinear,
    pub up: DeviceLinear,
    pub down: DeviceLinear,
}

/// The last norm and the head.
pub struct DeviceHead {
    pub store: Arc<Store>,
    pub norm: TensorId,
    pub linear: DeviceLinear,
}

/// What the layers of one window share: see [`Inputs`].
#[derive(Clone, Copy)]
pub struct ListInputs {
    /// i64 `(tokens)`: rows of the cache that the tokens' keys and values are written to.
    pub rows: TensorId,
    /// f16 `(tokens, positions of the cache)`: 0 where a token looks, minus infinity elsewhere.
    pub mask: TensorId,
    /// f32 `(pairs)`: what the frequencies of rope are divided by.
    pub factors: TensorId,
}

/// What is filled in once per pass, for all layers.
pub struct Inputs {
    pub store: Arc<Store>,
    /// i32 `(tokens)`
    pub positions: TensorId,
    /// i32 `(tokens)`: the tokens whose logits are wanted.
    pub wanted: TensorId,
    /// One per list of pages.
    pub lists: Vec<ListInputs>,
}

/// The type of ggml with the same blocks.
pub fn element(dtype: DType) -> Option<ElementType> {
    ElementType::from_id(dtype.row().id)
}

/// Declares tensors, then takes memory for all of them and fills them.
pub(super) struct Loader<'a> {
    pub builder: StoreBuilder,
    /// What they are filled with, in the order in which they were declared.
    pub parts: Vec<(TensorId, Part<'a>)>,
}

/// What a tensor is filled with.
pub(super) enum Part<'a> {
    Bytes(&'a [u8]),
    Numbers(&'a [f32]),
}

impl<'a> Part<'a> {
    /// The pieces in which it is copied, if it lies in a file.
    fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        match self {
            Part::Bytes(bytes) => bytes.chunks(PIECE),
            Part::Numbers(_) => [].chunks(PIECE),
        }
    }
}

/// Told of every piece of bytes that was copied.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

impl<'a> Loader<'a> {
    pub fn new() -> Self {
        Self {
            builder: StoreBuilder::new(24),
            parts: Vec::new(),
        }
    }

    fn matrix(&mut self, matrix: Matrix<'a>, count: usize) -> Result<TensorId, Error> {
        let unknown = Error::Shape {
            operation: "a matrix",
            shapes: Vec::new(),
            expected: "a type that ggml has",
        };
        let kind = element(matrix.dtype()).ok_or(unknown)?;
        let dims = [matrix.columns(), matrix.rows() / count, count];
        let tensor = self.builder.tensor(kind, &dims)?;
        self.parts.push((tensor, Part::Bytes(matrix.bytes())));
        Ok(tensor)
    }

    fn vector(&mut self, numbers: &'a [f32], count: usize) -> Result<TensorId, Error> {
        let dims = [numbers.len() / count, count];
        let tensor = self.builder.tensor(ElementType::F32, &dims)?;
        self.parts.push((tensor, Part::Numbers(numbers)));
        Ok(tensor)
    }

    fn linear(&mut self, linear: &'a Linear) -> Result<DeviceLinear, Error> {
        let bias = linear.bias.as_deref();
        Ok(DeviceLinear {
            weight: self.matrix(linear.weight, 1)?,
            bias: bias.map(|bias| self.vector(bias, 1)).transpose()?,
        })
    }

    pub fn experts(&mut self, layer: &'a Layer) -> Result<DeviceExperts, Error> {
        let Experts { count, .. } = layer.experts;
        let experts = &layer.experts;
        let mut expert = |matrix: Matrix<'a>, bias: &'a [f32]| -> Result<DeviceLinear, Error> {
            Ok(DeviceLinear {
                weight: self.matrix(matrix, count)?,
                bias: Some(self.vector(bias, count)?),
            })
        };
        let gate = expert(experts.gate, &experts.gate_bias)?;
        let up = expert(experts.up, &experts.up_bias)?;
        let down = expert(experts.down, &experts.down_bias)?;
        Ok(DeviceExperts {
            norm: self.vector(&layer.ffn_norm, 1)?,
            router: DeviceLinear {
                weight: self.vector(&layer.router, count)?,
                bias: Some(self.vector(&layer.router_bias, 1)?),
            },
            gate,
            up,
            down,
        })
    }

    /// Copies everything; the pages of `file` that were read for it are given back.
    fn load(self, stream: &Stream, file: &Gguf, progress: Progress) -> Result<Arc<Store>, Error> {
        let store = self.builder.allocate(stream, "the weights of a layer")?;
        let mut ahead = self.parts.iter().flat_map(|(_, part)| part.pieces());
        ahead.by_ref().take(LEAD).for_each(memory::read_ahead);
        for (tensor, part) in &self.parts {
            match part {
                Part::Bytes(bytes) => upload(&store, *tensor, bytes, |piece| {
                    ahead.next().into_iter().for_each(memory::read_ahead);
                    progress(piece.len() as u64);
                    file.release(piece);
                })?,
                Part::Numbers(numbers) => upload(&store, *tensor, numbers, |piece| {
                    progress(size_of_val(piece) as u64);
                })?,
            }
        }
        Ok(store)
    }
}

/// Copies a tensor in pieces, and shows each of them when it has been copied.
pub(super) fn upload<T: Plain>(
    store: &Store,
    tensor: TensorId,
    numbers: &[T],
    mut copied: impl FnMut(&[T]),
) -> Result<(), Error> {
    let mut offset = 0;
    for piece in numbers.chunks(PIECE / size_of::<T>()) {
        store.upload(tensor, offset, piece)?;
        offset += size_of_val(piece);
        copied(piece);
    }
    Ok(())
}

impl DeviceLayer {
    pub fn load(
        stream: &Stream,
        layer: &Layer,
        with_experts: bool,
        file: &Gguf,
        progress: Progress,
    ) -> Result<Self, Error> {
        let mut loader = Loader::new();
        let attention_norm = loader.vector(&layer.attention_norm, 1)?;
        let query = loader.linear(&layer.query)?;
        let key = loader.linear(&layer.key)?;
        let value = loader.linear(&layer.value)?;
        let sinks = loader.vector(&layer.sinks, 1)?;
        let output = loader.linear(&layer.output)?;
        let experts = match with_experts {
            true => Some(loader.experts(layer)?),
            false => None,
        };
        Ok(Self {
            attention_norm,
            query,
            key,
            value,
            sinks,
            output,
            experts,
            store: loader.load(stream, file, progress)?,
        })
    }
}

impl DeviceHead {
    pub fn load(
        stream: &Stream,
        norm: &[f32],
        linear: &Linear,
        file: &Gguf,
        progress: Progress,
    ) -> Result<Self, Error> {
        let mut loader = Loader::new();
        let norm = loader.vector(norm, 1)?;
        let linear = loader.linear(linear)?;
        Ok(Self {
            norm,
            linear,
            store: loader.load(stream, file, progress)?,
        })
    }
}

impl Inputs {
    /// Takes memory for the batches that are planned for; `windows` has one entry per list of pages.
    pub fn new(
        stream: &Stream,
        rope: &Rope,
        windows: &[Option<usize>],
        plan: &Plan,
    ) -> Result<Self, Error> {
        let chunk = plan.chunk;
        let mut builder = StoreBuilder::new(2 + 3 * windows.len());
        let positions = builder.tensor(ElementType::I32, &[chunk])?;
        let wanted = builder.tensor(ElementType::I32, &[chunk])?;
        let mut lists = Vec::new();
        for &window in windows {
            let pages = plan.places(window);
            let pairs = rope.frequencies(window.is_some()).len();
            lists.push(ListInputs {
                rows: builder.tensor(ElementType::I64, &[chunk])?,
                mask: builder.tensor(ElementType::F16, &[pages * PAGE * chunk])?,
                factors: builder.tensor(ElementType::F32, &[pairs])?,
            });
        }
        let store = builder.allocate(stream, "the inputs of a pass")?;
        for (list, window) in lists.iter().zip(windows) {
            // With a base of 1 the factors are the inverse frequencies: no power of the base is rounded on the way.
            let frequencies = rope.frequencies(window.is_some()).iter();
            let factors: Vec<f32> = frequencies.map(|frequency| frequency.recip()).collect();
            store.upload(list.factors, 0, &factors)?;
        }
        Ok(Self {
            store,
            positions,
            wanted,
            lists,
        })
    }
}

/// Why some of the weights cannot be computed with on a device, if so.
pub fn obstacle(config: &Config, weights: &Weights, plan: &Plan) -> Option<String> {
    let scaled = |linear: &Linear| linear.scale != 1.0;
    let unknown = |matrix: Matrix| {
        let dtype = matrix.dtype();
        element(dtype)
            .is_none()
            .then(|| format!("ggml has no type {}", dtype.name()))
    };
    for (index, layer) in weights.layers.iter().enumerate().skip(plan.first) {
        let linears = [&layer.query, &layer.key, &layer.value, &layer.output];
        if linears.into_iter().any(scaled) || layer.experts.scales.iter().any(Option::is_some) {
            return Some(format!(
                "layer {index} keeps NVFP4 factors beside its matrices"
            ));
        }
        let experts = [layer.experts.gate, layer.experts.up, layer.experts.down];
        let matrices = linears.map(|linear| linear.weight).into_iter();
        if let Some(reason) = matrices.chain(experts).find_map(unknown) {
            return Some(reason);
        }
    }
    if scaled(&weights.head) {
        return Some("the head keeps an NVFP4 factor beside its matrix".into());
    }
    if let Some(reason) = unknown(weights.head.weight) {
        return Some(reason);
    }
    (!config.head_dim.is_multiple_of(8)).then(|| format!("heads of {} numbers", config.head_dim))
}
