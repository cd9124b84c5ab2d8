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
    for (name, text) in hard_texts() {
        let megabytes = text.len() as f64 / 1e6;
        let seconds = report(name, 3, || tokenizer.encode(&text).len());
        println!("  {:.1} MB/s", megabytes / seconds);
    }
}

/// About a megabyte each of what has no words: long pieces, and pairs that no cache holds.
fn hard_texts() -> Vec<(&'static str, String)> {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut drawn = |first: u32, count: u64, characters: usize| -> String {
        let draw = |_| char::from_u32(first + random(count) as u32).unwrap_or('?');
        (0..characters).map(draw).collect()
    };
    let mut texts = vec![
        ("random letters", drawn(0x61, 26, 1_000_000)),
        ("random capitals", drawn(0x41, 26, 1_000_000)),
        ("random ideographs", drawn(0x4E00, 3000, 333_333)),
        ("random kana", drawn(0x3041, 80, 333_333)),
        ("random Thai", drawn(0x0E01, 46, 333_333)),
        ("random Latin", drawn(0x00E0, 300, 500_000)),
        ("random signs", drawn(0x21, 15, 1_000_000)),
        ("random ASCII", drawn(0x20, 95, 1_000_000)),
        ("random characters", drawn(0x20, 0xD000, 333_333)),
        ("random letters in words of 60", {
            let letters = drawn(0x61, 26, 1_000_000);
            let words: Vec<&str> = (0..letters.len() / 60)
                .map(|word| &letters[word * 60..][..60])
                .collect();
            words.join(" ")
        }),
    ];
    for (name, unit) in [
        ("a", "a"),
        ("spaces", " "),
        ("=", "="),
        ("字", "字"),
        ("the", "the"),
        ("combining accents", "\u{301}"),
        ("smiles", "😀"),
    ] {
        texts.push((name, unit.repeat(1_000_000 / unit.len())));
    }
    texts
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
