//! `fourfold quantize` and `fourfold inspect` as a person uses them: good files, bad files, pipes, Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::{Gguf, Layout, Metadata, WriteOptions, Writer};
use serde_json::Value;
use tempfile::TempDir;

fn fixture(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(path).to_str().unwrap().to_owned()
}

fn tiny() -> String {
    fixture("convert/tests/data/tiny/tiny.gguf")
}

fn fourfold<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    fourfold(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a failed run says: one line on standard error, nothing on standard output, status 1.
fn failure(args: &[&str]) -> String {
    let output = run(args);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty(), "{}", stdout(&output));
    let last = message.trim_end().lines().last().unwrap().to_owned();
    assert!(last.starts_with("error: "), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    last
}

fn names_in(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn path_in(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn inspect_says_what_a_model_is() {
    let text = stdout(&run(&["inspect", &tiny()]));
    for expected in [
        "(gpt-oss, GGUF v3, 269.09 kB)",
        "layers      2",
        "experts     4, 2 per token",
        "context     131,072 tokens, window 8",
        "MXFP4",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'), "colour without a terminal");
    let coloured = stdout(&run(&["inspect", &tiny(), "--color", "always"]));
    assert!(coloured.contains("\x1b[1m"));

    let text = stdout(&run(&["inspect", &tiny(), "--tensors"]));
    let line = text
        .lines()
        .find(|line| line.starts_with("blk.0.attn_q.weight"));
    let columns: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "blk.0.attn_q.weight",
            "F32",
            "[64,",
            "128]",
            "32,768",
            "37,056"
        ]
    );
}

#[test]
fn inspect_as_json_is_complete() {
    let json: Value = serde_json::from_slice(&run(&["inspect", &tiny(), "--json"]).stdout).unwrap();
    let expected = std::fs::read(fixture("convert/tests/data/tiny/tiny.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let keys = expected["kv"].as_object().unwrap();
    assert_eq!(json["metadata"].as_object().unwrap().len(), keys.len());
    for (key, value) in keys {
        let found = &json["metadata"][key];
        // Ours is the shortest text that reads back as the same f32; the reference shows it as f64.
        match value["type"][0].as_str() {
            Some("FLOAT32") => {
                let as_f32 = |value: &Value| value.as_f64().unwrap() as f32;
                assert_eq!(as_f32(found), as_f32(&value["value"]), "{key}");
            }
            _ => assert_eq!(found, &value["value"], "{key}"),
        }
    }
    let tensors = expected["tensors"].as_array().unwrap();
    assert_eq!(json["tensors"].as_array().unwrap().len(), tensors.len());
    for (found, expected) in json["tensors"].as_array().unwrap().iter().zip(tensors) {
        assert_eq!(found["name"], expected["name"]);
        assert_eq!(found["type"], expected["type"]);
        assert_eq!(found["shape"], expected["ne"]);
        assert_eq!(found["bytes"], expected["nbytes"]);
        assert_eq!(found["offset"], expected["file_offset"]);
    }
    let summary = &json["summary"];
    assert_eq!(summary["experts"], 4);
    assert_eq!(summary["layers"], 2);
    let parameters = summary["parameters"].as_u64().unwrap();
    let of = |name: &str| {
        let groups = summary["groups"].as_array().unwrap();
        let group = groups.iter().find(|group| group["name"] == name).unwrap();
        group["parameters"].as_u64().unwrap()
    };
    // Two of four experts, and no embedding.
    let active = parameters - of("experts") / 2 - of("embedding");
    assert_eq!(summary["active_parameters"], active);
}

#[test]
fn inspect_ends_quietly_when_nobody_reads_on() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, "many.gguf");
    let mut metadata = Metadata::new();
    // More than a pipe holds, so that writing meets the closed end.
    let tokens = (0..200_000).map(|id| format!("token {id}"));
    metadata.set("tokens", fourfold_quantize::gguf::Array::of_strings(tokens));
    let writer = Writer::begin(
        Layout::new(metadata),
        Path::new(&path),
        &WriteOptions::default(),
    );
    writer.unwrap().finish().unwrap();
    let mut child = fourfold(&["inspect", &path, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn inspect_checks_every_block() {
    let output = run(&["inspect", &tiny(), "--check"]);
    assert!(stdout(&output).contains("every block of 41 tensors is fine"));
    assert!(output.status.success());

    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, "bad.gguf");
    let mut bytes = std::fs::read(tiny()).unwrap();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    let at = |name: &str| gguf.infos().find(|info| info.name == name).unwrap().offset as usize;
    // Block 3 of the experts gets a scale that stands for NaN, as does block 7; a norm gets an infinity.
    let experts = at("blk.1.ffn_up_exps.weight");
    bytes[experts + 3 * 17] = 0xff;
    bytes[experts + 7 * 17] = 0xff;
    let norm = at("output_norm.weight");
    bytes[norm + 8..norm + 12].copy_from_slice(&f32::INFINITY.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();

    let output = run(&["inspect", &path, "--check"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("blk.1.ffn_up_exps.weight: block 3: "),
        "{text}"
    );
    assert!(text.contains("output_norm.weight: block 2: "), "{text}");
    assert!(stderr(&output).contains("2 of 41 tensors have bad blocks"));

    let output = run(&["inspect", &path, "--check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bad = json["bad_tensors"].as_array().unwrap();
    let found: Vec<_> = bad
        .iter()
        .map(|bad| (&bad["tensor"], &bad["block"]))
        .collect();
    assert_eq!(
        found,
        [
            (&Value::from("output_norm.weight"), &Value::from(2)),
            (&Value::from("blk.1.ffn_up_exps.weight"), &Value::from(3)),
        ]
    );
}

/// A GGUF file of our own making, byte by byte: keys as given, one tensor of a type that no writer offers.
fn foreign(architecture: &str, tensor_type: u32, bytes: usize) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    file.extend(string("general.architecture"));
    file.extend(8u32.to_le_bytes());
    file.extend(string(architecture));
    file.extend(string("blk.0.ffn_gate_up_exps.weight"));
    file.extend(1u32.to_le_bytes());
    file.extend(256u64.to_le_bytes());
    file.extend(tensor_type.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + bytes, 0);
    file
}

#[test]
fn files_from_ollama_are_shown_and_explained() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, "ollama.gguf");
    std::fs::write(&path, foreign("gptoss", 4, 8 * 17)).unwrap();
    let output = run(&["inspect", &path]);
    let text = stdout(&output);
    assert!(output.status.success());
    for expected in ["MXFP4 (Ollama)", "the file is Ollama's", "Hugging Face"] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let message = failure(&["quantize", &path, &path_in(&folder, "out.gguf"), "Q8_0"]);
    assert!(message.contains("ollama pull"), "{message}");
    assert_eq!(names_in(&folder), ["ollama.gguf"]);
}

#[test]
fn files_with_types_that_cannot_be_computed_with_are_shown() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, "iq1.gguf");
    std::fs::write(&path, foreign("gpt-oss", 19, 50)).unwrap();
    let text = stdout(&run(&["inspect", &path]));
    assert!(text.contains("can show tensors of type IQ1_S"), "{text}");
    let text = stdout(&run(&["inspect", &path, "--check"]));
    assert!(text.contains("every block of 0 tensors is fine"), "{text}");
    assert!(
        text.contains("1 tensors have types that cannot be checked"),
        "{text}"
    );
    let message = failure(&["quantize", &path, &path_in(&folder, "out.gguf"), "Q8_0"]);
    assert!(message.contains("IQ1_S"), "{message}");
}

#[test]
fn types_that_are_only_read_can_be_turned_into_others() {
    let folder = TempDir::new().unwrap();
    let (path, out) = (path_in(&folder, "iq3.gguf"), path_in(&folder, "out.gguf"));
    let golden = |suffix: &str| {
        let name = format!("quantize/tests/vectors/quant/IQ3_S.rand.{suffix}");
        std::fs::read(fixture(&name)).unwrap()
    };
    let name = "blk.0.attn_output.weight";
    let mut layout = Layout::new(open(&tiny()).metadata().clone());
    layout.add_tensor(name, DType::IQ3_S, &[256, 8]).unwrap();
    let writer = Writer::begin(layout, path.as_ref(), &WriteOptions::default()).unwrap();
    writer.write_at(0, 0, &golden("q")).unwrap();
    writer.finish().unwrap();

    let text = stdout(&run(&["inspect", &path, "--tensors", "--check"]));
    for expected in ["IQ3_S", "every block of 1 tensors is fine"] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(run(&["quantize", &path, &out, "F32"]).status.success());
    let written = open(&out);
    assert_eq!(written.tensor(name).unwrap().dtype, DType::F32);
    assert_eq!(written.tensor(name).unwrap().bytes, golden("f32"));

    let back = "attn_output=iq3_s";
    let refused = run(&["quantize", &out, &path, "F32", "--tensor-type", back]);
    let message = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{message}");
    let expected = "\"iq3_s\" is not a type that tensors can be turned into; F32, F16";
    assert!(message.contains(expected), "{message}");
    assert!(!message.contains("IQ3"), "{message}");
}

#[test]
fn a_name_from_a_file_cannot_drive_the_terminal() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, "escape.gguf");
    std::fs::write(&path, foreign("\x1b[2Jevil\x07", 19, 50)).unwrap();
    let text = stdout(&run(&["inspect", &path]));
    assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text:?}");
    assert!(text.contains("\\u{1b}[2Jevil\\u{7}"), "{text}");
}

#[test]
fn bad_files_give_one_sentence() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, "bad.gguf");
    let whole = std::fs::read(tiny()).unwrap();
    for (bytes, expected) in [
        (&b"PK\x03\x04 this is a zip file"[..], "is not a GGUF file"),
        (&whole[..100_000], "cut short or damaged, fetch it again"),
        (&whole[..10], "ends inside the header"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = failure(&["inspect", &path]);
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("bad.gguf"), "{message}");
    }
    assert!(failure(&["inspect", "/does/not/exist"]).contains("cannot open the file"));
    let code = run(&["inspect"]).status.code();
    assert_eq!(code, Some(2));
    let code = run(&["quantize", &tiny(), "out.gguf", "Q9_9"])
        .status
        .code();
    assert_eq!(code, Some(2));
    let wrong = run(&["quantize", &tiny(), "o", "Q8_0", "--tensor-type", "x=y"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("MXFP4"), "{}", stderr(&wrong));
}

#[test]
fn quantize_plans_then_writes() {
    let folder = TempDir::new().unwrap();
    let out = path_in(&folder, "out.gguf");
    let output = run(&["quantize", &tiny(), &out, "Q4_K_M", "--dry-run"]);
    let plan = stdout(&output);
    for expected in [
        "token_embd, attn_k, attn_q, attn_v (6 tensors): ",
        "Q4_K needs rows of 256, 64 is not a multiple; using Q5_0",
        "stay MXFP4 instead of Q4_K (--requantize-experts would change them)",
        "bits per weight",
    ] {
        assert!(plan.contains(expected), "{expected:?} is not in\n{plan}");
    }
    assert!(!plan.contains("->"));
    let plan = stdout(&run(&[
        "quantize",
        &tiny(),
        &out,
        "Q4_K_M",
        "--dry-run",
        "-v",
    ]));
    assert!(plan.contains("blk.0.attn_q.weight F32 -> Q5_0"), "{plan}");
    assert!(names_in(&folder).is_empty());

    let output = run(&["quantize", &tiny(), &out, "Q4_K_M"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("using Q5_0") && stderr(&output).contains("wrote "));
    assert_eq!(names_in(&folder), ["out.gguf"]);
    let (source, written) = (open(&tiny()), open(&out));
    assert_eq!(
        written.tensor("blk.0.attn_q.weight").unwrap().dtype,
        DType::Q5_0
    );
    let experts = "blk.1.ffn_down_exps.weight";
    assert_eq!(
        written.tensor(experts).unwrap().bytes,
        source.tensor(experts).unwrap().bytes
    );

    let message = failure(&["quantize", &tiny(), &out, "Q8_0"]);
    assert!(
        message.contains("already exists") && message.contains("--force"),
        "{message}"
    );
    assert!(
        run(&["quantize", &tiny(), &out, "Q8_0", "--force"])
            .status
            .success()
    );
    assert_eq!(
        open(&out).tensor("output.weight").unwrap().dtype,
        DType::Q8_0
    );
}

#[test]
fn quantize_obeys_its_options() {
    let folder = TempDir::new().unwrap();
    let type_of = |args: &[&str], tensor: &str| {
        let out = path_in(&folder, "out.gguf");
        let source = tiny();
        let all = [&["quantize", &source, &out, "--force"], args].concat();
        let output = run(&all);
        assert!(output.status.success(), "{}", stderr(&output));
        open(&out).tensor(tensor).unwrap().dtype
    };
    let (q, up) = ("blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight");
    assert_eq!(
        type_of(&["q8_0", "--tensor-type", "ATTN_Q=iq4_nl"], q),
        DType::IQ4_NL
    );
    assert_eq!(
        type_of(&["Q8_0", "--requantize-experts", "-t", "1"], up),
        DType::Q8_0
    );
    assert_eq!(type_of(&["MXFP4", "--pure"], q), DType::MXFP4);
    assert_eq!(type_of(&["LEAN"], q), DType::IQ4_NL);

    let out = path_in(&folder, "none.gguf");
    let message = failure(&[
        "quantize",
        &tiny(),
        &out,
        "Q8_0",
        "--tensor-type",
        "exps=q4_0",
    ]);
    assert!(message.contains("--requantize-experts"), "{message}");
    assert_eq!(names_in(&folder), ["out.gguf"]);
}

#[test]
fn quantize_writes_parts_that_read_as_one() {
    let folder = TempDir::new().unwrap();
    let out = path_in(&folder, "model.gguf");
    let output = run(&["quantize", &tiny(), &out, "BF16", "--split-max-size", "60k"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let names = names_in(&folder);
    assert!(names.len() > 1 && names[0] == format!("model-00001-of-{:05}.gguf", names.len()));
    let first = path_in(&folder, &names[0]);
    assert_eq!(open(&first).tensor_count(), 41);
    let text = stdout(&run(&["inspect", &first]));
    assert!(
        text.contains(&format!("in {} files", names.len())),
        "{text}"
    );
    let message = failure(&["inspect", &path_in(&folder, &names[1])]);
    assert!(message.contains(&names[0]), "{message}");
}

/// A file of 64 GB that takes no room on the disk: one that claims to be huge must not cost memory or time.
#[cfg(target_os = "linux")]
#[test]
fn inspect_shows_a_huge_file_in_little_memory() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("huge.gguf");
    let mut layout = Layout::new(Metadata::new());
    layout.add_tensor("t", DType::Q8_0, &[2880, 512]).unwrap();
    let writer = Writer::begin(layout, &path, &WriteOptions::default()).unwrap();
    writer.write_at(0, 0, &[0; 2880 / 32 * 34 * 512]).unwrap();
    writer.finish().unwrap();
    // The number of rows is the last number before type and offset.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(8)
        .position(|window| window == 512u64.to_le_bytes())
        .unwrap();
    let rows = 64_000_000_000 / 3060u64;
    bytes[at..at + 8].copy_from_slice(&rows.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(96 + rows * 3060).unwrap();

    let script = format!(
        "ulimit -d 65536; exec '{}' inspect '{}'",
        env!("CARGO_BIN_EXE_fourfold"),
        path.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("64.00 GB"), "{}", stdout(&output));
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing_behind_and_a_kill_nothing_for_long() {
    let folder = TempDir::new().unwrap();
    let source = path_in(&folder, "source.gguf");
    // Large enough to be at it for a while with one thread.
    let mut layout = Layout::new(Metadata::new());
    let index = layout
        .add_tensor("output.weight", DType::F32, &[2560, 16_384])
        .unwrap();
    let writer = Writer::begin(layout, Path::new(&source), &WriteOptions::default()).unwrap();
    let megabyte: Vec<u8> = (0..1 << 18)
        .flat_map(|i| ((i % 1009) as f32).sin().to_le_bytes())
        .collect();
    for part in 0..160u64 {
        writer.write_at(index, part << 20, &megabyte).unwrap();
    }
    writer.finish().unwrap();

    let out = path_in(&folder, "out.gguf");
    let stopped_by = |signal: &str| {
        let child = fourfold(&["quantize", &source, &out, "Q4_K_M", "-t", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let partial = PathBuf::from(format!("{out}.fourfold-partial"));
        let start = std::time::Instant::now();
        while !partial.exists() {
            assert!(start.elapsed().as_secs() < 60, "it never began");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let killed = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        child.wait_with_output().unwrap()
    };
    let output = stopped_by("-INT");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(names_in(&folder), ["source.gguf"]);

    // Nobody can clean up after this, but the next run can, and says so.
    assert_eq!(stopped_by("-KILL").status.code(), None);
    assert_eq!(
        names_in(&folder),
        ["out.gguf.fourfold-partial", "source.gguf"]
    );
    let output = run(&["quantize", &source, &out, "Q8_0"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("out.gguf.fourfold-partial"),
        "{}",
        stderr(&output)
    );
    assert_eq!(names_in(&folder), ["out.gguf", "source.gguf"]);
}

/// The Python package `gguf` reads what we write. Without Python or the package there is nothing to compare with, and
/// the test says so.
#[test]
fn python_reads_the_same() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_gguf = Command::new(&python).args(["-c", "import gguf"]).output();
    if !has_gguf.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} has no package gguf (set PYTHON to one that has)");
        return;
    }
    let folder = TempDir::new().unwrap();
    let script = fixture("scripts/check_gguf.py");
    for recipe in ["Q8_0", "LEAN", "Q4_K_M", "BF16"] {
        let out = path_in(&folder, &format!("{recipe}.gguf"));
        assert!(run(&["quantize", &tiny(), &out, recipe]).status.success());
        let json = path_in(&folder, "inspect.json");
        std::fs::write(&json, run(&["inspect", &out, "--json"]).stdout).unwrap();
        let checked = Command::new(&python)
            .args([&script, &out, "--inspect", &json, "--like", &tiny()])
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{}{}",
            stdout(&checked),
            stderr(&checked)
        );
    }
}

fn open(path: &str) -> Gguf {
    Gguf::open(Path::new(path)).unwrap()
}
