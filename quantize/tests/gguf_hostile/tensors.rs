//! Lies about tensors.

use super::*;
use crate::assert_fault;

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
        .tensor("t", &[256], IQ1_S, 0)
        .data(50);
    assert_fault!(
        bytes.fault(),
        Fault::UnsupportedType {
            id: IQ1_S,
            type_name: "IQ1_S",
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
