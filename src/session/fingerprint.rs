//! What a cache belongs to: the model file and the way it is run.

use super::Fingerprint;
use crate::model::{KvType, Model, RopeForm};
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
    let content = hash.clone().finalize();
    let options = model.options();
    let mut form = String::new();
    for (is_set, option) in [
        (options.kv_type == KvType::Q8_0, " --kv-type q8_0"),
        (options.rope == RopeForm::LlamaCpp, " --rope llama.cpp"),
        (options.exact, " --exact"),
    ] {
        form += if is_set { option } else { "" };
    }
    hash.update(form.as_bytes());
    let name = model
        .metadata()
        .string("general.name")
        .unwrap_or("a model without a name");
    let hexadecimal =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    // The file's content and the options apart: who reads it sees which of the two differs.
    Fingerprint {
        label: format!("{name} ({}){form}", hexadecimal(&content[..4])),
        hash: hexadecimal(&hash.finalize()),
    }
}
