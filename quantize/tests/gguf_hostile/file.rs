//! Lies about the file as a whole.

use super::*;
use crate::assert_fault;

#[test]
fn a_file_that_is_not_gguf() {
    assert_fault!(
        Bytes(b"PK\x03\x04....".to_vec()).fault(),
        Fault::NotGguf { .. }
    );
    for (bytes, expected) in [
        (
            &b"\x7fELF\x02\x01"[..],
            r#"it begins with "\x7fELF" instead of "GGUF""#,
        ),
        (b"GG", "it ends after \"GG\""),
        (b"", "it is empty"),
    ] {
        let fault = Bytes(bytes.to_vec()).fault();
        assert!(fault.to_string().contains(expected), "{fault}");
    }
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

#[test]
fn a_folder_instead_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = Gguf::open(folder.path()).err().unwrap();
    assert_fault!(fault_of(error), Fault::NotAFile);
    let error = Gguf::open(&folder.path().join("absent")).err().unwrap();
    assert_fault!(fault_of(error), Fault::Io { .. });
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let error = Gguf::open(folder.path()).err().unwrap();
    assert_fault!(fault_of(error), Fault::Checkpoint);
}

#[test]
fn what_people_take_for_a_gguf_file_is_called_by_its_name() {
    for (content, name) in [
        (&b"version https"[..], "Git LFS"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x40\0\0\0\0\0\0\0{\"a\"", "a safetensors file"),
        (b"PK\x03\x04.....", "begins with \"PK"),
    ] {
        let fault = Bytes(content.to_vec()).fault();
        assert!(fault.to_string().contains(name), "{fault}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_instead_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("model.gguf");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Nobody writes to it: waiting would have no end.
    assert_fault!(fault_of(Gguf::open(&pipe).err().unwrap()), Fault::NotAFile);
    let zeros = Gguf::open(std::path::Path::new("/dev/zero")).err().unwrap();
    assert_fault!(fault_of(zeros), Fault::NotAFile);
}
