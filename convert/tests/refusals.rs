//! Checkpoints that are damaged, incomplete, or something else: one sentence, quickly, and nothing on the disk.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use fourfold_convert::{Checkpoint, Error, Plan};
use fourfold_quantize::gguf::WriteOptions;
use serde_json::json;

const EXPERTS: &str = "model.layers.1.mlp.experts.";

/// Changes a good checkpoint, and returns the error of converting it.
fn refusal(change: impl FnOnce(&Path, &mut Weights)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("checkpoint");
    let mut weights = copy("tiny/hf_mxfp4", &source);
    change(&source, &mut weights);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let error = convert(&source, &without_tokenizer(), &out.join("model.gguf")).unwrap_err();
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{error}");
    error.to_string()
}

/// As [`refusal`], for a change of the tensors.
fn refused(change: impl FnOnce(&mut Weights)) -> String {
    refusal(|folder, weights| {
        change(weights);
        weights.save(&folder.join("model.safetensors"));
    })
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_truncated_file_is_named_with_a_tensor() {
    let message = refusal(|folder, _| {
        let file = fs::File::options()
            .write(true)
            .open(folder.join("model.safetensors"))
            .unwrap();
        file.set_len(100_000).unwrap();
    });
    assert_says(
        &message,
        &["model.safetensors", "tensor \"", "fetch this file again"],
    );
}

#[test]
fn missing_wrong_and_surplus_tensors_are_named() {
    let name = format!("{EXPERTS}down_proj_scales");
    let message = refused(|weights| drop(weights.take(&name)));
    assert_says(&message, &[&name, "is missing"]);
    let message = refused(|weights| weights.get(&name).shape = vec![4, 1, 64]);
    assert_says(&message, &[&name, "[4, 1, 64]", "[4, 64, 1]"]);
}

#[test]
fn other_names_for_the_tensors_are_quoted() {
    let renamed = |rename: &dyn Fn(&str) -> String| {
        refused(|weights| {
            let renamed = weights.0.iter();
            let renamed = renamed.map(|(name, tensor)| (rename(name), tensor.clone()));
            weights.0 = renamed.collect();
        })
    };
    let swapped = |from: &'static str, to: &'static str| renamed(&|name| name.replace(from, to));
    for (message, name) in [
        (renamed(&|name| format!("_orig_mod.{name}")), "_orig_mod."),
        (
            renamed(&|name| format!("base_model.model.{name}")),
            "base_model.model.",
        ),
        (swapped("model.", ""), "norm.weight"),
    ] {
        let name = format!("called as \"{name}");
        assert_says(&message, &[&name, "model.layers.0", "save the plain model"]);
        assert!(!message.contains("download"), "{message}");
    }
    for (from, to) in [
        ("attn.sinks", "attn.sinks.weight"),
        ("mlp.router.", "mlp.gate."),
        ("experts.down_proj_blocks", "experts.down_proj.weight"),
        ("experts.down_proj_blocks", "experts.0.down_proj.weight"),
        ("lm_head.weight", "score.weight"),
    ] {
        let message = swapped(from, to);
        assert_says(&message, &[from, "is missing; there is", to]);
        assert!(!message.contains("download"), "{message}");
    }
    // With nothing that could be meant instead, it is as before.
    let message = refused(|weights| drop(weights.take("model.layers.0.self_attn.sinks")));
    assert_says(&message, &["attn.sinks", "the download is incomplete"]);
    let message = renamed(&|name| {
        let name = name.replace("model.layers.", "block.");
        name.replace("lm_head", "unembedding")
    });
    assert_says(&message, &["\"unembedding.weight\"", "the other layout"]);
}

#[test]
fn folders_around_a_checkpoint_and_parts_of_one_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    for step in ["checkpoint-90", "checkpoint-100"] {
        copy("tiny/hf_mxfp4", &folder.path().join(step));
    }
    fs::write(folder.path().join("training_args.bin"), b"").unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert_says(&message, &["checkpoint-100 does", "name that folder"]);

    let message = refusal(|folder, _| fs::remove_file(folder.join("config.json")).unwrap());
    assert_says(&message, &["no config.json", "download it too"]);
}

#[cfg(unix)]
#[test]
fn links_to_files_that_a_cache_lost_are_named() {
    for name in [
        "model.safetensors",
        "model-00000-of-00000.safetensors",
        "config.json",
    ] {
        let message = refusal(|folder, _| {
            if name != "config.json" {
                fs::remove_file(folder.join("model.safetensors")).unwrap();
            }
            fs::remove_file(folder.join(name)).ok();
            std::os::unix::fs::symlink("../../blobs/0123", folder.join(name)).unwrap();
        });
        assert_says(&message, &[name, "its blob", "download it again"]);
    }
}

#[test]
fn wrong_element_types_are_named() {
    let message = refused(|weights| {
        let sinks = weights.get("model.layers.0.self_attn.sinks");
        (sinks.dtype, sinks.shape) = ("I16".into(), vec![2]);
    });
    assert_says(&message, &["model.layers.0.self_attn.sinks", "I16"]);
    let message = refused(|weights| weights.rename("lm_head.weight", "lm_head.weights"));
    assert_says(&message, &["lm_head.weight", "is missing"]);
    let message = refused(|weights| {
        let extra = weights.get("lm_head.weight").clone();
        weights.0.insert("model.vision.weight".into(), extra);
    });
    assert_says(&message, &["model.vision.weight", "not part of the model"]);
}

#[test]
fn nan_is_found_while_converting_and_leaves_nothing() {
    let name = format!("{EXPERTS}gate_up_proj_scales");
    let message = refused(|weights| weights.get(&name).bytes[37] = 255);
    assert_says(&message, &[&name, "MXFP4"]);
    let name = "model.layers.0.self_attn.q_proj.weight";
    let message =
        refused(|weights| weights.get(name).bytes[2 * 64..][..2].copy_from_slice(&[0xC0, 0x7F]));
    assert_says(&message, &[name, "NaN in row 1"]);
}

#[test]
fn an_index_must_stay_in_its_folder_and_tell_the_truth() {
    let with_index = |file: &'static str, tensor: &'static str| {
        refusal(move |folder, weights| {
            fs::remove_file(folder.join("model.safetensors")).unwrap();
            weights.save(&folder.join("model-00000-of-00000.safetensors"));
            weights.save(&folder.join("../outside.safetensors"));
            let index = json!({"weight_map": {tensor: file}});
            fs::write(
                folder.join("model.safetensors.index.json"),
                index.to_string(),
            )
            .unwrap();
        })
    };
    for file in [
        "../outside.safetensors",
        "/etc/passwd",
        "a/../b",
        "..",
        "",
        "a\\b",
    ] {
        assert_says(
            &with_index(file, "lm_head.weight"),
            &["lm_head.weight", "not a file of this folder"],
        );
    }
    let message = with_index("model-00001-of-00001.safetensors", "lm_head.weight");
    assert_says(
        &message,
        &[
            "lm_head.weight",
            "model-00001-of-00001.safetensors",
            "missing",
        ],
    );
    let message = with_index("model-00000-of-00000.safetensors", "no.such.tensor");
    assert_says(
        &message,
        &["no.such.tensor", "model-00000-of-00000.safetensors"],
    );
}

#[test]
fn what_is_something_else_is_called_by_its_name() {
    let config = |key: &'static str, value: serde_json::Value| {
        refusal(move |folder, _| edit_config(folder, |config| config[key] = value))
    };
    assert_says(
        &config("model_type", json!("qwen3_moe")),
        &["qwen3_moe", "openai/gpt-oss-20b"],
    );
    for (method, name) in [
        ("bitsandbytes", "bitsandbytes"),
        ("modelopt", "ModelOpt"),
        ("compressed-tensors", "compressed-tensors"),
    ] {
        let message = config("quantization_config", json!({"quant_method": method}));
        assert_says(&message, &[name, "download the MXFP4 original"]);
    }
    // MLX writes its object twice.
    let mlx = refusal(|folder, _| {
        edit_config(folder, |config| {
            for key in ["quantization", "quantization_config"] {
                config[key] = json!({"group_size": 32, "bits": 4});
            }
        })
    });
    assert_says(&mlx, &["MLX"]);

    let only = |file: &'static str, bytes: &'static [u8]| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), bytes).unwrap();
        let whole = Checkpoint::open(folder.path()).unwrap_err().to_string();
        let file = Checkpoint::open(&folder.path().join(file))
            .unwrap_err()
            .to_string();
        (whole, file)
    };
    assert_says(
        &only("adapter_model.safetensors", b"").0,
        &["LoRA adapter", "--lora"],
    );
    assert_says(
        &only("pytorch_model.bin", b"").0,
        &["pickled", "safetensors"],
    );
    let (folder, file) = only("model.bin", b"GPT-OSS v1.0\0\0\0\0");
    assert_says(&folder, &["Metal container", "hf download"]);
    assert_says(&file, &["Metal container", "hf download"]);
    let (folder, file) = only("model.gguf", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0");
    assert_says(&folder, &["GGUF"]);
    assert_says(&file, &["GGUF", "fourfold quantize"]);
}

#[test]
fn cancelling_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&data("tiny/hf_mxfp4")).unwrap();
    let plan = Plan::new(&checkpoint, &without_tokenizer()).unwrap();
    let path = folder.path().join("model.gguf");
    let result = plan.write(&path, &WriteOptions::default(), &|_| {}, &|| true);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn patterns_that_mean_no_tensor_are_named() {
    let checkpoint = Checkpoint::open(&data("tiny/hf_mxfp4")).unwrap();
    let pattern = fourfold_quantize::recipe::Override::parse("nomatch=q8_0").unwrap();
    let options = fourfold_convert::Options {
        overrides: vec![pattern],
        ..without_tokenizer()
    };
    let message = Plan::new(&checkpoint, &options).unwrap_err().to_string();
    assert_says(&message, &["\"nomatch\"", "no tensor"]);
}

#[test]
fn files_far_larger_than_real_ones_are_not_read() {
    // With holes: they take no room on the disk, and would take all of the memory.
    let with_hole = |name: &'static str| {
        refusal(move |folder, _| {
            if name == "model.safetensors.index.json" {
                fs::remove_file(folder.join("model.safetensors")).unwrap();
            }
            let file = fs::File::create(folder.join(name)).unwrap();
            file.set_len(1 << 40).unwrap();
        })
    };
    for name in ["config.json", "model.safetensors.index.json"] {
        assert_says(&with_hole(name), &[name, "at most 16777216 are read"]);
    }
    let folder = tempfile::tempdir().unwrap();
    copy("tiny/hf_mxfp4", folder.path());
    let file = fs::File::create(folder.path().join("tokenizer.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let error = Plan::new(&checkpoint, &fourfold_convert::Options::default()).unwrap_err();
    assert_says(
        &error.to_string(),
        &["tokenizer.json", "at most 67108864 are read"],
    );
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_instead_of_files_are_refused() {
    use nix::sys::stat::Mode;
    let pipe = |name: &'static str| {
        refusal(move |folder, _| {
            // Of shards without an index, all that are there are opened.
            fs::remove_file(folder.join("model.safetensors")).unwrap();
            nix::unistd::mkfifo(&folder.join(name), Mode::S_IRWXU).unwrap();
        })
    };
    let shard = "model-00001-of-00001.safetensors";
    assert_says(&pipe(shard), &[shard, "not a regular file"]);
    let config = |change: fn(&Path)| {
        refusal(move |folder, _| {
            let path = folder.join("config.json");
            fs::remove_file(&path).unwrap();
            change(&path);
        })
    };
    let changes: [fn(&Path); 2] = [
        |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
    ];
    for change in changes {
        assert_says(&config(change), &["config.json", "not a regular file"]);
    }
}
