//! What a cache belongs to: the model file and the way it is run.

use super::Fingerprint;
use crate::model::Model;
use sha2::{Digest, Sha256};

/// Bytes hashed at each end of a tensor. All bytes would take seconds for a large file; fine-tunes
/// and quantizations differ in every tensor.
const SAMPLE: usize = 256;

/// Identifies a model's content and everything that its caches depend on.
pub fn fingerprint(model: &Model) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (key, value) in model.metadata().iter() {
        part(key.as_bytes());
        part(value.describe().as_bytes());
    }
    for tensor in model.file().tensors() {
        part(tensor.name.as_bytes());
        part(format!("{:?} {:?}", tensor.dtype, tensor.dims).as_bytes());
        let bytes = tensor.bytes;
        part(&bytes[..bytes.len().min(SAMPLE)]);
        part(&bytes[bytes.len().saturating_sub(SAMPLE)..]);
    }
    let options = model.options();
    let form = format!("{:?} {:?} {}", options.kv_type, options.rope, options.exact);
    part(form.as_bytes());
    let name = model
        .metadata()
        .string("general.name")
        .unwrap_or("a model without a name");
    let hash = hash.finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Fingerprint {
        label: format!("{name} ({})", &hash[..8]),
        hash,
    }
}
