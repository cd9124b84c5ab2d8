//! Tools in `fourfold chat`: called, answered, failing, hanging, unknown; with the built-in model.

#![cfg(unix)]

use rexpect::session::spawn_command;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TOOLS: &str = r#"[{"type":"function","function":{"name":"set_timer","description":"Starts a timer.",
  "parameters":{"type":"object","properties":{"minutes":{"type":"integer","minimum":1,"maximum":99}},
  "required":["minutes"],"additionalProperties":false}}}]"#;

const QUESTION: &str = "Set a timer for 26 minutes.";

fn chat(folder: &Path, seed: u32, tool: &str, more: &[&str]) -> Command {
    let tools = folder.join("tools.json");
    std::fs::write(&tools, TOOLS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
    command
        .args(["chat", "--date", "none", "-n", "150", "--tools"])
        .arg(tools)
        .args(["--reasoning-effort", "low", "--seed", &seed.to_string()])
        .arg(format!("--tool=set_timer={tool}"))
        .args(more)
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder)
        .env("TERM", "xterm");
    command
}

/// What standard error says of a conversation in which the model called the tool. The model may also answer without a call,
/// and one seed in some does.
fn called(folder: &Path, tool: &str, more: &[&str]) -> String {
    for seed in 1..=12 {
        let mut child = chat(folder, seed, tool, more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{QUESTION}").unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        if text.contains("→ set_timer") {
            return text;
        }
    }
    panic!("twelve seeds, and the tool was never called");
}

#[test]
fn arguments_that_fit_the_schema_go_in_and_the_result_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let tool = "cat > arguments.json; echo the timer runs";
    let text = called(folder.path(), tool, &["--yes-tools", "--strict-tools"]);
    assert!(text.contains("← the timer runs"), "{text}");
    let arguments = std::fs::read(folder.path().join("arguments.json")).unwrap();
    let arguments: Value = serde_json::from_slice(&arguments).unwrap();
    assert!((1..=99).contains(&arguments["minutes"].as_i64().unwrap()));
    assert_eq!(arguments.as_object().unwrap().len(), 1);
}

#[test]
fn a_tool_that_fails_or_prints_garbage_is_reported_and_the_conversation_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = called(folder.path(), "echo no clock >&2; exit 4", &["--yes-tools"]);
    assert!(
        text.contains("✗ error: the tool failed (exit status: 4); errors: no clock"),
        "{text}"
    );
    let text = called(
        folder.path(),
        "printf '\\377\\376\\033[2J'",
        &["--yes-tools"],
    );
    assert!(
        text.contains("✗ error: the tool printed 6 bytes that are not UTF-8 text"),
        "{text}"
    );
    // The line with the costs ends a turn that came to its end.
    assert!(text.contains("tokens at"), "{text}");
}

#[test]
fn a_tool_that_hangs_is_stopped_at_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let more = ["--yes-tools", "--tool-timeout", "1"];
    let text = called(folder.path(), "echo begun; sleep 1000", &more);
    assert!(
        text.contains("✗ error: the tool was stopped after 1 s"),
        "{text}"
    );
    assert!(text.contains("begun"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(500));
}

#[test]
fn nothing_runs_without_consent() {
    let folder = tempfile::tempdir().unwrap();
    let text = called(folder.path(), "touch ran; echo done", &[]);
    assert!(text.contains("--yes-tools allows them"), "{text}");
    assert!(!folder.path().join("ran").exists());

    // On a terminal the person is asked once, and yes holds for the session.
    for seed in 1..=12 {
        let tool = "echo once >> ran; echo done";
        let command = chat(folder.path(), seed, tool, &["--think", "hide"]);
        let mut session = spawn_command(command, Some(120_000)).unwrap();
        session.exp_string("/help lists the commands").unwrap();
        session.exp_string("\r\x1b[2C").unwrap();
        session.send_line(QUESTION).unwrap();
        let (_, found) = session
            .exp_regex(r"run the tools' commands in this session\? \[y/N\]|of 131,072")
            .unwrap();
        if found.contains("131,072") {
            continue;
        }
        session.send_line("y").unwrap();
        // The arrow before it is three bytes, which this library takes for three characters.
        session.exp_string(" done").unwrap();
        session.exp_string("of 131,072").unwrap();
        assert!(folder.path().join("ran").exists());
        return;
    }
    panic!("twelve seeds, and the tool was never called");
}

#[test]
fn wrong_tools_are_refused_before_the_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fourfold"))
            .arg("chat")
            .args(arguments)
            .env("XDG_STATE_HOME", folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    assert!(refusal(&["--tool", "timer"]).contains("NAME=COMMAND"));
    assert!(refusal(&["--tool", "a=x", "--tool", "a=y"]).contains("names a twice"));
    let broken = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"strange"}}}]"#;
    let file = folder.path().join("broken.json");
    std::fs::write(&file, broken).unwrap();
    let file = file.to_str().unwrap();
    let text = refusal(&["--tools", file, "--strict-tools"]);
    assert!(
        text.contains("the arguments of f") && text.contains("cannot be used"),
        "{text}"
    );
}
