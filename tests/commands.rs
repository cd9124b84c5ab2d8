//! The commands that run a model, as a person would use them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

fn success(arguments: &[&str]) -> String {
    let output = fourfold(arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The one sentence on stderr of a run that must fail with status 1.
fn failure(arguments: &[&str]) -> String {
    let output = fourfold(arguments);
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
