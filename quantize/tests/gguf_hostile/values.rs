//! Lies about keys and their values.

use super::*;
use crate::assert_fault;

#[test]
fn an_empty_key() {
    let bytes = Bytes::header(3, 0, 1)
        .string("")
        .u32(U32)
        .u32(1)
        .raw(&[0; 8]);
    assert_fault!(bytes.fault(), Fault::EmptyKey { index: 0 });
}

#[test]
fn a_key_that_comes_twice() {
    let bytes = Bytes::header(3, 0, 2)
        .string("a.b")
        .u32(U32)
        .u32(1)
        .string("a.b")
        .u32(U8)
        .u8(1)
        .raw(&[0; 8]);
    assert_fault!(bytes.fault(), Fault::DuplicateKey { key } if key == "a.b");
}

#[test]
fn a_key_longer_than_the_format_allows() {
    let bytes = Bytes::header(3, 0, 1)
        .string(&"k".repeat(70_000))
        .u32(U32)
        .u32(1);
    assert_fault!(
        bytes.fault(),
        Fault::KeyTooLong {
            index: 0,
            length: 70_000,
            most: 65_535
        }
    );
}

#[test]
fn a_key_that_ends_outside_the_file() {
    let bytes = Bytes::header(3, 0, 1).u64(9_000).raw(&[b'a'; 20]);
    assert_fault!(
        bytes.fault(),
        Fault::Truncated {
            place: Place::Key(0),
            needed: 9_000,
            left: 20
        }
    );
}

#[test]
fn a_key_that_is_not_utf8() {
    let bytes = Bytes::header(3, 0, 1)
        .u64(3)
        .raw(b"a\xff\xfe")
        .u32(U32)
        .u32(1);
    assert_fault!(
        bytes.fault(),
        Fault::InvalidUtf8 {
            place: Place::Key(0),
            at: 1
        }
    );
}

#[test]
fn a_value_type_that_does_not_exist() {
    assert_fault!(
        key("odd", 13).raw(&[0; 16]).fault(),
        Fault::UnknownValueType { key, id: 13 } if key == "odd"
    );
}

#[test]
fn a_value_that_ends_outside_the_file() {
    let bytes = key("a-long-enough-name", 12).raw(&[0; 5]);
    assert_fault!(
        bytes.fault(),
        Fault::Truncated { place: Place::Value(key), needed: 8, left: 5 } if key == "a-long-enough-name"
    );
}

// CVE-2025-66959 and -66960.
#[test]
fn a_string_longer_than_the_file() {
    for length in [17, 1 << 40, u64::MAX - 7, u64::MAX] {
        let bytes = key("general.name", STRING).u64(length).raw(&[b'x'; 16]);
        assert_fault!(
            bytes.fault(),
            Fault::StringTooLong { key, length: found, left: 16, .. } if key == "general.name" && found == length
        );
    }
}

#[test]
fn an_array_longer_than_the_file() {
    for (element, count) in [
        (U32, 5),
        (U8, 17),
        (STRING, 3),
        (U32, 1 << 62),
        (BOOL, u64::MAX),
    ] {
        let bytes = key("tokens", ARRAY).u32(element).u64(count).raw(&[0; 16]);
        assert_fault!(
            bytes.fault(),
            Fault::ArrayTooLong { key, count: found, left: 16, .. } if key == "tokens" && found == count
        );
    }
}

#[test]
fn a_string_in_an_array_longer_than_the_file() {
    let bytes = key("tokens", ARRAY)
        .u32(STRING)
        .u64(2)
        .string("fine")
        .u64(u64::MAX);
    assert_fault!(
        bytes.fault(),
        Fault::StringTooLong { key, length: u64::MAX, .. } if key == "tokens"
    );
}

#[test]
fn an_array_of_arrays() {
    let bytes = key("nested", ARRAY)
        .u32(ARRAY)
        .u64(1)
        .u32(U32)
        .u64(1)
        .u32(5);
    assert_fault!(bytes.fault(), Fault::NestedArray { key } if key == "nested");
}

#[test]
fn an_array_of_a_type_that_does_not_exist() {
    let bytes = key("odd", ARRAY).u32(99).u64(1).raw(&[0; 16]);
    assert_fault!(bytes.fault(), Fault::UnknownValueType { id: 99, .. });
}

#[test]
fn a_token_that_is_not_utf8() {
    let bytes = key("tokens", ARRAY)
        .u32(STRING)
        .u64(2)
        .string("ok")
        .u64(2)
        .raw(b"\xc3\x28");
    // Byte 18 of the array's contents: 8 + 2 for the first token, 8 for the length of the second.
    assert_fault!(
        bytes.fault(),
        Fault::InvalidUtf8 { place: Place::Value(key), at: 18 } if key == "tokens"
    );
}

#[test]
fn a_path_cut_inside_a_character_is_no_reason_to_refuse_a_model() {
    let gguf = key("quantize.imatrix.file", STRING)
        .u64(3)
        .raw(b"a\xe2\x82")
        .open();
    let value = gguf.metadata().string("quantize.imatrix.file").unwrap();
    assert_eq!(value, "a\u{fffd}");
}

// llama.cpp #26690 and #20735: reading an array as if it had another type.
#[test]
fn an_array_of_another_element_type_than_asked_for() {
    let scores = key("tokenizer.ggml.scores", ARRAY)
        .u32(U8)
        .u64(4)
        .raw(&[1; 4])
        .open();
    let error = scores.metadata().f32s("tokenizer.ggml.scores").unwrap_err();
    assert_fault!(
        fault_of(error),
        Fault::WrongType { expected, found, .. } if expected == "array of f32" && found == "array of u8"
    );
    let error = scores
        .metadata()
        .strings("tokenizer.ggml.scores")
        .err()
        .unwrap();
    assert_fault!(fault_of(error), Fault::WrongType { .. });
    let error = scores.metadata().u32("tokenizer.ggml.scores").unwrap_err();
    assert_fault!(fault_of(error), Fault::WrongType { .. });
}

#[test]
fn any_byte_but_zero_is_true() {
    let gguf = key("flag.name", BOOL).u8(7).open();
    assert!(gguf.metadata().bool("flag.name").unwrap());
}

// llama.cpp #26318 and the like.
#[test]
fn an_alignment_of_zero_of_no_power_of_two_or_huge() {
    for number in [0, 3, 48, 1 << 25, 1 << 31, u32::MAX] {
        assert_fault!(
            key("general.alignment", U32).u32(number).fault(),
            Fault::BadAlignment { alignment, .. } if alignment == u64::from(number)
        );
    }
    assert_fault!(
        key("general.alignment", I32).u32(32).fault(),
        Fault::WrongType { key, .. } if key == "general.alignment"
    );
}
