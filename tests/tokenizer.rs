//! The tokenizer against tiktoken, on every kind of text that has tripped tokenizers before.

mod common;

use common::{FILE, TOKENIZER};
use fourfold::tokenizer::{Error, Tokenizer, Vocabulary};
use fourfold_quantize::gguf::{Array, Gguf, Value};
use proptest::prelude::*;
use std::process::Command;
use std::sync::LazyLock;

fn assert_same(text: &str) {
    let expected = tiktoken_rs::o200k_harmony_singleton().encode_ordinary(text);
    let ids = TOKENIZER.encode(text);
    assert_eq!(ids, expected, "{text:?}");
    assert_eq!(TOKENIZER.decode(&ids), text);
}

#[test]
fn the_merge_list_is_the_published_one() {
    assert_eq!(FILE.merges.len(), 446_189);
    assert_eq!(
        FILE.merges[..6],
        ["Ġ Ġ", "Ġ ĠĠĠ", "ĠĠ ĠĠ", "ĠĠĠ Ġ", "i n", "e r"]
    );
    assert_eq!(FILE.merges[446_187..], ["Ġcoc os", "Ġcoco s"]);
}

#[test]
fn known_ids() {
    assert_eq!(TOKENIZER.encode("Hello world"), [13225, 2375]);
    // llama.cpp splits the combining marks off: [1554, 5760, 17593, 840, 1583, 24784].
    assert_eq!(TOKENIZER.encode("हिन्दी पाठ"), [1554, 71602, 840, 103639]);
    assert_eq!(TOKENIZER.encode("<|end|>"), [27, 91, 419, 91, 29]);
    assert_eq!(TOKENIZER.encode(""), [0u32; 0]);
}

#[test]
fn special_tokens_are_found_by_name() {
    for (name, id) in [
        ("<|start|>", 200_006),
        ("<|return|>", 200_002),
        ("<|call|>", 200_012),
    ] {
        assert_eq!(TOKENIZER.special(name), Some(id));
        assert!(TOKENIZER.is_special(id));
        assert_eq!(TOKENIZER.decode(&[id]), name);
    }
    assert_eq!(TOKENIZER.named("eos"), Some(200_002));
    assert_eq!(TOKENIZER.special("[PAD200019]"), None);
    assert_eq!(TOKENIZER.special("Hello"), None);
    assert!(TOKENIZER.is_special(200_019) && TOKENIZER.is_special(u32::MAX));
    assert!(!TOKENIZER.is_special(13225));
}

#[test]
fn every_token_round_trips() {
    for id in 0..common::ORDINARY as u32 {
        let mut ids = Vec::new();
        TOKENIZER.encode_bytes_into(TOKENIZER.token_bytes(id), &mut ids);
        assert_eq!(
            TOKENIZER.decode(&ids),
            TOKENIZER.decode(&[id]),
            "token {id}"
        );
        if std::str::from_utf8(TOKENIZER.token_bytes(id)).is_ok() {
            let text = TOKENIZER.decode(&[id]);
            let expected = tiktoken_rs::o200k_harmony_singleton().encode_ordinary(&text);
            assert_eq!(ids, expected, "token {id}: {text:?}");
        }
    }
}

#[test]
fn repetition_without_end_is_fast_and_equal() {
    for unit in [
        "a", " ", "\n", "é", "字", "😀", "aA", "ab", "1", ".", "\u{301}", " \n", "\t ", "\r\n",
    ] {
        for count in [1, 2, 3, 63, 64, 65, 100, 128, 129, 1000, 4099] {
            assert_same(&unit.repeat(count));
            assert_same(&format!("x{}y", unit.repeat(count)));
        }
    }
    // Ten megabytes a second and more when optimized; this is a test build on a machine with other work.
    for unit in ["a", " ", "字", "=", "ab", "the", "\u{301}"] {
        let text = unit.repeat(3_000_000 / unit.len());
        let began = std::time::Instant::now();
        let ids = TOKENIZER.encode(&text);
        assert!(
            began.elapsed().as_secs() < 10,
            "{unit:?} took {:?}",
            began.elapsed()
        );
        assert!(TOKENIZER.decode(&ids) == text, "{unit:?}");
    }
}

#[test]
fn long_pieces_merge_as_the_reference_does() {
    // 100 kB without a boundary: many blocks, and short enough for tiktoken.
    let letters: String = (0..100_000u64)
        .map(|i| {
            char::from(b'a' + (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 20) as u8 % 26)
        })
        .collect();
    assert_same(&letters);
    assert_same(&letters.replace('e', "aa").replace('t', "aaaa"));
}

#[test]
fn without_merges_the_ids_are_the_ranks() {
    static BY_RANK: LazyLock<Tokenizer> = LazyLock::new(|| {
        let vocabulary = FILE.vocabulary();
        Tokenizer::new(&Vocabulary {
            merges: None,
            ..vocabulary
        })
        .expect("ranks are enough")
    });
    for text in [
        include_str!("tokenizer.rs"),
        "हिन्दी पाठ 한국어 ภาษาไทย",
        &"aaa ".repeat(99),
    ] {
        assert_eq!(BY_RANK.encode(text), TOKENIZER.encode(text));
    }
}

#[test]
fn bytes_that_are_not_text_come_back() {
    for bytes in [
        &b"abc\xff\xfe def\xc3"[..],
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b"\x80\x80\x80",
    ] {
        let mut ids = Vec::new();
        TOKENIZER.encode_bytes_into(bytes, &mut ids);
        let back: Vec<u8> = ids
            .iter()
            .flat_map(|&id| TOKENIZER.token_bytes(id))
            .copied()
            .collect();
        assert_eq!(back, bytes);
    }
}

#[test]
fn a_model_file_gives_the_same_tokenizer_or_names_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vocabulary.gguf");
    common::write_gguf(FILE.metadata(), &path);
    let file = Gguf::open(&path).expect("a valid file");
    let tokenizer = Tokenizer::from_gguf(&file).expect("a valid vocabulary");
    assert_eq!(tokenizer.encode("हिन्दी पाठ"), [1554, 71602, 840, 103639]);
    assert_eq!(tokenizer.named("eos"), Some(200_002));

    for (key, value, expected) in [
        (
            "model",
            Value::from("llama"),
            r#"the tokenizer model is "llama""#,
        ),
        (
            "pre",
            Value::from("qwen2"),
            r#"splits text as "qwen2" does"#,
        ),
        ("tokens", Value::from(7u32), "tokenizer.ggml.tokens"),
        (
            "eos_token_id",
            Value::from(201_088u32),
            "the eos token is 201088",
        ),
        (
            "token_type",
            Array::of(&[1i32; 5]).into(),
            "201088 tokens but 5 token types",
        ),
    ] {
        let mut metadata = FILE.metadata();
        metadata.set(format!("tokenizer.ggml.{key}"), value);
        let path = folder.path().join(format!("bad-{key}.gguf"));
        common::write_gguf(metadata, &path);
        let file = Gguf::open(&path).expect("a valid file");
        let error = Tokenizer::from_gguf(&file)
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.contains(expected) && error.contains("bad-"),
            "{error}"
        );
    }
}

#[test]
fn the_program_prints_ids_and_pieces() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vocabulary.gguf");
    common::write_gguf(FILE.metadata(), &path);
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fourfold"))
            .arg("tokenize")
            .arg(&path)
            .args(arguments)
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(
        run(&["-p", "Hello world"]),
        " 13225  \"Hello\"\n  2375  \" world\"\n"
    );
    assert_eq!(
        run(&["-p", "<|end|>", "--json"]),
        concat!(
            r#"{"tokens":[{"id":27,"text":"<"},{"id":91,"text":"|"},{"id":419,"text":"end"},"#,
            r#"{"id":91,"text":"|"},{"id":29,"text":">"}]}"#,
            "\n"
        )
    );
    let bytes = folder.path().join("bytes");
    std::fs::write(&bytes, b"\xff").expect("a file");
    let bytes = bytes.to_str().expect("a plain path");
    assert_eq!(
        run(&["-f", bytes, "--json"]),
        "{\"tokens\":[{\"id\":187,\"text\":\"\u{FFFD}\",\"bytes\":[255]}]}\n"
    );
}

/// A vocabulary of the 256 bytes and some more, as tokens and types.
fn small(more: &[(&str, i32)]) -> (Vec<String>, Vec<i32>) {
    let bytes = (0..=255u8).map(|byte| (common::byte_level(&[byte]), 1));
    bytes
        .chain(more.iter().map(|&(text, kind)| (text.to_owned(), kind)))
        .unzip()
}

fn tokenizer(more: &[(&str, i32)], merges: &[&str]) -> Result<Tokenizer, Error> {
    let (tokens, kinds) = small(more);
    let merges: Vec<String> = merges.iter().map(|&merge| merge.to_owned()).collect();
    Tokenizer::new(&Vocabulary {
        tokens: &tokens,
        kinds: &kinds,
        merges: Some(&merges),
        named: &[],
    })
}

#[test]
fn the_order_of_the_list_decides_when_ids_are_not_ranks() {
    // 256 "bc", 257 "ab": the list merges "ab" first although its id is higher.
    let more = [("bc", 1), ("ab", 1)];
    let listed = tokenizer(&more, &["a b", "b c"]).expect("a valid vocabulary");
    assert_eq!(listed.encode("abc"), [257, 99]);
    let ranked = tokenizer(&more, &["b c", "a b"]).expect("a valid vocabulary");
    assert_eq!(ranked.encode("abc"), [97, 256]);
    // Longer than a block.
    assert_eq!(listed.encode(&"abc".repeat(50)), [257, 99].repeat(50));
    assert_eq!(ranked.encode(&"abc".repeat(50)), [97, 256].repeat(50));
}

#[test]
fn a_token_that_no_merges_lead_to_is_not_used() {
    let tokenizer = tokenizer(&[("ab", 1), ("abc", 1)], &["a b"]).expect("a valid vocabulary");
    assert_eq!(tokenizer.encode("abc abc"), [256, 99, 32, 256, 99]);
    assert_eq!(tokenizer.decode(&[257]), "abc");
}

#[test]
fn an_added_token_is_text_and_markup_is_not() {
    let more = [("ab", 1), ("<think>", 4), ("<|mine|>", 4), ("<|end|>", 3)];
    let tokenizer = tokenizer(&more, &["a b"]).expect("a valid vocabulary");
    assert_eq!(tokenizer.encode("ab<think>ab"), [256, 257, 256]);
    assert_eq!(tokenizer.encode("<|mine|>").len(), 8);
    let special: Vec<u32> = (250..260).filter(|&id| tokenizer.is_special(id)).collect();
    assert_eq!(special, [258, 259]);
    assert_eq!(tokenizer.decode(&[257, 256]), "<think>ab");
}

#[test]
fn a_vocabulary_without_special_tokens_works() {
    let tokenizer = tokenizer(&[("ab", 1)], &["a b"]).expect("a valid vocabulary");
    assert_eq!(tokenizer.encode("<|end|>ab").last(), Some(&256));
    assert_eq!(tokenizer.special("<|end|>"), None);
    assert_eq!(tokenizer.named("eos"), None);
}

#[test]
fn each_way_a_vocabulary_can_be_wrong_is_named() {
    let error = |more: &[(&str, i32)], merges: &[&str]| match tokenizer(more, merges) {
        Ok(_) => panic!("{more:?} {merges:?} was accepted"),
        Err(error) => error,
    };
    let duplicate = |first, second, text: &str| Error::Duplicate {
        first,
        second,
        text: text.to_owned(),
    };
    assert_eq!(
        error(&[("ab", 1), ("ab", 1)], &[]),
        duplicate(256, 257, "ab")
    );
    assert_eq!(
        error(&[("<x>", 3), ("<x>", 3)], &[]),
        duplicate(256, 257, "<x>")
    );
    assert_eq!(
        error(&[("<x>", 1), ("<x>", 3)], &[]),
        duplicate(256, 257, "<x>")
    );
    assert_eq!(error(&[("", 1)], &[]), Error::EmptyToken { id: 256 });
    assert_eq!(
        error(&[("a", 6)], &[]),
        Error::UnknownKind { id: 256, kind: 6 }
    );
    let character = ' ';
    assert_eq!(
        error(&[("a b", 1)], &[]),
        Error::NotByteLevel { id: 256, character }
    );
    for merge in ["ab", "a b c", "a  b"] {
        assert!(matches!(
            error(&[("ab", 1)], &[merge]),
            Error::MalformedMerge { index: 0, .. }
        ));
    }
    assert_eq!(
        error(&[("ab", 1)], &["a b", "b c"]).to_string(),
        r#"merge 1 ("b c") needs the token "bc", which the vocabulary lacks"#
    );
    assert!(matches!(
        error(&[("ab", 1)], &["a Ġx"]),
        Error::MergeWithoutToken { .. }
    ));
}

#[test]
fn counts_and_ids_must_agree() {
    let (tokens, kinds) = small(&[]);
    let build = |tokens: &[String], kinds: &[i32], named: &[(&str, u32)]| {
        let merges = None;
        Tokenizer::new(&Vocabulary {
            tokens,
            kinds,
            merges,
            named,
        })
        .err()
    };
    assert_eq!(build(&tokens, &kinds, &[("eos", 255)]), None);
    assert_eq!(build(&[], &[], &[]), Some(Error::Empty));
    let counts = Error::KindCount {
        tokens: 256,
        kinds: 255,
    };
    assert_eq!(build(&tokens, &kinds[1..], &[]), Some(counts));
    assert_eq!(
        build(&tokens[1..], &kinds[1..], &[]),
        Some(Error::MissingByte { byte: 0 })
    );
    assert_eq!(
        build(&tokens, &kinds, &[("eos", 256)]).map(|error| error.to_string()),
        Some("the eos token is 256, but the vocabulary ends at 255".to_owned())
    );
}

/// Characters of every class that the pattern distinguishes, and every script that proptest knows.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        any::<char>(),
        prop::char::range(' ', '~'),
        prop::char::range('\0', '\u{2ff}'),
        prop::char::range('\u{300}', '\u{36f}'),
        prop::char::range('\u{900}', '\u{dff}'),
        prop::char::range('\u{2000}', '\u{206f}'),
        prop::char::range('\u{3040}', '\u{30ff}'),
        prop::char::range('\u{1f300}', '\u{1faff}'),
        prop::sample::select(
            "aAbSſ'’ʰǅª1½٣ \t\r\n\u{85}\u{a0}\u{3000}\u{200d}\u{fe0f}\u{301}字ß/.!_"
                .chars()
                .collect::<Vec<_>>()
        ),
    ]
}

fn snippet() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(character(), 0..40).prop_map(String::from_iter),
        (character(), 1..300usize)
            .prop_map(|(character, count)| character.to_string().repeat(count)),
        prop::sample::select(vec![
            "fn main() {\n    println!(\"{}\", x);\n}\n",
            "I'LL we've DON'T it's",
            "https://a.b/c?d=e&f",
            "<|start|>system<|message|>",
            "  \n\t \r\n\r\n   x",
            "0x1F 3.14159 1_000_000",
            "👩‍👩‍👧‍👦🏳️‍🌈",
            "Straße ÉCOLE ǅungla",
            "中文，日本語。한국어!",
            "\u{feff}\0\u{1}",
            "मानक हिन्दी",
            "ภาษาไทย",
            "עִבְרִית",
            "العَرَبِيَّة",
            "Việt Nam",
            "e\u{301}\u{302}A\u{301}",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_text_gives_the_ids_of_tiktoken(snippets in prop::collection::vec(snippet(), 0..8)) {
        let text = snippets.concat();
        let expected = tiktoken_rs::o200k_harmony_singleton().encode_ordinary(&text);
        let ids = TOKENIZER.encode(&text);
        prop_assert_eq!(&ids, &expected);
        prop_assert!(ids.iter().all(|&id| !TOKENIZER.is_special(id)));
        prop_assert_eq!(TOKENIZER.decode(&ids), text);
    }

    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut ids = Vec::new();
        TOKENIZER.encode_bytes_into(&bytes, &mut ids);
        let back: Vec<u8> = ids.iter().flat_map(|&id| TOKENIZER.token_bytes(id)).copied().collect();
        prop_assert_eq!(back, bytes);
    }
}
