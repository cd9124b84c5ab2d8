//! Tokenizer: time until ready and megabytes a second, tiktoken beside it on the same text.
//!
//! `cargo bench --bench tokenizer [-- FILE...]`; without files, this repository's own sources.

#[path = "../tests/common/mod.rs"]
mod common;

use fourfold::tokenizer::Tokenizer;
use fourfold_quantize::gguf::Gguf;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() {
    let mut text = String::new();
    let given: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let files = given.iter().filter(|path| path.is_file());
    for path in files {
        text.push_str(&String::from_utf8_lossy(
            &std::fs::read(path).unwrap_or_default(),
        ));
    }
    if text.is_empty() {
        collect(Path::new(env!("CARGO_MANIFEST_DIR")), &mut text);
    }
    let file = &*common::FILE;
    report("ready", 5, || file.tokenizer().vocabulary_len());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vocabulary.gguf");
    common::write_gguf(file.metadata(), &path);
    report("ready from a model file", 5, || {
        let file = Gguf::open(&path).expect("a valid file");
        let tokenizer = Tokenizer::from_gguf(&file).expect("a valid vocabulary");
        tokenizer.vocabulary_len()
    });
    let tokenizer = &*common::TOKENIZER;
    let megabytes = text.len() as f64 / 1e6;
    let mut ids = Vec::new();
    println!("{megabytes:.2} MB of text");
    let seconds = report("fourfold", 5, || {
        ids.clear();
        tokenizer.encode_into(&text, &mut ids);
        ids.len()
    });
    println!("  {:.1} MB/s", megabytes / seconds);
    let reference = tiktoken_rs::o200k_harmony_singleton();
    let seconds = report("tiktoken-rs", 3, || reference.encode_ordinary(&text).len());
    println!("  {:.1} MB/s", megabytes / seconds);
    println!("  equal: {}", reference.encode_ordinary(&text) == ids);
    let seconds = report("decode", 5, || tokenizer.decode(&ids).len());
    println!("  {:.1} MB/s", megabytes / seconds);
    for (name, text) in [
        ("1 MB of a", "a".repeat(1_000_000)),
        ("1 MB of spaces", " ".repeat(1_000_000)),
    ] {
        let seconds = report(name, 3, || tokenizer.encode(&text).len());
        println!("  {:.1} MB/s", 1.0 / seconds);
    }
}

/// Prints and returns the best time of several runs.
fn report(name: &str, runs: usize, mut work: impl FnMut() -> usize) -> f64 {
    let mut best = f64::INFINITY;
    let mut count = 0;
    for _ in 0..runs {
        let began = Instant::now();
        count = work();
        best = best.min(began.elapsed().as_secs_f64());
    }
    println!("{name}: {:.4} s, {count}", best);
    best
}

/// All readable sources below a folder.
fn collect(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            collect(&path, text);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "md")
            && let Ok(content) = std::fs::read_to_string(&path)
        {
            text.push_str(&content);
        }
    }
}
