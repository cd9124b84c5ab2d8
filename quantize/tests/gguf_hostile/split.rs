//! Parts of split models that do not belong together.

use super::*;
use crate::assert_fault;

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
    let path = folder.path().join(open);
    memory::within_limit(0, || Gguf::open(&path)).map_err(fault_of)
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
fn more_parts_than_can_be_numbered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m-00001-of-65536.gguf");
    let bytes = Bytes::header(3, 0, 2)
        .string("split.no")
        .u32(U16)
        .u16(0)
        .string("split.count")
        .u32(U32)
        .u32(65_536);
    std::fs::write(&path, bytes.0).unwrap();
    assert_fault!(
        fault_of(Gguf::open(&path).err().unwrap()),
        Fault::PartCount {
            count: 65_536,
            most: 65_535
        }
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_instead_of_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Bytes::header(3, 0, 3)
        .string("split.no")
        .u32(U16)
        .u16(0)
        .string("split.count")
        .u32(U16)
        .u16(2)
        .string("split.tensors.count")
        .u32(I32)
        .u32(0);
    std::fs::write(folder.path().join(FIRST), bytes.0).unwrap();
    let pipe = folder.path().join(SECOND);
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = Gguf::open(&folder.path().join(FIRST)).err().unwrap();
    assert_eq!(error.path(), pipe);
    assert_fault!(fault_of(error), Fault::NotAFile);
}
