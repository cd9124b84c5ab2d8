//! Every way a GGUF file is known to lie (CVEs of other readers among them) is refused with an error of its own.
//!
//! The files are built byte by byte, because a writer that can be trusted cannot write them.

use fourfold_quantize::gguf::{Error, Fault, Gguf, Place};

const U8: u32 = 0;
const U16: u32 = 2;
const U32: u32 = 4;
const I32: u32 = 5;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

const F32: u32 = 0;
const Q8_0: u32 = 8;
const Q4_K: u32 = 12;
const IQ2_XXS: u32 = 16;

/// Bytes of a GGUF file in the making.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(version: u32, tensors: u64, keys: u64) -> Bytes {
        Bytes(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn string(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    fn tensor(self, name: &str, dims: &[u64], id: u32, offset: u64) -> Self {
        let mut bytes = self.string(name).u32(dims.len() as u32);
        for dim in dims {
            bytes = bytes.u64(*dim);
        }
        bytes.u32(id).u64(offset)
    }

    /// Pads to the alignment and appends that many bytes of tensors.
    fn data(mut self, size: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + size, 0);
        self
    }

    fn fault(self) -> Fault {
        match Gguf::from_bytes(self.0) {
            Ok(_) => panic!("the file was accepted"),
            Err(error) => fault_of(error),
        }
    }

    fn open(self) -> Gguf {
        Gguf::from_bytes(self.0).unwrap()
    }
}

/// The fault, after checking that its message is one readable line.
fn fault_of(error: Error) -> Fault {
    let message = error.to_string();
    assert!(message.len() > 10 && !message.contains('\n'), "{message}");
    error.into_fault()
}

macro_rules! assert_fault {
    ($fault:expr, $($pattern:tt)+) => {
        let fault = $fault;
        let found = format!("{fault:?}");
        assert!(matches!(fault, $($pattern)+), "{found}");
    };
}

/// One key of type u32 before the value, so that the file is long enough for the counts in the header.
fn key(name: &str, value_type: u32) -> Bytes {
    Bytes::header(3, 0, 1).string(name).u32(value_type)
}

// The file as a whole.

#[test]
fn a_file_that_is_not_gguf() {
    assert_fault!(
        Bytes(b"PK\x03\x04....".to_vec()).fault(),
        Fault::NotGguf { .. }
    );
    assert_fault!(Bytes(b"GG".to_vec()).fault(), Fault::NotGguf { .. });
    assert_fault!(Bytes::default().fault(), Fault::NotGguf { .. });
}

#[test]
fn version_1_and_versions_to_come() {
    for number in [0, 1, 4, 77] {
        assert_fault!(
            Bytes::header(number, 0, 0).fault(),
            Fault::Version { version } if version == number
        );
    }
    for number in [2, 3] {
        assert_eq!(Bytes::header(number, 0, 0).open().version(), number);
    }
}

#[test]
fn big_endian() {
    let bytes = Bytes(b"GGUF".to_vec())
        .raw(&3u32.to_be_bytes())
        .raw(&[0; 16]);
    assert_fault!(
        bytes.fault(),
        Fault::BigEndian {
            version: 0x0300_0000
        }
    );
}

#[test]
fn cut_short_in_the_header() {
    assert_fault!(
        Bytes(b"GGUF\x03\0\0\0\0\0".to_vec()).fault(),
        Fault::Truncated {
            place: Place::Header,
            needed: 8,
            left: 2
        }
    );
}

// CVE-2024-23605 and its siblings; Ollama #17042.
#[test]
fn more_keys_than_the_file_has_room_for() {
    for count in [1, 1 << 20, u64::MAX / 2, u64::MAX] {
        assert_fault!(
            Bytes::header(3, 0, count).fault(),
            Fault::TooManyKeys { count: found, most: 0 } if found == count
        );
    }
}

#[test]
fn more_tensors_than_the_file_has_room_for() {
    for count in [2, 1 << 20, 1 << 63, u64::MAX] {
        let bytes = Bytes::header(3, count, 0).tensor("a", &[1], F32, 0).data(4);
        assert_fault!(
            bytes.fault(),
            Fault::TooManyTensors { count: found, most: 1 | 2 } if found == count
        );
    }
}

// Keys and values.

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

// Tensors.

#[test]
fn a_tensor_without_a_name() {
    let bytes = Bytes::header(3, 1, 0).tensor("", &[1], F32, 0).data(4);
    assert_fault!(bytes.fault(), Fault::EmptyTensorName { index: 0 });
}

#[test]
fn a_tensor_name_of_more_than_63_bytes() {
    let bytes = Bytes::header(3, 1, 0)
        .tensor(&"n".repeat(64), &[1], F32, 0)
        .data(4);
    assert_fault!(
        bytes.fault(),
        Fault::TensorNameTooLong {
            length: 64,
            most: 63,
            ..
        }
    );
    let longest = "n".repeat(63);
    let gguf = Bytes::header(3, 1, 0)
        .tensor(&longest, &[1], F32, 0)
        .data(4)
        .open();
    assert!(gguf.tensor(&longest).is_some());
}

#[test]
fn a_tensor_name_that_is_not_utf8() {
    let bytes = Bytes::header(3, 1, 0)
        .u64(2)
        .raw(b"\xc3\x28")
        .u32(1)
        .u64(1)
        .u32(F32)
        .u64(0)
        .data(4);
    assert_fault!(
        bytes.fault(),
        Fault::InvalidUtf8 {
            place: Place::TensorName(0),
            at: 0
        }
    );
}

#[test]
fn a_tensor_that_comes_twice() {
    let bytes = Bytes::header(3, 2, 0)
        .tensor("same", &[8], F32, 0)
        .tensor("same", &[8], F32, 32)
        .data(64);
    assert_fault!(bytes.fault(), Fault::DuplicateTensor { name } if name == "same");
}

// CVE-2024-21802: more dimensions than the reader has room for.
#[test]
fn more_than_four_dimensions() {
    let bytes = Bytes::header(3, 1, 0).tensor("t", &[1; 5], F32, 0).data(4);
    assert_fault!(
        bytes.fault(),
        Fault::TooManyDims {
            count: 5,
            most: 4,
            ..
        }
    );
    let bytes = Bytes::header(3, 1, 0)
        .string("t")
        .u32(u32::MAX)
        .raw(&[0; 64]);
    assert_fault!(
        bytes.fault(),
        Fault::TooManyDims {
            count: u32::MAX,
            ..
        }
    );
}

// llama.cpp #24263: division by a dimension of zero.
#[test]
fn a_dimension_of_zero() {
    for dims in [
        &[0u64][..],
        &[32, 0],
        &[0, 1 << 63],
        &[u64::MAX, u64::MAX, 0],
    ] {
        let bytes = Bytes::header(3, 1, 0).tensor("t", dims, F32, 0).data(128);
        assert_fault!(bytes.fault(), Fault::ZeroDim { dims: found, .. } if found == dims);
    }
}

// CVE-2025-53630, CVE-2026-27940, CVE-2026-33298: sizes that overflow, for every shape of block.
#[test]
fn dimensions_whose_product_or_size_overflows() {
    let (half, quarter) = (1u64 << 32, 1u64 << 31);
    for (dims, id) in [
        (&[1 << 63][..], F32),
        (&[u64::MAX], F32),
        (&[u64::MAX - 31], Q8_0),
        (&[half, half], F32),
        (&[half, quarter], F32),
        (&[half, half], Q8_0),
        (&[half, quarter / 2], Q8_0),
        (&[half, half], Q4_K),
        (&[1 << 20, 1 << 20, 1 << 20, 1 << 20], Q4_K),
        (&[256, 1 << 57], Q4_K),
    ] {
        let bytes = Bytes::header(3, 1, 0).tensor("t", dims, id, 0).data(4096);
        let fault = bytes.fault();
        // The one whose size still fits into 63 bits does not fit into the file.
        assert!(
            matches!(
                fault,
                Fault::DimsOverflow { .. } | Fault::OutsideFile { .. }
            ),
            "{dims:?} of type {id}: {fault:?}"
        );
    }
    let bytes = Bytes::header(3, 1, 0)
        .tensor("t", &[half, half], F32, 0)
        .data(4096);
    assert_fault!(bytes.fault(), Fault::DimsOverflow { .. });
}

#[test]
fn rows_that_are_not_whole_blocks() {
    let bytes = Bytes::header(3, 1, 0)
        .tensor("t", &[2880, 2], Q4_K, 0)
        .data(4096);
    assert_fault!(
        bytes.fault(),
        Fault::PartialBlock {
            columns: 2880,
            block: 256,
            type_name: "Q4_K",
            ..
        }
    );
    // No dimensions mean one element, which is no block either.
    let bytes = Bytes::header(3, 1, 0).tensor("t", &[], Q8_0, 0).data(64);
    assert_fault!(bytes.fault(), Fault::PartialBlock { columns: 1, .. });
}

#[test]
fn a_type_that_does_not_exist() {
    for id in [5, 31, 36, 43, 1000, u32::MAX] {
        let bytes = Bytes::header(3, 1, 0).tensor("t", &[256], id, 0).data(1024);
        assert_fault!(bytes.fault(), Fault::UnknownType { id: found, .. } if found == id);
    }
}

#[test]
fn a_type_that_exists_but_is_not_supported_is_named() {
    let bytes = Bytes::header(3, 1, 0)
        .tensor("t", &[256], IQ2_XXS, 0)
        .data(66);
    assert_fault!(
        bytes.fault(),
        Fault::UnsupportedType {
            id: IQ2_XXS,
            type_name: "IQ2_XXS",
            ..
        }
    );
}

// llama.cpp #15597.
#[test]
fn the_number_that_ollama_gave_mxfp4() {
    let bytes = Bytes::header(3, 1, 0).tensor("t", &[32], 4, 0).data(17);
    let Err(error) = Gguf::from_bytes(bytes.0) else {
        panic!("accepted");
    };
    assert!(error.to_string().contains("Ollama"), "{error}");
}

#[test]
fn an_offset_that_is_not_aligned() {
    let bytes = Bytes::header(3, 1, 0).tensor("t", &[8], F32, 8).data(64);
    assert_fault!(
        bytes.fault(),
        Fault::Misaligned {
            offset: 8,
            alignment: 32,
            ..
        }
    );
}

#[test]
fn tensors_out_of_order() {
    let bytes = Bytes::header(3, 3, 0)
        .tensor("a", &[8], F32, 0)
        .tensor("b", &[8], F32, 32)
        .tensor("c", &[8], F32, 0)
        .data(96);
    assert_fault!(
        bytes.fault(),
        Fault::OutOfOrder { name, offset: 0, previous: 32 } if name == "c"
    );
}

#[test]
fn tensors_that_overlap() {
    let bytes = Bytes::header(3, 2, 0)
        .tensor("a", &[16], F32, 0)
        .tensor("b", &[8], F32, 32)
        .data(128);
    assert_fault!(
        bytes.fault(),
        Fault::Overlap { name, offset: 32, expected: 64 } if name == "b"
    );
}

#[test]
fn a_gap_between_tensors() {
    let bytes = Bytes::header(3, 2, 0)
        .tensor("a", &[8], F32, 0)
        .tensor("b", &[8], F32, 64)
        .data(128);
    assert_fault!(
        bytes.fault(),
        Fault::Gap { name, offset: 64, expected: 32 } if name == "b"
    );
    let bytes = Bytes::header(3, 1, 0).tensor("a", &[8], F32, 32).data(128);
    assert_fault!(
        bytes.fault(),
        Fault::Gap {
            offset: 32,
            expected: 0,
            ..
        }
    );
}

// CVE-2026-7482: the check whose absence let Ollama read, and upload, memory beyond the file.
#[test]
fn a_tensor_that_ends_outside_the_file() {
    let file = Bytes::header(3, 1, 0).tensor("t", &[8], F32, 0);
    assert_fault!(
        file.clone().data(31).fault(),
        Fault::OutsideFile {
            size: 32,
            file_size: 95,
            start: 64,
            ..
        }
    );
    assert_fault!(file.clone().fault(), Fault::OutsideFile { .. });
    assert_eq!(file.data(32).open().tensor("t").unwrap().bytes.len(), 32);
    let bytes = Bytes::header(3, 1, 0)
        .tensor("t", &[1 << 60], F32, 0)
        .data(64);
    assert_fault!(bytes.fault(), Fault::OutsideFile { .. });
}

#[test]
fn an_offset_that_overflows() {
    for offset in [u64::MAX, u64::MAX - 31, 1 << 63] {
        let bytes = Bytes::header(3, 1, 0)
            .tensor("t", &[8], F32, offset)
            .data(64);
        assert_fault!(bytes.fault(), Fault::Gap { .. } | Fault::Misaligned { .. });
    }
}

#[test]
fn the_padding_of_the_last_tensor_may_be_missing() {
    let gguf = Bytes::header(3, 1, 0)
        .tensor("t", &[1], F32, 0)
        .data(4)
        .open();
    assert_eq!(gguf.tensor("t").unwrap().bytes.len(), 4);
}

#[test]
fn a_file_of_metadata_only() {
    let gguf = key("general.architecture", STRING).string("gpt-oss").open();
    assert_eq!(gguf.tensor_count(), 0);
    assert_eq!(gguf.architecture(), Some("gpt-oss"));
}

#[test]
fn the_architecture_that_ollama_writes_is_recognized() {
    let gguf = key("general.architecture", STRING).string("gptoss").open();
    assert!(gguf.is_ollama());
}

// Split models.

/// Writes parts with the given `(split.no, split.count, split.tensors.count, tensor name)`, and opens one of them.
fn split(parts: &[(u16, u16, u32, &str)], names: &[&str], open: &str) -> Result<Gguf, Fault> {
    let folder = tempfile::tempdir().unwrap();
    for ((number, count, tensors, tensor), name) in parts.iter().zip(names) {
        let bytes = Bytes::header(3, 1, 3)
            .string("split.no")
            .u32(U16)
            .u16(*number)
            .string("split.count")
            .u32(U16)
            .u16(*count)
            .string("split.tensors.count")
            .u32(I32)
            .u32(*tensors)
            .tensor(tensor, &[8], F32, 0)
            .data(32);
        std::fs::write(folder.path().join(name), bytes.0).unwrap();
    }
    Gguf::open(&folder.path().join(open)).map_err(fault_of)
}

const FIRST: &str = "m-00001-of-00002.gguf";
const SECOND: &str = "m-00002-of-00002.gguf";

#[test]
fn split_parts_that_agree_are_one_model() {
    let parts = [(0, 2, 2, "a"), (1, 2, 2, "b")];
    let gguf = split(&parts, &[FIRST, SECOND], FIRST).unwrap();
    assert_eq!(gguf.tensor_count(), 2);
}

#[test]
fn a_split_model_opened_from_a_later_part() {
    let parts = [(0, 2, 2, "a"), (1, 2, 2, "b")];
    let fault = split(&parts, &[FIRST, SECOND], SECOND).err().unwrap();
    assert_fault!(
        fault,
        Fault::NotFirstPart { number: 2, count: 2, first } if first.ends_with(FIRST)
    );
}

#[test]
fn a_missing_part() {
    let fault = split(&[(0, 2, 2, "a")], &[FIRST], FIRST).err().unwrap();
    assert_fault!(
        fault,
        Fault::MissingPart { number: 2, count: 2, missing } if missing.ends_with(SECOND)
    );
}

#[test]
fn a_part_that_has_been_renamed() {
    let fault = split(&[(0, 2, 2, "a")], &["model.gguf"], "model.gguf")
        .err()
        .unwrap();
    assert_fault!(fault, Fault::SplitName { count: 2, suffix } if suffix == "-00001-of-00002.gguf");
}

#[test]
fn a_part_with_another_number() {
    let parts = [(0, 2, 2, "a"), (0, 2, 2, "b")];
    let fault = split(&parts, &[FIRST, SECOND], FIRST).err().unwrap();
    assert_fault!(
        fault,
        Fault::SplitNumber {
            expected: 1,
            found: 0
        }
    );
}

#[test]
fn a_part_with_another_count() {
    let parts = [(0, 2, 2, "a"), (1, 3, 2, "b")];
    let fault = split(&parts, &[FIRST, SECOND], FIRST).err().unwrap();
    assert_fault!(
        fault,
        Fault::SplitCount {
            expected: 2,
            found: 3
        }
    );
}

#[test]
fn parts_with_another_number_of_tensors() {
    for count in [1, 3, u32::MAX] {
        let parts = [(0, 2, count, "a"), (1, 2, count, "b")];
        let fault = split(&parts, &[FIRST, SECOND], FIRST).err().unwrap();
        assert_fault!(fault, Fault::SplitTensors { found: 2, .. });
    }
}

#[test]
fn parts_that_repeat_a_tensor() {
    let parts = [(0, 2, 2, "a"), (1, 2, 2, "a")];
    let fault = split(&parts, &[FIRST, SECOND], FIRST).err().unwrap();
    assert_fault!(fault, Fault::DuplicateTensor { name } if name == "a");
}

#[test]
fn counts_of_zero_and_one_mean_a_whole_model() {
    for count in [0, 1] {
        let gguf = split(&[(0, count, 1, "a")], &["merged.gguf"], "merged.gguf").unwrap();
        assert_eq!(gguf.tensor_count(), 1);
    }
}

#[test]
fn a_folder_instead_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = Gguf::open(folder.path()).err().unwrap();
    assert_fault!(fault_of(error), Fault::NotAFile);
    let error = Gguf::open(&folder.path().join("absent")).err().unwrap();
    assert_fault!(fault_of(error), Fault::Io { .. });
}
