//! `fourfold chat` in a real terminal, and in a pipe, with the built-in model.

#![cfg(unix)]

use rexpect::session::{PtySession, spawn_command};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The editor puts the cursor behind the empty prompt.
const AT_PROMPT: &str = "\r\x1b[2C";

/// Patience with a machine that is busy.
const PATIENCE: u64 = 120_000;

fn chat(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
    command
        .args(["chat", "--date", "none", "--seed", "1"])
        .args(arguments)
        .env("XDG_STATE_HOME", state)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command
}

fn terminal(state: &Path, arguments: &[&str]) -> PtySession {
    let mut session = spawn_command(chat(state, arguments), Some(PATIENCE)).unwrap();
    session.exp_string("/help lists the commands").unwrap();
    session
}

/// Types a line once the prompt is there: what is typed earlier is thrown away by the line editor.
fn say(session: &mut PtySession, line: &str) {
    session.exp_string(AT_PROMPT).unwrap();
    session.send_line(line).unwrap();
}

/// Everything printed until the line that ends a turn.
fn turn(session: &mut PtySession) -> String {
    session.exp_string(" of 131,072").unwrap()
}

fn leave(mut session: PtySession) {
    session.exp_string(AT_PROMPT).unwrap();
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn ctrl_c_stops_the_answer_and_keeps_the_session() {
    let state = tempfile::tempdir().unwrap();
    // Left alone, the answer would take half a minute.
    let mut session = terminal(
        state.path(),
        &["--regex", "([ab] ){20000}", "--think", "hide"],
    );
    say(&mut session, "Who are you?");
    session.exp_regex("([ab] ){10}").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("stopped").unwrap();
    say(&mut session, "/stats");
    session.exp_string("turns").unwrap();
    // At the prompt it ends nothing either.
    session.exp_string(AT_PROMPT).unwrap();
    session.send_control('c').unwrap();
    session.exp_string("Ctrl-D leaves").unwrap();
    leave(session);
}

#[test]
fn lines_join_and_commands_are_explained() {
    let state = tempfile::tempdir().unwrap();
    let mut session = terminal(state.path(), &["-n", "40"]);
    say(&mut session, "/hlep");
    session.exp_string("did you mean /help?").unwrap();
    say(&mut session, "/effort low");
    say(&mut session, "/effort");
    session.exp_string("effort is low").unwrap();
    say(&mut session, "one \\");
    session.send_line("two").unwrap();
    turn(&mut session);
    say(&mut session, "/undo");
    session.exp_string("took back: one").unwrap();
    say(&mut session, "/undo");
    session.exp_string("nothing to take back").unwrap();
    leave(session);
    // What was typed is remembered, the two joined lines as one entry.
    let history = std::fs::read_to_string(state.path().join("fourfold/history")).unwrap();
    assert!(
        history.contains("/effort low") && history.contains("two"),
        "{history}"
    );
}

#[test]
fn colour_obeys_no_color() {
    let state = tempfile::tempdir().unwrap();
    for (no_color, wanted) in [("", true), ("1", false)] {
        let mut command = chat(state.path(), &["-n", "60"]);
        command.env("NO_COLOR", no_color);
        let mut session = spawn_command(command, Some(PATIENCE)).unwrap();
        session.exp_string("/help lists the commands").unwrap();
        say(&mut session, "Who are you?");
        let shown = turn(&mut session);
        assert_eq!(
            shown.contains("\x1b[2m"),
            wanted,
            "NO_COLOR={no_color:?}: {shown:?}"
        );
        leave(session);
    }
}

#[test]
fn saved_killed_and_loaded_it_goes_on_the_same() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("talk.session");
    let file = file.to_str().unwrap();
    let mut session = terminal(state.path(), &[]);
    say(&mut session, "My name is Nina.");
    turn(&mut session);
    say(&mut session, &format!("/save {file}"));
    session.exp_string("saved to").unwrap();
    say(&mut session, "What is my name?");
    session.exp_string("my name?").unwrap();
    let wanted = turn(&mut session);
    // Dropping the session kills the program.
    drop(session);

    let mut session = terminal(state.path(), &[]);
    say(&mut session, &format!("/load {file}"));
    session.exp_string("continuing after 1 messages").unwrap();
    say(&mut session, "What is my name?");
    session.exp_string("my name?").unwrap();
    let got = turn(&mut session);
    assert_eq!(without_speed(&got), without_speed(&wanted));
    leave(session);
}

/// The text before the line with speeds.
fn without_speed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[..lines.len().saturating_sub(1)].join("\n")
}

#[test]
fn a_pipe_gets_answers_only() {
    let state = tempfile::tempdir().unwrap();
    let mut child = chat(state.path(), &["--regex", "yes|no"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"Is it?\nIs it not?\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text:?}");
    assert!(
        lines.iter().all(|line| ["yes", "no"].contains(line)),
        "{text:?}"
    );
}
