//! The options for a GPU, as a person would use them, in builds with and without one.

use std::path::Path;
use std::process::{Command, Output};

fn fourfold(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fourfold"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn tiny() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("tests/fixtures/tiny/tiny.gguf");
    file.to_str().unwrap().to_string()
}

#[test]
fn wrong_values_are_wrong_usage() {
    for arguments in [
        ["--gpu-layers", "many"],
        ["--cpu-moe", "all"],
        ["--gpu-memory", "12 apples"],
        ["--bring-experts", "sometimes"],
    ] {
        let output = fourfold(&[&["run", "-p", "x"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = fourfold(&["run", "-p", "x", "--no-gpu", "--gpu-layers", "1"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn no_gpu_is_always_possible() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.npy");
    let out = out.to_str().unwrap();
    let output = fourfold(&["logits", &tiny(), "--tokens", "1,2", "-o", out, "--no-gpu"]);
    assert!(
        output.status.success() && stderr(&output).is_empty(),
        "{}",
        stderr(&output)
    );
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_build_without_a_gpu_says_how_to_get_one() {
    let tiny = tiny();
    for option in [
        &["--gpu-layers", "all"][..],
        &["--cpu-moe", "1"],
        &["--device", "Vulkan0"],
        &["--gpu-memory", "12GiB"],
        &["--dry-run"],
    ] {
        let output = fourfold(&[&["perplexity", &tiny, "-f", "/dev/null"], option].concat());
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(
            text.contains(option[0]) && text.contains("--features vulkan"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let output = fourfold(&["devices"]);
    assert!(stdout(&output).contains("this build has only the processor"));
    let output = fourfold(&["devices", &tiny, "--gpu-memory", "12GiB"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--features vulkan"));
    let output = fourfold(&["devices", &tiny, "--ctx", "64"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("plan          none"));
}

#[cfg(feature = "gpu")]
mod with_a_gpu {
    use super::*;

    #[test]
    fn devices_are_listed_and_plans_are_shown() {
        let listed = stdout(&fourfold(&["devices"]));
        assert!(
            listed.lines().any(|line| line.starts_with("CPU ")),
            "{listed}"
        );
        let arguments = ["devices", &tiny(), "--device", "cpu", "--ctx", "64"];
        let shown = fourfold(&arguments);
        assert!(shown.status.success(), "{}", stderr(&shown));
        let shown = stdout(&shown);
        for part in ["layers", "experts", "head", "cache", "scratch", "left"] {
            assert!(
                shown.contains(&format!("\n  {part} ")),
                "{part} is not in:\n{shown}"
            );
        }
        assert!(shown.contains("attention of all 2"), "{shown}");
        let stage = ["--cpu-moe", "2", "--bring-experts", "always"];
        let shown = stdout(&fourfold(&[&arguments[..], &stage].concat()));
        assert!(shown.contains("\n  stage "), "{shown}");
        let arguments = [
            "run",
            "--device",
            "CPU",
            "--dry-run",
            "--gpu-layers",
            "1",
            "-p",
            "x",
        ];
        let output = fourfold(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("attention of the last 1 of"),
            "{}",
            stdout(&output)
        );
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        let tiny = tiny();
        let arguments = ["devices", &tiny, "--device", "CPU", "--gpu-memory", "1MiB"];
        let fits_nothing = fourfold(&arguments);
        assert!(stdout(&fits_nothing).contains("all layers on the processor"));
        let output = fourfold(&[&arguments[..], &["--gpu-layers", "all"]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("give a smaller --ctx"),
            "{}",
            stderr(&output)
        );
        let output = fourfold(&["devices", &tiny, "--device", "Quantum0"]);
        assert!(
            stderr(&output).contains("--device Quantum0 is not one of"),
            "{}",
            stderr(&output)
        );
    }

    #[test]
    fn an_answer_comes_from_layers_on_a_device() {
        let arguments = [
            "run",
            "-p",
            "What is the capital of France?",
            "--temp",
            "0",
            "-n",
            "24",
        ];
        let host = fourfold(&[&arguments[..], &["--no-gpu"]].concat());
        let device = fourfold(&[&arguments[..], &["--device", "CPU"]].concat());
        assert!(device.status.success(), "{}", stderr(&device));
        assert!(stderr(&device).contains("experts"), "{}", stderr(&device));
        assert_eq!(stdout(&host), stdout(&device));
    }

    /// Only builds for tests can lose a device on purpose.
    #[cfg(debug_assertions)]
    #[test]
    fn a_lost_device_ends_in_a_sentence_and_leaves_a_session_that_goes_on() {
        use std::io::Write;
        use std::process::Stdio;

        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let (asked, talked) = (file("asked.session"), file("talked.session"));
        let ask = |place: &[&str], session: &str, graphs: &str| {
            let question = ["run", "-p", "What is the capital of France?", "--temp", "0"];
            Command::new(env!("CARGO_BIN_EXE_fourfold"))
                .args(question)
                .args(["-n", "8", "--session", session])
                .args(place)
                .env("FOURFOLD_TEST_LOSE_DEVICE", graphs)
                .output()
                .unwrap()
        };
        let sentence = |output: &Output| {
            let text = stderr(output);
            let lost: Vec<&str> = text.lines().filter(|it| it.contains("gave up")).collect();
            assert!(lost.len() == 1 && !text.contains("panicked"), "{text}");
            assert!(lost[0].contains("lost on purpose"), "{text}");
            assert!(lost[0].contains("--no-gpu"), "{text}");
        };
        let first = ask(&["--device", "CPU"], &asked, "1000000");
        assert!(first.status.success(), "{}", stderr(&first));
        // It reads the prompt, and is gone after a few tokens.
        let lost = ask(&["--device", "CPU"], &asked, "5");
        assert_eq!(lost.status.code(), Some(1), "{}", stderr(&lost));
        sentence(&lost);

        let mut chat = Command::new(env!("CARGO_BIN_EXE_fourfold"))
            .args(["chat", "--device", "CPU", "-n", "8", "--session", &talked])
            .env("FOURFOLD_TEST_LOSE_DEVICE", "5")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = chat.stdin.take().unwrap();
        input
            .write_all(b"What is the capital of France?\n")
            .unwrap();
        drop(input);
        sentence(&chat.wait_with_output().unwrap());

        for session in [&asked, &talked] {
            let again = ask(&["--no-gpu"], session, "0");
            assert!(again.status.success(), "{}", stderr(&again));
        }
    }
}
