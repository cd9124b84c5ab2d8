//! A model that Ollama downloaded is run, shown and quantized by the name that Ollama has for it.
//!
//! Its file is made of the built-in model, with the names that Ollama's converter gives (convert/convert_gptoss.go there).

use assert_cmd::Command;
use fourfold_quantize::gguf::{Array, Gguf, Layout, Metadata, Value, WriteOptions, Writer};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const DIGEST: &str = "6be6d66a3f546d8c19b130dc41dc24b2fc159f84ffbc76a0ee0676205083cf5a";

/// A folder with what Ollama keeps of one model.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        let store = Self(TempDir::new().unwrap());
        let blobs = store.0.path().join("blobs");
        fs::create_dir(&blobs).unwrap();
        write_model(&blobs.join(format!("sha256-{DIGEST}")));
        let layer = |kind: &str, digest: &str| json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": format!("sha256:{digest}")});
        store.add("manifests/registry.ollama.ai/library/gpt-oss/20b", &json!({
            "schemaVersion": 2,
            "layers": [layer("template", &"0".repeat(64)), layer("model", DIGEST), layer("params", &"1".repeat(64))],
        }).to_string());
        store
    }

    fn add(&self, name: &str, manifest: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, manifest).unwrap();
    }

    fn fourfold(&self, args: &[&str]) -> Command {
        let mut command = fourfold(args);
        command.env("OLLAMA_MODELS", self.0.path());
        command
    }
}

fn fourfold(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("fourfold").unwrap();
    command.args(args).env_remove("FOURFOLD_ISA");
    command
}

fn stdout(mut command: Command) -> String {
    let output = command.assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

fn error(mut command: Command) -> String {
    let output = command.assert().code(1).get_output().clone();
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// The metadata and tensors of the built-in model under Ollama's names.
fn write_model(path: &Path) {
    let source = fourfold::demo::file().unwrap();
    let mut metadata = Metadata::new();
    for (key, value) in source.metadata().iter() {
        // What Ollama leaves out.
        if key.starts_with("gpt-oss.rope.scaling.type") || key.contains("expert_feed_forward") {
            continue;
        }
        metadata.set(key.replace("gpt-oss.", "gptoss."), value.clone());
    }
    metadata.set("general.architecture", "gptoss");
    metadata.set("tokenizer.ggml.pre", "default");
    metadata.set(
        "tokenizer.ggml.eos_token_ids",
        Array::of(&[199_999i32, 200_002, 200_012]),
    );

    let mut layout = Layout::new(metadata);
    for tensor in source.tensors() {
        let name = (tensor.name.replace(".attn_output.", ".attn_out."))
            .replace(".attn_sinks.weight", ".attn_sinks")
            .replace(".post_attention_norm.", ".ffn_norm.");
        layout.add_tensor(&name, tensor.dtype, tensor.dims).unwrap();
    }
    let writer = Writer::begin(layout, path, &WriteOptions::default()).unwrap();
    for (index, tensor) in source.tensors().enumerate() {
        writer.write_at(index, 0, tensor.bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn it_answers_as_the_model_that_it_was_made_of() {
    let store = Store::new();
    let answer = |mut command: Command| {
        command.args(["-p", "What is 47 + 85?", "--temp", "0", "--date", "none"]);
        stdout(command)
    };
    let own = answer(fourfold(&["run"]));
    assert!(own.contains("132"), "{own}");
    assert_eq!(answer(store.fourfold(&["run", "gpt-oss:20b"])), own);
}

#[test]
fn what_is_made_of_it_has_everybody_elses_names() {
    let store = Store::new();
    let out = store.0.path().join("out.gguf");
    let out = out.to_str().unwrap();
    stdout(store.fourfold(&["quantize", "gpt-oss:20b", out, "Q8_0"]));
    let file = Gguf::open(&PathBuf::from(out)).unwrap();
    assert!(!file.is_ollama());
    let key = |key| file.metadata().get(key).cloned();
    assert_eq!(key("general.architecture"), Some(Value::from("gpt-oss")));
    assert_eq!(key("gpt-oss.rope.scaling.type"), Some(Value::from("yarn")));
    assert_eq!(key("tokenizer.ggml.pre"), Some(Value::from("gpt-4o")));
    assert!(key("gpt-oss.expert_feed_forward_length").is_some());
    for name in ["attn_sinks", "attn_output", "post_attention_norm"] {
        assert!(
            file.tensor(&format!("blk.0.{name}.weight")).is_some(),
            "{name}"
        );
    }
    let about = stdout(store.fourfold(&["inspect", "gpt-oss:20b"]));
    assert!(about.contains("the file is Ollama's"), "{about}");
}

#[test]
fn a_modelfile_says_what_the_command_line_leaves_open() {
    let store = Store::new();
    let blob = |digit: &str, text: &str| {
        let name = format!("blobs/sha256-{}", digit.repeat(64));
        store.add(&name, text);
        format!("sha256:{}", digit.repeat(64))
    };
    let kind = |kind: &str| format!("application/vnd.ollama.image.{kind}");
    let parameters = json!({"temperature": 0.5, "top_k": 7, "top_p": 9, "stop": ["zzz"], "num_predict": 50, "num_ctx": 512});
    let layers = json!([
        {"mediaType": kind("model"), "digest": format!("sha256:{DIGEST}")},
        {"mediaType": kind("system"), "digest": blob("2", "Answer in capitals.")},
        {"mediaType": kind("params"), "digest": blob("3", &parameters.to_string())},
    ]);
    let name = "manifests/registry.ollama.ai/library/mine/latest";
    store.add(
        name,
        &json!({"schemaVersion": 2, "layers": layers}).to_string(),
    );

    let shown = |args: &[&str]| {
        let mut command = store.fourfold(&["chat", "mine"]);
        command.args(args).write_stdin("/system\n/params\n");
        let output = command.assert().success().get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.contains("top_p") && stderr.contains("left out"),
            "{stderr}"
        );
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = shown(&[]);
    for said in [
        "Answer in capitals.",
        "temp 0.5 top-k 7 top-p 1 ",
        "max-tokens 50",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let text = shown(&["--system", "Be brief.", "--temp", "0", "-n", "9"]);
    for said in ["Be brief.", "temp 0 top-k 7 ", "max-tokens 9"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_name_that_ollama_does_not_have_is_said_to_be_none() {
    let store = Store::new();
    let message = error(store.fourfold(&["inspect", "gpt-oss:120b"]));
    assert!(
        message.contains("Ollama has no model of that name"),
        "{message}"
    );
    // A path is a path.
    let message = error(store.fourfold(&["inspect", "gpt-oss-20b.gguf"]));
    assert!(!message.contains("Ollama"), "{message}");
    store.add("manifests/ollama.com/me/cloud/latest", r#"{"layers":[]}"#);
    let message = error(store.fourfold(&["inspect", "me/cloud"]));
    assert!(
        message.contains("not on this machine as a GGUF file"),
        "{message}"
    );
    store.add("manifests-v2/ollama.com/library/gpt-oss/20b", "{");
    let message = error(store.fourfold(&["inspect", "gpt-oss:20b"]));
    assert!(message.contains("manifests-v2"), "{message}");
    let empty = TempDir::new().unwrap();
    let mut nowhere = fourfold(&["inspect", "gpt-oss:20b"]);
    nowhere.env("OLLAMA_MODELS", empty.path().join("none"));
    let message = error(nowhere);
    assert!(message.contains("is no file"), "{message}");
}
