//! What the system refuses: threads and room on the disk. Nothing of that is a reason to panic.

#![cfg(unix)]

use std::path::Path;
use std::process::{Command, Output};

fn fourfold(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
    command.args(arguments);
    command
}

/// The same where no thread can be started: none has room for a stack of a million gigabytes.
fn alone(arguments: &[&str]) -> Output {
    let mut command = fourfold(arguments);
    command.env("RUST_MIN_STACK", (1u64 << 50).to_string());
    command.stdin(std::process::Stdio::null());
    command.output().unwrap()
}

/// The same where no file may become longer than a kilobyte.
fn cramped(arguments: &[&str], stdout: &Path) -> String {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -f 1; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_fourfold"),
    ]);
    command.args(arguments);
    command.stdout(std::fs::File::create(stdout).unwrap());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn one_thread_does_it_all_where_no_other_can_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let quantized = folder.path().join("small.gguf");
    let quantized = quantized.to_str().unwrap();
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny/tiny.gguf");
    for arguments in [
        &["run", "-p", "What is 1+2?", "-n", "3", "--json", "-t", "4"][..],
        &["tokenize", "-p", "one two three", "-t", "4"],
        &["quantize", tiny, quantized, "Q8_0", "-t", "4"],
        &["inspect", tiny, "--check", "-t", "4"],
    ] {
        let output = alone(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
    }
}

#[test]
fn more_threads_than_a_process_can_have_are_wrong_usage() {
    let output = fourfold(&["devices", "-t", "65535"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("1..=1024"), "{text}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.npy");
    let array = out.to_str().unwrap();
    let stdout = folder.path().join("stdout");
    let tokens = ["1"; 200].join(",");
    for arguments in [
        &["logits", "--all", "--tokens", &tokens, "-o", array][..],
        &[
            "perplexity",
            "-f",
            "README.md",
            "-c",
            "200",
            "--save-logits",
            array,
        ],
    ] {
        let text = cramped(arguments, &stdout);
        let wanted = format!("cannot write {array}: ");
        assert_eq!(text.matches(&wanted).count(), 1, "{text}");
        assert!(!out.exists());
    }
    let text = cramped(&["tokenize", "-f", "README.md"], &stdout);
    assert!(text.contains("cannot write standard output: "), "{text}");
}
