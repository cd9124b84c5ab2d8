//! `fourfold chat` in a real terminal, and in a pipe, with the built-in model.

#![cfg(unix)]

use rexpect::process::Signal;
use rexpect::session::{PtySession, spawn_command};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

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
    // Whatever is wrong with a file, the prompt comes back.
    for command in [
        "/file missing",
        "/system @missing",
        "/schema missing",
        "/load missing",
        "/save /no/such/folder/x",
    ] {
        say(&mut session, command);
        session.exp_string("(os error 2)").unwrap();
    }
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
    session.exp_string("continuing after 1 message").unwrap();
    say(&mut session, "What is my name?");
    session.exp_string("my name?").unwrap();
    let got = turn(&mut session);
    assert_eq!(without_speed(&got), without_speed(&wanted));
    leave(session);
}

#[test]
fn a_session_file_survives_a_kill_but_for_the_running_turn() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("kept.session");
    let arguments = ["--session", file.to_str().unwrap()];
    let mut session = terminal(state.path(), &arguments);
    say(&mut session, "My name is Nina.");
    turn(&mut session);
    let start = Instant::now();
    // Saved while the person reads.
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let saved = std::fs::read(&file).unwrap();
    say(&mut session, "What is my name?");
    session.exp_string("my name?").unwrap();
    let wanted = turn(&mut session);
    session.process_mut().kill(Signal::SIGKILL).unwrap();

    // Killed within the second turn instead, it would have left this.
    std::fs::write(&file, saved).unwrap();
    let mut session = terminal(state.path(), &arguments);
    say(&mut session, "What is my name?");
    session.exp_string("my name?").unwrap();
    let got = turn(&mut session);
    assert_eq!(without_speed(&got), without_speed(&wanted));
    leave(session);
    let left: Vec<_> = std::fs::read_dir(state.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_full_context_is_said_and_can_be_left() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("long.txt");
    std::fs::write(&file, "one two three ".repeat(100)).unwrap();
    let mut session = terminal(state.path(), &["-c", "120", "--think", "hide"]);
    say(&mut session, &format!("/file {}", file.display()));
    session.exp_string("sent with the next message").unwrap();
    say(&mut session, "What is this?");
    session.exp_regex(r"error:.* the prompt has [0-9,]+ tokens, but the context holds 120: shorten it by [0-9,]+ tokens or raise --ctx").unwrap();
    // Nothing of it stays in the conversation.
    say(&mut session, "/undo");
    session.exp_string("nothing to take back").unwrap();
    say(&mut session, "/new");
    session.exp_string("a new conversation").unwrap();
    say(
        &mut session,
        "Write a long story about a fox, a dog and a garden full of words.",
    );
    session
        .exp_string("the context of 120 tokens is full and the answer was cut off: /undo takes the last message back, /new starts over, a larger --ctx holds more")
        .unwrap();
    say(&mut session, "/undo");
    session.exp_string("took back: Write a long story").unwrap();
    leave(session);
}

#[test]
fn a_resized_window_keeps_the_line_and_wraps_what_comes() {
    let state = tempfile::tempdir().unwrap();
    let mut session = terminal(
        state.path(),
        &["--regex", "([ab]{3} ){60}", "--think", "hide"],
    );
    resize(&session, 24, 60);
    session.exp_string(AT_PROMPT).unwrap();
    session.send("Who are").unwrap();
    session.flush().unwrap();
    session.exp_string("are").unwrap();
    resize(&session, 30, 32);
    session.send_line(" you?").unwrap();
    let shown = turn(&mut session);
    let words = |line: &&str| {
        line.split(' ').all(|word| {
            ["", "aaa", "bbb"].contains(&word) || word.chars().all(|it| "ab".contains(it))
        })
    };
    let lines: Vec<&str> = shown
        .lines()
        .map(str::trim_end)
        .filter(|line| line.len() > 20)
        .filter(words)
        .collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.len() <= 32),
        "{shown:?}"
    );
    say(&mut session, "/undo");
    session.exp_string("took back: Who are you?").unwrap();
    leave(session);
}

/// As a window manager does.
fn resize(session: &PtySession, rows: u16, columns: u16) {
    let terminal = session.process().get_file_handle().unwrap();
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open, and this request reads one `winsize`.
    let status = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    assert_eq!(status, 0);
}

/// The text before the line with speeds.
fn without_speed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[..lines.len().saturating_sub(1)].join("\n")
}

/// What comes of a pipe's text.
fn piped(state: &Path, arguments: &[&str], text: &[u8]) -> Output {
    let mut child = chat(state, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_pipe_gets_answers_only() {
    let state = tempfile::tempdir().unwrap();
    let output = piped(
        state.path(),
        &["--regex", "yes|no"],
        b"Is it?\nIs it not?\n",
    );
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text:?}");
    assert!(
        lines.iter().all(|line| ["yes", "no"].contains(line)),
        "{text:?}"
    );
}

#[test]
fn a_failed_turn_of_a_pipe_is_the_status() {
    let state = tempfile::tempdir().unwrap();
    let arguments = ["--regex", "yes|no", "-c", "120"];
    let long = format!("Is it?\n{}\nIs it not?\n", "one two three ".repeat(50));
    let output = piped(state.path(), &arguments, long.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.matches("error:").count(), 1, "{message}");
}

#[test]
fn bytes_of_a_pipe_that_are_no_text_are_said_with_their_line() {
    let state = tempfile::tempdir().unwrap();
    let session = state.path().join("kept.session");
    let arguments = ["--regex", "yes|no", "--session", session.to_str().unwrap()];
    let output = piped(state.path(), &arguments, b"Is it?\nab\xFFc\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout.iter().filter(|&&it| it == b'\n').count(), 1);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("standard input is no UTF-8 text: byte 2 of line 2"),
        "{message}"
    );
    assert!(session.exists(), "what was said is kept");
}

#[test]
fn no_conversation_takes_the_place_of_another() {
    let state = tempfile::tempdir().unwrap();
    let path = |name: &str| state.path().join(name).to_str().unwrap().to_string();
    let (ann, bob) = (path("ann.session"), path("bob.session"));
    let form = ["--regex", "yes|no", "--session"];
    for (file, text) in [(&ann, "Are you Ann?\n"), (&bob, "Are you Bob?\n")] {
        let output = piped(
            state.path(),
            &[&form[..], &[file]].concat(),
            text.as_bytes(),
        );
        assert_eq!(output.status.code(), Some(0));
    }
    let held = || [&ann, &bob].map(|file| std::fs::read(file).unwrap());
    let before = held();

    // Looking at another, and beginning anew.
    for commands in [format!("/load {bob}\n"), "/new\nIs it?\n".into()] {
        let arguments = [&form[..], &[&ann]].concat();
        let output = piped(state.path(), &arguments, commands.as_bytes());
        assert_eq!(output.status.code(), Some(0));
        assert!(held() == before, "{commands}");
    }
    let commands = format!("Is it?\n/save {bob}\n");
    let output = piped(state.path(), &form[..2], commands.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("is there already"), "{message}");
    assert!(held() == before);
}
