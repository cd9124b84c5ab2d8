//! Damaged copies of valid files never make the reader panic, hang or read outside the file.

use fourfold_quantize::gguf::{Gguf, Value};
use proptest::prelude::*;

const BASIC: &[u8] = include_bytes!("data/gguf/basic.gguf");
const ALIGNED: &[u8] = include_bytes!("data/gguf/align64.gguf");

/// Opens the file and, if that works, touches everything it holds.
fn walk(bytes: Vec<u8>) {
    let size = bytes.len();
    let Ok(gguf) = Gguf::from_bytes(bytes) else {
        return;
    };
    for (key, value) in gguf.metadata().iter() {
        assert!(!key.is_empty());
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len(), "{key}");
        }
    }
    let mut end = 0;
    for info in gguf.infos() {
        assert!(info.offset >= end, "{} overlaps", info.name);
        end = info.offset + info.bytes.len() as u64;
        let elements: u64 = info.dims.iter().product();
        let blocks = elements / info.tensor_type.block_len;
        assert_eq!(
            info.bytes.len() as u64,
            blocks * info.tensor_type.block_bytes
        );
        // Reads the first and last byte of the map's range.
        let (first, last) = (info.bytes[0], info.bytes[info.bytes.len() - 1]);
        std::hint::black_box((first, last));
    }
    assert!(end <= size as u64);
}

#[test]
fn every_truncation_of_a_file() {
    for file in [BASIC, ALIGNED] {
        for length in 0..file.len() {
            walk(file[..length].to_vec());
        }
        // Without the padding at its end a file is still whole, so the last error is at the last tensor's last byte.
        let gguf = Gguf::from_bytes(file).unwrap();
        let last = gguf.infos().last().unwrap();
        let end = last.offset as usize + last.bytes.len();
        assert!(Gguf::from_bytes(&file[..end - 1]).is_err());
        assert!(Gguf::from_bytes(&file[..end]).is_ok());
    }
}

#[test]
fn every_byte_of_the_header_at_its_extremes() {
    for at in 0..BASIC.len().min(928) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = BASIC.to_vec();
            bytes[at] = value;
            walk(bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bit_flips(flips in prop::collection::vec((0..BASIC.len(), 0u8..8), 1..12)) {
        let mut bytes = BASIC.to_vec();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        walk(bytes);
    }

    #[test]
    fn numbers_written_over(
        writes in prop::collection::vec((0..BASIC.len() - 8, prop::sample::select(NUMBERS)), 1..6),
    ) {
        let mut bytes = BASIC.to_vec();
        for (at, number) in writes {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        walk(bytes);
    }

    #[test]
    fn splices_of_two_files(
        from in 0..ALIGNED.len(),
        length in 0usize..400,
        to in 0..BASIC.len(),
        replaced in 0usize..400,
    ) {
        let mut bytes = BASIC.to_vec();
        let piece = &ALIGNED[from..(from + length).min(ALIGNED.len())];
        let end = (to + replaced).min(bytes.len());
        bytes.splice(to..end, piece.iter().copied());
        walk(bytes);
    }
}

const NUMBERS: &[u64] = &[
    0,
    1,
    31,
    33,
    0xff,
    0xffff,
    0xffff_ffff,
    1 << 31,
    1 << 40,
    1 << 62,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];
