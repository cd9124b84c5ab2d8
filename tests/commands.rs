//! The commands that run a model, as a person would use them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn fourfold(arguments: &[&str]) -> Output {
    let tiny = fixture("tiny/tiny.gguf");
    let arguments = arguments.iter().map(|argument| match *argument {
        "TINY" => tiny.to_str().unwrap(),
        other => other,
    });
    Command::new(env!("CARGO_BIN_EXE_fourfold"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The same, fed from a pipe.
fn fed(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fourfold"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What refuses its options has gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn success(arguments: &[&str]) -> String {
    succeeded(fourfold(arguments))
}

fn succeeded(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The one sentence on stderr of a run that must fail with status 1.
fn failure(arguments: &[&str]) -> String {
    failed(fourfold(arguments))
}

fn failed(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[test]
fn logits_are_a_numpy_array_of_the_reference_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ids = std::fs::read(fixture("tiny/tokens.i32")).unwrap();
    let ids: Vec<String> = ids
        .as_chunks::<4>()
        .0
        .iter()
        .map(|id| i32::from_le_bytes(*id).to_string())
        .collect();
    let (all, last, routing) = (path("all.npy"), path("last.npy"), path("routing.json"));
    let tokens = ids.join(",");
    success(&[
        "logits",
        "TINY",
        "--exact",
        "--tokens",
        &tokens,
        "--all",
        "-o",
        &all,
        "--routing",
        &routing,
    ]);
    success(&[
        "logits", "TINY", "--exact", "--tokens", &tokens, "-o", &last,
    ]);

    let values = |path: &str, shape: &str| -> Vec<f32> {
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
        assert!(String::from_utf8_lossy(&bytes[..128]).contains(shape));
        bytes[128..]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect()
    };
    let (all, last) = (values(&all, "(48, 64)"), values(&last, "(1, 64)"));
    assert_eq!(all[47 * 64..], last);
    let expected = std::fs::read(fixture("tiny/logits_reference.f32")).unwrap();
    for (found, expected) in all.iter().zip(expected.as_chunks::<4>().0) {
        assert!((found - f32::from_le_bytes(*expected)).abs() < 1e-4);
    }

    let routing: serde_json::Value =
        serde_json::from_slice(&std::fs::read(routing).unwrap()).unwrap();
    let layers = routing["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers {
        assert_eq!(layer.as_array().unwrap().len(), 48);
        for token in layer.as_array().unwrap() {
            let weights = token
                .as_array()
                .unwrap()
                .iter()
                .map(|route| route["weight"].as_f64().unwrap());
            assert_eq!(weights.clone().count(), 2);
            assert!((weights.sum::<f64>() - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn bench_reports_speeds_beside_ceilings() {
    let text = success(&[
        "bench", "TINY", "-p", "16", "-n", "4", "-d", "0,20", "-r", "2", "-o", "json", "-t", "1",
    ]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["test"].as_str().unwrap(),
                row["depth"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(names, [("pp16", 0), ("tg4", 0), ("pp16", 20), ("tg4", 20)]);
    for row in rows {
        assert!(row["tokens_per_second"]["mean"].as_f64().unwrap() > 0.0);
        assert!(row["tokens_per_second"]["std"].as_f64().unwrap() >= 0.0);
        assert!(row["ceilings"]["read_gb_s"].as_f64().unwrap() > 0.0);
        assert!(row["ceilings"]["gmac_s"].as_f64().unwrap() > 0.0);
        assert_eq!(row["threads"], 1);
    }
    let table = success(&["bench", "TINY", "-p", "0", "-n", "2", "-r", "1", "-t", "1"]);
    assert!(
        table.starts_with("| test | depth |") && table.contains("| tg2 | 0 |"),
        "{table}"
    );
}

#[test]
fn bench_is_quiet_in_a_pipe() {
    let output = fourfold(&["bench", "TINY", "-p", "8", "-n", "2", "-d", "16", "-r", "1"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[cfg(unix)]
#[test]
fn bench_says_on_a_terminal_what_it_measures() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
    command
        .args(["bench", "-p", "8", "-n", "0", "-d", "16", "-r", "2"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    let mut session = rexpect::session::spawn_command(command, Some(60_000)).unwrap();
    session.exp_string("filling 0 of 16 tokens").unwrap();
    session
        .exp_string("\r\x1b[2Kpp8 at depth 16: 2 of 2\r\x1b[2K")
        .unwrap();
    session.exp_string("| test | depth |").unwrap();
    session.exp_eof().unwrap();
}

#[cfg(unix)]
#[test]
fn long_work_counts_what_it_is_done_with() {
    for (arguments, wanted) in [
        (&["eval", "--part", "0.02", "-n", "40"][..], "/20 questions"),
        (&["perplexity", "-f", "README.md", "-c", "64"], " tokens"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
        command.args(arguments).env("TERM", "xterm");
        let mut session = rexpect::session::spawn_command(command, Some(60_000)).unwrap();
        session.exp_string(wanted).unwrap();
        session.exp_eof().unwrap();
    }
}

#[test]
fn bench_says_at_once_what_does_not_fit() {
    let text = failure(&[
        "bench", "TINY", "-d", "0,100", "-p", "16,20", "-n", "4", "-c", "110",
    ]);
    assert!(
        text.contains("--depth 100 and -p 20") && text.contains("raise --ctx"),
        "{text}"
    );
    let text = failure(&["bench", "TINY", "-d", "131000", "-p", "0", "-n", "128"]);
    assert!(
        text.contains("-n 128") && !text.contains("raise --ctx"),
        "{text}"
    );
}

#[cfg(unix)]
#[test]
fn bench_can_be_stopped_while_it_fills() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
    command
        .args(["bench", "-d", "130000", "-p", "0", "-n", "4"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    let mut session = rexpect::session::spawn_command(command, Some(60_000)).unwrap();
    session.exp_string("filling 512 of 130000 tokens").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn a_dash_is_standard_input() {
    let tokens = |arguments: &[&str]| succeeded(fed(arguments, "hé".as_bytes()));
    let json = tokens(&["tokenize", "-f", "-", "--json"]);
    assert_eq!(json, tokens(&["tokenize", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["tokens"][0]["text"], "h");
    assert_eq!(json["tokens"][2]["bytes"].as_array().unwrap().len(), 1);
    let empty: serde_json::Value =
        serde_json::from_str(&succeeded(fed(&["tokenize", "--json"], b""))).unwrap();
    assert_eq!(empty, serde_json::json!({"tokens": []}));

    let text = succeeded(fed(&["perplexity", "-f", "-"], b"one two three"));
    assert!(text.starts_with("perplexity "), "{text}");
    let text = failed(fed(&["perplexity", "-f", "-"], b"x"));
    assert!(text.contains("standard input has 1 tokens"), "{text}");

    // What a suite calls its tasks cannot drive the terminal.
    let suite = br#"{"group":"\u001b[31mred","prompt":"Who are you?","expected":"x"}"#;
    let table = succeeded(fed(&["eval", "--suite", "-", "-n", "2"], suite));
    assert!(
        table.contains("\\u{1b}[31mred") && !table.contains('\x1b'),
        "{table}"
    );
    for arguments in [["eval", "--suite", "-"], ["prompt", "-m", "-"]] {
        let text = failed(fed(&arguments, b"ab\xFF"));
        assert!(
            text.contains("standard input is no UTF-8 text: byte 2"),
            "{text}"
        );
    }
}

#[test]
fn json_may_begin_with_a_byte_order_mark() {
    let request = b"\xEF\xBB\xBF[{\"role\":\"user\",\"content\":\"Hi\"}]";
    let ids = succeeded(fed(&["prompt", "-m", "-", "--ids"], request));
    // What it prints can be given to another command.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.npy");
    success(&["logits", "--tokens", &ids, "-o", out.to_str().unwrap()]);

    let suite = b"\xEF\xBB\xBF{\"prompt\":\"Who are you?\",\"expected\":\"x\"}\n{\"prompt\":1}";
    let text = failed(fed(&["eval", "--suite", "-", "-n", "2"], suite));
    assert!(
        text.contains("standard input, line 2, column 11: invalid type"),
        "{text}"
    );
}

#[test]
fn an_empty_variable_is_none() {
    let run = |isa: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
        command.args(["bench", "-p", "1", "-n", "0", "-r", "1"]);
        command.env("FOURFOLD_ISA", isa).output().unwrap()
    };
    succeeded(run(""));
    assert!(failed(run("mmx")).contains("FOURFOLD_ISA is `mmx`"));
}

#[test]
fn sizes_are_the_same_for_every_option() {
    for option in ["--split-max-size", "--gpu-memory"] {
        let command = match option {
            "--gpu-memory" => &["devices", "TINY"][..],
            _ => &["quantize", "TINY", "out.gguf", "Q8_0", "--dry-run"],
        };
        for (size, is_wrong) in [
            ("4GiB", false),
            ("4G", false),
            ("500MB", false),
            ("4 gigs", true),
        ] {
            let output = fourfold(&[command, &[option, size]].concat());
            let text = String::from_utf8_lossy(&output.stderr);
            // Without a GPU its memory cannot be limited, but that is another status.
            assert_eq!(
                output.status.code() == Some(2),
                is_wrong,
                "{option} {size}: {text}"
            );
            assert_eq!(text.contains("12GiB"), is_wrong, "{text}");
        }
    }
}

#[test]
fn nothing_asked_is_no_success() {
    let empty = fed(&["eval", "--suite", "-"], b"\n\n");
    assert!(failed(empty).contains("a question on each line"));
    let text = failure(&["eval", "--part", "0.0001"]);
    assert!(text.contains("give a larger part"), "{text}");
}

#[test]
fn the_context_is_explained_where_it_is_a_piece() {
    let text = success(&["perplexity", "--help"]);
    assert!(text.contains("Tokens of a piece [default: 512]"), "{text}");
    let text = failure(&["perplexity", "-f", "README.md", "-c", "1"]);
    assert!(
        text.contains("--ctx is 1") && !text.contains("README"),
        "{text}"
    );
}

#[test]
fn days_that_do_not_exist_are_wrong_usage() {
    for day in ["2025-02-30", "2025-13-01", "0000-00-00"] {
        let output = fed(&["prompt", "-m", "-", "--date", day], b"[]");
        assert_eq!(output.status.code(), Some(2), "{day}");
    }
}

#[test]
fn devices_looks_at_the_model() {
    assert!(failure(&["devices", "missing.gguf"]).contains("missing.gguf"));
    let alone = fourfold(&["devices", "--ctx", "64"]);
    assert_eq!(alone.status.code(), Some(2));
}

#[test]
fn devices_names_the_kernels() {
    let text = success(&["devices"]);
    assert!(
        text.contains("kernels  ") && text.contains("scalar"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let out = path("out.npy");
    assert!(
        failure(&["logits", "TINY", "--tokens", "1,64", "-o", &out])
            .contains("token 64 is not in the vocabulary")
    );
    assert!(
        failure(&["logits", "TINY", "-c", "2", "--tokens", "1,2,3", "-o", &out])
            .contains("3 tokens do not fit")
    );
    assert!(
        failure(&[
            "logits", "TINY", "-c", "200000", "--tokens", "1", "-o", &out
        ])
        .contains("131072")
    );
    assert!(!Path::new(&out).exists(), "a failed run leaves no file");
    std::fs::write(&out, "mine").unwrap();
    assert!(failure(&["logits", "TINY", "--tokens", "1", "-o", &out]).contains("--force"));
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn outputs_that_cannot_be_are_refused_before_they_are_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (one, same) = (path("x.npy"), path("./x.npy"));
    for routing in [&one, &same] {
        let arguments = ["logits", "TINY", "--tokens", "1", "-o"];
        let text = failure(&[&arguments[..], &[&one, "--routing", routing]].concat());
        assert!(text.contains("give two files"), "{text}");
    }
    for arguments in [
        &["logits", "TINY", "--tokens", "1", "-o", "-"][..],
        &[
            "logits",
            "TINY",
            "--tokens",
            "1",
            "-o",
            &one,
            "--routing",
            "-",
        ],
        &["perplexity", "-f", "README.md", "--save-logits", "-"],
    ] {
        let text = failure(arguments);
        assert!(text.contains("./-"), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
