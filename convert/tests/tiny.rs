//! The golden tiny model, converted from both of its checkpoints, against the golden file.

use std::path::{Path, PathBuf};

use fourfold_convert::{Checkpoint, Options, Plan};
use fourfold_quantize::gguf::{Gguf, WriteOptions};
use fourfold_quantize::recipe::Recipe;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/tiny")
        .join(name)
}

/// Converts without a tokenizer, which the tiny model does not have.
fn convert(folder: &str, recipe: Option<Recipe>, target: &Path) -> (Gguf, (u64, u64)) {
    let checkpoint = Checkpoint::open(&data(folder)).unwrap();
    let options = Options {
        recipe,
        tokenizer: false,
        ..Options::default()
    };
    let plan = Plan::new(&checkpoint, &options).unwrap();
    let report = plan
        .write(target, &WriteOptions::default(), &|_| {}, &|| false)
        .unwrap();
    (Gguf::open(target).unwrap(), report.requantized)
}

#[test]
fn tensors_equal_the_golden_file() {
    let folder = tempfile::tempdir().unwrap();
    let f32 = Some(Recipe::F32);
    let (converted, _) = convert("hf_mxfp4", f32, &folder.path().join("out.gguf"));
    let golden = Gguf::open(&data("tiny.gguf")).unwrap();
    assert_eq!(converted.tensors().count(), golden.tensors().count());
    for expected in golden.tensors() {
        let found = converted.tensor(expected.name).unwrap();
        assert_eq!(found.dims, expected.dims, "{}", expected.name);
        assert_eq!(found.dtype, expected.dtype, "{}", expected.name);
        assert!(found.bytes == expected.bytes, "{}", expected.name);
    }
    for (key, value) in golden.metadata().iter() {
        // The golden file was labelled "all F32" although its experts are MXFP4.
        if key != "general.file_type" {
            assert_eq!(converted.metadata().get(key), Some(value), "{key}");
        }
    }
}

#[test]
fn a_dequantized_checkpoint_gives_the_same_file_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (packed, _) = convert("hf_mxfp4", None, &folder.path().join("packed.gguf"));
    let (dense, requantized) = convert("hf_bf16", None, &folder.path().join("dense.gguf"));
    let weights = 2 * 4 * 3 * 64 * 32;
    assert_eq!(requantized, (weights, 0));
    for expected in packed.tensors() {
        let found = dense.tensor(expected.name).unwrap();
        assert_eq!(found.dtype, expected.dtype, "{}", expected.name);
        assert!(found.bytes == expected.bytes, "{}", expected.name);
    }
}
