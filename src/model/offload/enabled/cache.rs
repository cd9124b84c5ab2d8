//! The keys and values of one layer on the device.

use std::sync::Arc;

use fourfold_quantize::dtype::DType;
use ggml_sys_bindgen::{ElementType, Error, Store, StoreBuilder, Stream, TensorId};

use super::layout::row_bytes;
use super::tensors::element;
use crate::kernels::page::{KvType, PAGE, PageLayout};

/// The cache of one layer.
#[derive(Clone)]
pub struct LayerTensors {
    /// The layer's index in the model.
    pub layer: usize,
    pub store: Arc<Store>,
    pub keys: TensorId,
    pub values: TensorId,
}

impl LayerTensors {
    /// Takes the memory for this many pages.
    pub fn new(
        stream: &Stream,
        layout: &PageLayout,
        layer: usize,
        places: usize,
    ) -> Result<Self, Error> {
        let kind = match layout.kv_type {
            KvType::F32 => ElementType::F32,
            KvType::F16 => ElementType::F16,
            KvType::Q8_0 => element(DType::Q8_0).unwrap_or(ElementType::F16),
        };
        let mut builder = StoreBuilder::new(2);
        let dims = [layout.kv_heads * layout.head_dim, places * PAGE];
        let keys = builder.tensor(kind, &dims)?;
        let values = builder.tensor(kind, &dims)?;
        let store = builder.allocate(stream, "the cache of a layer")?;
        clear(&store, [keys, values], places * PAGE * row_bytes(layout))?;
        Ok(Self {
            layer,
            store,
            keys,
            values,
        })
    }
}

/// Zeros: masked values are multiplied by zero, and what was in memory before may be no number.
fn clear(store: &Store, tensors: [TensorId; 2], bytes: usize) -> Result<(), Error> {
    let zeros = vec![0u8; bytes.min(1 << 22)];
    for tensor in tensors {
        for offset in (0..bytes).step_by(zeros.len()) {
            let len = zeros.len().min(bytes - offset);
            store.upload(tensor, offset, &zeros[..len])?;
        }
    }
    Ok(())
}
