//! Any bytes at all: the GGUF reader refuses them, or everything it then lends out can be touched.
#![no_main]

use fourfold_quantize::gguf::{Gguf, Value};
use fourfold_quantize::recipe::{Options, Recipe};
use fourfold_quantize::requantize::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::from_bytes(bytes.to_vec()) else {
        return;
    };
    for (key, value) in gguf.metadata().iter() {
        assert!(!key.is_empty());
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    let mut end = 0;
    for info in gguf.infos() {
        assert!(info.offset >= end);
        end = info.offset + info.bytes.len() as u64;
        assert!(!info.bytes.is_empty());
        assert!(gguf.tensor(info.name).is_some());
    }
    assert!(end <= bytes.len() as u64);
    // What a plan and a new file make of it is arithmetic on hostile shapes.
    for recipe in [Recipe::Q4_K_M, Recipe::LEAN, Recipe::F32] {
        if let Ok(plan) = Plan::new(&gguf, &Options::new(recipe), None) {
            let _ = plan.layout().map(|layout| layout.data_bytes());
        }
    }
});
