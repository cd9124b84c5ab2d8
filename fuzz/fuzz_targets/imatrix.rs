//! Any bytes at all: both readers of importance matrices refuse them or give finite, non-negative numbers.
#![no_main]

use fourfold_quantize::gguf::Gguf;
use fourfold_quantize::imatrix::Imatrix;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let imatrix = match Gguf::from_bytes(bytes.to_vec()) {
        Ok(gguf) => Imatrix::from_gguf(&gguf),
        Err(_) => Imatrix::from_legacy(bytes),
    };
    let Ok(imatrix) = imatrix else {
        return;
    };
    for name in ["a", "a.weight", "blk.0.ffn_up_exps.weight"] {
        for dims in [&[1u64][..], &[2, 2], &[2, 2, 2], &[u64::MAX, 1, u64::MAX]] {
            if let Ok(Some(values)) = imatrix.importance(name, dims) {
                assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0));
            }
        }
    }
});
