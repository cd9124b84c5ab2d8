//! `fourfold run` as a person or a script uses it, with the built-in model.

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn fourfold() -> Command {
    let mut command = Command::cargo_bin("fourfold").unwrap();
    command
        .env_remove("FOURFOLD_ISA")
        .args(["run", "--date", "none"]);
    command
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn stdout(command: &mut Command) -> String {
    let output = command.assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

fn error(command: &mut Command) -> String {
    let output = command.assert().code(1).get_output().clone();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.stdout.is_empty(),
        "an error wrote to standard output"
    );
    assert_eq!(
        message.lines().count(),
        1,
        "an error is one sentence: {message}"
    );
    assert!(!message.contains("panicked"), "{message}");
    message
}

#[test]
fn only_the_answer_is_on_standard_output() {
    let mut command = fourfold();
    command.args([
        "-p",
        "Who are you?",
        "--seed",
        "1",
        "-n",
        "300",
        "--show-reasoning",
    ]);
    let output = command.assert().success().get_output().clone();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.ends_with('\n') && !answer.trim().is_empty());
    assert!(!answer.contains('\x1b') && !answer.contains("<|"));
}

#[test]
fn a_seed_repeats_the_answer_whatever_the_number_of_threads() {
    let answer = |threads: &str, seed: &str| {
        let mut command = fourfold();
        command.args([
            "--raw", "-p", "What is", "-n", "60", "--temp", "2", "--seed", seed, "-t", threads,
        ]);
        stdout(&mut command)
    };
    assert_eq!(answer("1", "3"), answer("2", "3"));
    assert_eq!(answer("1", "3"), answer("3", "3"));
    assert_ne!(answer("1", "3"), answer("1", "4"));
}

#[test]
fn speculation_is_invisible() {
    let text = "one two three four five six seven eight nine ten\n".repeat(8);
    let answer = |more: &[&str]| {
        let mut command = fourfold();
        command
            .args(["--raw", "--temp", "0", "-n", "80", "-p", &text])
            .args(more);
        stdout(&mut command)
    };
    assert_eq!(answer(&[]), answer(&["--no-speculation"]));
}

#[test]
fn json_has_everything_and_counts_it() {
    let mut command = fourfold();
    command.args(["-p", "What is 3 + 4?", "--json", "--seed", "2", "-n", "200"]);
    let value: Value = serde_json::from_str(&stdout(&mut command)).unwrap();
    assert!(value["content"].is_string() && value["reasoning"].is_string());
    assert_eq!(value["tool_calls"], serde_json::json!([]));
    let finish = value["finish_reason"].as_str().unwrap();
    assert!(["stop", "length"].contains(&finish), "{finish}");
    let usage = &value["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 20);
    assert!(usage["completion_tokens"].as_u64().unwrap() <= 200);
    assert!(usage["reasoning_tokens"].as_u64() <= usage["completion_tokens"].as_u64());
    assert_eq!(usage["cached_tokens"], 0);
    assert!(
        value["timings"]["decode_tokens_per_second"]
            .as_f64()
            .unwrap()
            > 0.0
    );
}

#[test]
fn n_limits_the_tokens() {
    let mut command = fourfold();
    command.args(["--raw", "-p", "What is", "-n", "5", "--json", "--seed", "1"]);
    let value: Value = serde_json::from_str(&stdout(&mut command)).unwrap();
    assert_eq!(value["usage"]["completion_tokens"], 5);
    assert_eq!(value["finish_reason"], "length");
}

#[test]
fn option_file_and_pipe_join() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "text.txt", "from the file\n");
    let tokens = |command: &mut Command| {
        let value: Value = serde_json::from_str(&stdout(command)).unwrap();
        value["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let base = ["--raw", "--json", "-n", "1"];
    let mut joined = fourfold();
    joined
        .args(base)
        .args(["-p", "Sum up:", "-f"])
        .arg(&file)
        .write_stdin("from the pipe\n");
    let mut spelled = fourfold();
    spelled
        .args(base)
        .args(["-p", "Sum up:\n\nfrom the file\n\nfrom the pipe"]);
    assert_eq!(tokens(&mut joined), tokens(&mut spelled));
}

#[test]
fn a_stop_text_ends_the_answer_before_it() {
    let answer = |more: &[&str]| {
        let mut command = fourfold();
        command
            .args(["--raw", "--temp", "0", "-p", "What is", "-n", "40"])
            .args(more);
        stdout(&mut command)
    };
    let whole = answer(&[]);
    let middle: String = whole.chars().skip(8).take(3).collect();
    let cut = answer(&["--stop", &middle]);
    let wanted = &whole[..whole.find(&middle).unwrap()];
    assert_eq!(cut.trim_end_matches('\n'), wanted.trim_end_matches('\n'));
}

#[test]
fn a_regular_expression_is_kept_to() {
    for seed in ["1", "2", "3"] {
        let mut command = fourfold();
        command.args([
            "-p",
            "Who are you?",
            "--regex",
            "(yes|no), [0-9]{3}",
            "--seed",
            seed,
        ]);
        let answer = stdout(&mut command);
        let (word, number) = answer.trim().split_once(", ").unwrap();
        assert!(
            ["yes", "no"].contains(&word) && number.parse::<u16>().is_ok(),
            "{answer}"
        );
    }
}

#[test]
fn a_schema_is_kept_to_and_a_cut_answer_fails() {
    let folder = tempfile::tempdir().unwrap();
    let schema = r#"{"type":"object","properties":{"age":{"type":"integer","maximum":99,"minimum":0}},"required":["age"],"additionalProperties":false}"#;
    let schema = written(folder.path(), "person.json", schema);
    let mut command = fourfold();
    command
        .args(["-p", "Mia is 9 years old.", "--seed", "5", "--schema"])
        .arg(&schema);
    let value: Value = serde_json::from_str(&stdout(&mut command)).unwrap();
    assert!(value["age"].as_u64().unwrap() < 100);

    let mut command = fourfold();
    command
        .args([
            "-p",
            "Mia is 9 years old.",
            "--seed",
            "5",
            "-n",
            "2",
            "--schema",
        ])
        .arg(&schema);
    let output = command.assert().code(1).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cut off after 2 tokens"));
}

#[test]
fn a_schema_for_answers_leaves_tools_to_be_called() {
    let folder = tempfile::tempdir().unwrap();
    let tools = r#"[{"type":"function","function":{"name":"get_weather","description":"The weather in a city",
        "parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]"#;
    let schema = r#"{"type":"object","properties":{"age":{"type":"integer"}},"required":["age"],"additionalProperties":false}"#;
    let mut command = fourfold();
    command
        .args(["-p", "What is the weather in Bern?", "--seed", "1"])
        .arg("--tools")
        .arg(written(folder.path(), "tools.json", tools))
        .arg("--schema")
        .arg(written(folder.path(), "age.json", schema));
    let output = command.assert().code(3).get_output().clone();
    let call: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(call["name"], "get_weather");
}

#[test]
fn a_lark_grammar_is_kept_to() {
    let folder = tempfile::tempdir().unwrap();
    let grammar = written(folder.path(), "g.lark", "start: \"left\" | \"right\"\n");
    let mut command = fourfold();
    command
        .args(["-p", "Where?", "--seed", "5", "--grammar"])
        .arg(grammar);
    assert!(["left\n", "right\n"].contains(&stdout(&mut command).as_str()));
}

#[test]
fn a_session_goes_on_and_reuses_its_cache() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.session");
    let cached = |text: &str| {
        let mut command = fourfold();
        command
            .args([
                "-p",
                text,
                "--json",
                "--seed",
                "4",
                "-n",
                "200",
                "--session",
            ])
            .arg(&file);
        let value: Value = serde_json::from_str(&stdout(&mut command)).unwrap();
        value["usage"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(cached("My name is Nina."), 0);
    assert!(cached("What is my name?") > 20);
    // A damaged cache is refused, and the file stays as it is.
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let mut command = fourfold();
    command.args(["-p", "x", "--session"]).arg(&file);
    let message = error(&mut command);
    assert!(message.contains("checksum"), "{message}");
    assert!(message.contains("add --rebuild-session"), "{message}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    stdout(command.args(["-n", "1", "--rebuild-session"]));
    assert!(cached("And now?") > 20);

    // A save that was cut off costs what it held.
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let mut command = fourfold();
    command.args(["-p", "x", "-n", "1", "--session"]).arg(&file);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("was cut off"), "{said}");
}

#[test]
fn a_session_keeps_its_settings_until_others_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.session");
    let say = |more: &[&str]| {
        let mut command = fourfold();
        command.args(["-p", "Who are you?", "-n", "1"]).args(more);
        stdout(command.arg("--session").arg(&file));
    };
    let shown = || {
        let mut command = Command::cargo_bin("fourfold").unwrap();
        command.args(["chat", "--session"]).arg(&file);
        let output = command.write_stdin("/params\n").assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let is_set = |text: &str, name: &str, value: &str| {
        let mut lines = text.lines().map(str::split_whitespace);
        lines.any(|line| line.eq([name, value]))
    };
    say(&["--temp", "0.25", "--top-k", "7"]);
    say(&["--top-k", "9"]);
    let text = shown();
    assert!(is_set(&text, "temp", "0.25"), "{text}");
    assert!(is_set(&text, "top-k", "9"), "{text}");
}

#[test]
fn a_session_of_another_model_is_refused_or_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.session");
    let say = |text: &str, more: &[&str]| {
        let mut command = fourfold();
        command
            .args(["-p", text, "--json", "--seed", "4", "-n", "200"])
            .args(more)
            .arg("--session")
            .arg(&file);
        command
    };
    stdout(&mut say("My name is Nina.", &[]));
    let saved = fs::read(&file).unwrap();
    // Another cache is another model to a session.
    let other = ["--kv-type", "q8_0"];
    let message = error(&mut say("What is my name?", &other));
    assert!(message.contains("add --rebuild-session"), "{message}");
    assert_eq!(fs::read(&file).unwrap(), saved);
    let rebuilt = [&other[..], &["--rebuild-session"]].concat();
    let value: Value =
        serde_json::from_str(&stdout(&mut say("What is my name?", &rebuilt))).unwrap();
    assert_eq!(value["usage"]["cached_tokens"], 0);
    // The first message is still there: a prompt of this message alone is shorter.
    let mut alone = fourfold();
    alone.args(["-p", "What is my name?", "--json", "-n", "1"]);
    let alone: Value = serde_json::from_str(&stdout(&mut alone)).unwrap();
    let prompt = |value: &Value| value["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt(&value) > prompt(&alone) + 10);
    // From now on it is the other model's.
    stdout(&mut say("And yours?", &other));
}

#[test]
fn a_full_context_is_said_with_numbers() {
    let answer = |context: u64| {
        let mut command = fourfold();
        let context = context.to_string();
        command.args([
            "-p",
            "Who are you?",
            "--seed",
            "1",
            "--json",
            "-c",
            &context,
        ]);
        command.assert().get_output().clone()
    };
    let whole: Value = serde_json::from_slice(&answer(4000).stdout).unwrap();
    let count = |name: &str| whole["usage"][name].as_u64().unwrap();
    let prompt = count("prompt_tokens");
    assert!(count("completion_tokens") > 7);
    let output = answer(prompt + 7);
    assert!(output.status.success());
    let cut: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(cut["usage"]["completion_tokens"], 7);
    assert_eq!(cut["finish_reason"], "length");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        message,
        "the context is full: the answer was cut off after 7 tokens\n"
    );
    let output = answer(prompt - 3);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    let limit = prompt - 3;
    let wanted = format!(
        "the prompt has {prompt} tokens, but the context holds {limit}: shorten it by 3 tokens or raise --ctx\n"
    );
    assert!(message.ends_with(&wanted), "{message}");
}

#[test]
fn wrong_input_is_one_sentence_and_status_one() {
    let folder = tempfile::tempdir().unwrap();
    let not_json = written(folder.path(), "not.json", "{\"type\": ");
    let not_grammar = written(folder.path(), "not.lark", "start: nothing_like_it");
    let not_schema = written(folder.path(), "odd.json", "{\"type\": \"strange\"}");
    let not_text = folder.path().join("binary");
    fs::write(&not_text, [0xFF, 0xFE, 0]).unwrap();
    let missing = folder.path().join("missing");
    let cases: [(&[&str], &Path, &str); 7] = [
        (&["-p", "x", "--schema"], &not_json, "is not JSON"),
        (&["-p", "x", "--schema"], &not_schema, "cannot be used"),
        (&["-p", "x", "--grammar"], &not_grammar, "cannot be used"),
        (&["-p", "x", "--tools"], &not_json, "is not JSON"),
        (&["-f"], &not_text, "no UTF-8 text"),
        (&["-f"], &missing, "cannot read"),
        (&["-p", "x", "--session"], &not_text, "no fourfold session"),
    ];
    for (arguments, file, wanted) in cases {
        let message = error(fourfold().args(arguments).arg(file));
        assert!(message.contains(wanted), "{arguments:?}: {message}");
    }
    let nowhere = folder.path().join("no-folder/talk.session");
    let message = error(fourfold().args(["-p", "x", "--session"]).arg(nowhere));
    assert!(message.contains("cannot write the session"), "{message}");
    assert_eq!(message.matches("os error").count(), 1, "{message}");
    let message = error(fourfold().arg(&missing).args(["-p", "x"]));
    assert_eq!(message.matches("os error").count(), 1, "{message}");
    let message = error(fourfold().args(["-p", "x", "--temp", "-1"]));
    assert!(message.contains("--temp is -1"), "{message}");
    let message = error(fourfold().args(["-p", "x", "--repeat-penalty", "-1"]));
    assert!(message.contains("--repeat-penalty is -1"), "{message}");
    let message = error(fourfold().args(["-p", "x", "--regex", "a(b"]));
    assert!(message.contains("cannot be used"), "{message}");
    let message = error(fourfold().args(["-p", "x", "-c", "20"]));
    assert!(message.contains("the context holds 20"), "{message}");
    let message = error(fourfold().write_stdin(""));
    assert!(message.contains("there is no prompt"), "{message}");
}

#[test]
fn wrong_usage_is_status_two() {
    fourfold()
        .args(["-p", "x", "--raw", "--system", "y"])
        .assert()
        .code(2);
    fourfold()
        .args(["-p", "x", "--schema", "a", "--grammar", "b"])
        .assert()
        .code(2);
    fourfold()
        .args(["-p", "x", "--date", "tomorrow"])
        .assert()
        .code(2);
    for (option, value, expected) in [
        ("--temp", "inf", "finite"),
        ("--repeat-last-n", "-5", "-1 for the whole context"),
    ] {
        let mut command = fourfold();
        let assert = command.args(["-p", "x", option, value]).assert().code(2);
        let message = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(message.contains(expected), "{message}");
    }
}
