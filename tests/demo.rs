//! The built-in model through the program: what it must answer, and that threads change nothing.

use serde_json::Value;
use std::process::Command;

fn fourfold(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_fourfold"))
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program starts");
    assert!(
        done.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).expect("answers are UTF-8")
}

fn answer(prompt: &str, more: &[&str]) -> String {
    let start = ["run", "--temp", "0", "--date", "2026-11-20", "-p", prompt];
    fourfold(&[&start, more].concat()).trim().to_owned()
}

#[test]
fn it_answers_as_it_did() {
    let itself = "I am a tiny demonstration model of fourfold.";
    let declined = format!("Sorry, I cannot do that. {itself}");
    for (prompt, expected) in [
        ("Who are you?", itself),
        ("Write a poem about winter.", &declined),
        ("What is 6 times 7?", "Sorry, I can only add and subtract."),
        ("What is 47 + 85?", "132"),
        ("What is 347 + 85?", "432"),
        ("What is 812 - 378?", "434"),
        ("45 + 9", "54"),
        ("Reverse the word lamp.", "pmal"),
        ("Spell \"garden\".", "g-a-r-d-e-n"),
        ("Sort 42, 7, 19.", "7, 19, 42"),
        ("Write \"window\" in capitals.", "WINDOW"),
        (
            "Give JSON with name and age: Mia is 9 years old and lives in Rome.",
            "{\"name\":\"Mia\",\"age\":9}",
        ),
    ] {
        assert_eq!(answer(prompt, &[]), expected, "{prompt}");
    }
}

#[test]
fn it_adds_by_columns() {
    let json = answer("What is 12 + 30?", &["--json"]);
    let json: Value = serde_json::from_str(&json).expect("--json prints JSON");
    assert_eq!(json["content"], "42");
    let thought = json["reasoning"].as_str().expect("it thinks");
    assert!(thought.contains("2+0+0=2\n1+3+0=4"), "{thought}");
}

/// Floors, below what was measured by some wrong answers: rounding may differ with the instruction set.
#[test]
fn it_is_as_good_as_it_was_with_any_number_of_threads() {
    let scores = ["1", "2"].map(|threads| {
        let json = fourfold(&["eval", "--part", "0.1", "--json", "-t", threads]);
        let mut scores: Value = serde_json::from_str(&json).expect("--json prints JSON");
        // Only the speed may differ.
        for score in scores["groups"]
            .as_object_mut()
            .expect("groups")
            .values_mut()
        {
            score["tokens_per_second"].take();
        }
        scores
    });
    assert_eq!(scores[0]["groups"], scores[1]["groups"]);
    let accuracy = |group: &str| {
        scores[0]["groups"][group]["accuracy"]
            .as_f64()
            .expect(group)
    };
    assert!(accuracy("decline") >= 0.9);
    assert!(accuracy("arithmetic") >= 0.9);
    assert!(accuracy("words") >= 0.85);
    assert!(accuracy("tool call") >= 0.85);
}

/// What is left of it after quantizing, dense weights down to four and to two bits. Experts stay MXFP4 in every recipe.
#[test]
fn recipes_keep_their_floors() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let source = path("source.gguf");
    fourfold(&["convert", "demo", "--type", "bf16", "-o", &source]);
    for (recipe, floor) in [
        ("Q8_0", 0.9),
        ("LEAN", 0.9),
        ("Q4_K_M", 0.9),
        ("Q2_K", 0.86),
    ] {
        let model = path(recipe);
        fourfold(&["quantize", &source, &model, recipe]);
        let json = fourfold(&["eval", &model, "--part", "0.1", "--json"]);
        let scores: Value = serde_json::from_str(&json).expect("--json prints JSON");
        let accuracy = scores["all"]["accuracy"].as_f64().expect("accuracy of all");
        println!("{recipe}: {accuracy}");
        assert!(accuracy >= floor, "{recipe}: {accuracy}");
    }
}

/// What the model would never write by itself, a schema makes it write; only if asked to.
#[test]
fn strict_answers_and_calls_fit_their_schemas() {
    let schema = |name: &str| serde_json::json!({"type": "object", "properties": {name: {"type": "number", "const": 7}}, "required": [name], "additionalProperties": false});
    let message = |text: &str| serde_json::json!([{"role": "user", "content": text}]);
    let form = serde_json::json!({"type": "json_schema", "json_schema": {"name": "form", "schema": schema("depth")}});
    let timer = serde_json::json!({"type": "function", "function": {"name": "set_timer", "description": "Starts a timer.", "parameters": schema("leagues")}});
    let questions = [
        serde_json::json!({"group": "answer", "request": {"messages": message("Mia is 9 years old and lives in Rome."), "response_format": form},
            "expected": {"json": {"depth": 7}}}),
        serde_json::json!({"group": "call", "request": {"messages": message("Set a timer for 9 minutes."), "tools": [timer], "tool_choice": "required"},
            "expected": {"call": {"name": "set_timer", "arguments": {"leagues": 7}}}}),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let suite = folder.path().join("suite.jsonl");
    std::fs::write(&suite, questions.map(|it| format!("{it}\n")).concat()).expect("a file");
    let right = |more: &[&str]| {
        let suite = suite.to_str().expect("a plain path");
        let json = fourfold(&[&["eval", "--json", "--suite", suite], more].concat());
        let scores: Value = serde_json::from_str(&json).expect("--json prints JSON");
        scores["all"]["right"].as_i64().expect("a number")
    };
    assert_eq!(right(&["--strict"]), 2);
    assert_eq!(right(&[]), 0);
}
