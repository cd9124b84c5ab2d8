//! The older `.dat` form: entries one after the other, without a magic number to recognize it by.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{Entry, Fault, Imatrix, Result, checked, floats};

/// The least an entry takes: three numbers and an empty name.
const SMALLEST_ENTRY: u64 = 12;

impl Imatrix {
    /// Reads the older form.
    pub fn from_legacy(bytes: &[u8]) -> Result<Imatrix> {
        let mut parser = Parser { bytes };
        let count = parser.number("the number of entries", SMALLEST_ENTRY)?;
        if count == 0 {
            let why = "it has no entries".to_owned();
            return Err(Fault::NotLegacy { why });
        }
        let mut entries = HashMap::new();
        for index in 0..count {
            let (name, entry) = parser.entry(index)?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(Fault::Duplicate { name });
            }
        }
        // Both are missing in the oldest files.
        let mut imatrix = Imatrix {
            path: PathBuf::new(),
            entries,
            datasets: Vec::new(),
            chunks: None,
        };
        if !parser.bytes.is_empty() {
            let chunks = parser.i32(|| "the number of chunks".to_owned())?;
            imatrix.chunks = u32::try_from(chunks).ok();
        }
        if !parser.bytes.is_empty() {
            let length = parser.number("the length of the dataset's name", 1)?;
            let name = parser.take(length, || "the dataset's name".to_owned())?;
            let name = String::from_utf8_lossy(name).into_owned();
            imatrix.datasets.push(name);
        }
        Ok(imatrix)
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
}

impl<'a> Parser<'a> {
    fn entry(&mut self, index: u64) -> Result<(String, Entry)> {
        let length = self.number(&format!("the length of name {index}"), 1)?;
        let name = self.take(length, || format!("name {index}"))?;
        let name = match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() => name.to_owned(),
            _ => {
                let why = format!("name {index} is empty or not UTF-8");
                return Err(Fault::NotLegacy { why });
            }
        };
        let calls_place = || format!("the number of calls of {name:?}");
        let calls = self.i32(calls_place)?;
        if calls < 0 {
            return Err(self.bad_number(calls_place(), calls));
        }
        let count = self.number(&format!("the number of values of {name:?}"), 4)?;
        if count == 0 {
            return Err(self.bad_number(format!("the number of values of {name:?}"), 0));
        }
        let values = self.take(count * 4, || format!("the values of {name:?}"))?;
        let mut values: Vec<f32> = floats(values).collect();
        if calls > 0 {
            let calls = calls as f32;
            values.iter_mut().for_each(|value| *value /= calls);
        }
        let entry = checked(&name, values)?;
        Ok((name, entry))
    }

    /// A count of things that take at least `smallest` bytes each, checked against what is left.
    fn number(&mut self, place: &str, smallest: u64) -> Result<u64> {
        let number = self.i32(|| place.to_owned())?;
        match u64::try_from(number) {
            Ok(count) if count <= self.bytes.len() as u64 / smallest => Ok(count),
            _ => Err(self.bad_number(place.to_owned(), number)),
        }
    }

    fn bad_number(&self, place: String, number: i32) -> Fault {
        Fault::BadNumber {
            place,
            number: number.into(),
            left: self.bytes.len() as u64,
        }
    }

    fn i32(&mut self, place: impl Fn() -> String) -> Result<i32> {
        let bytes = self.take(4, place)?;
        let mut own = [0; 4];
        own.copy_from_slice(bytes);
        Ok(i32::from_le_bytes(own))
    }

    fn take(&mut self, length: u64, place: impl Fn() -> String) -> Result<&'a [u8]> {
        let left = self.bytes.len() as u64;
        if length > left {
            return Err(Fault::Truncated {
                place: place(),
                needed: length,
                left,
            });
        }
        let (taken, rest) = self.bytes.split_at(length as usize);
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &str, calls: i32, values: &[f32]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((name.len() as i32).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(calls.to_le_bytes());
        out.extend((values.len() as i32).to_le_bytes());
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        out
    }

    fn file(entries: &[Vec<u8>], tail: &[u8]) -> Vec<u8> {
        let mut out = (entries.len() as i32).to_le_bytes().to_vec();
        out.extend(entries.concat());
        out.extend(tail);
        out
    }

    fn sample() -> Vec<u8> {
        let entries = [
            entry("a.weight", 2, &[2.0, 4.0]),
            entry("b.weight", 0, &[3.0, 5.0]),
        ];
        file(&entries, b"\x07\0\0\0\x04\0\0\0wiki")
    }

    #[test]
    fn values_are_divided_by_calls() {
        let imatrix = Imatrix::from_legacy(&sample()).unwrap();
        let of = |name| imatrix.importance(name, &[2, 9]).unwrap().unwrap();
        assert_eq!(of("a.weight"), [1.0, 2.0]);
        assert_eq!(of("b.weight"), [3.0, 5.0]);
        assert_eq!(
            (imatrix.chunks(), imatrix.datasets()),
            (Some(7), &["wiki".to_owned()][..])
        );
        // The oldest files end after the entries.
        let old = Imatrix::from_legacy(&file(&[entry("a", 1, &[1.0])], b"")).unwrap();
        assert_eq!((old.chunks(), old.len()), (None, 1));
    }

    #[test]
    fn counts_are_checked_against_the_file_before_allocating() {
        for (bytes, at) in [
            (i32::MAX.to_le_bytes().to_vec(), "number of entries"),
            ((-1i32).to_le_bytes().to_vec(), "number of entries"),
            (
                file(&[[&i32::MAX.to_le_bytes()[..], &[0; 12]].concat()], b""),
                "length of name 0",
            ),
            (file(&[entry("a", -3, &[1.0])], b""), "number of calls"),
            (file(&[entry("a", 3, &[])], b""), "number of values"),
        ] {
            let error = Imatrix::from_legacy(&bytes).unwrap_err();
            assert!(matches!(error, Fault::BadNumber { .. }), "{error}");
            assert!(error.to_string().contains(at), "{error}");
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_refused() {
        let bytes = file(&[entry("a", 1, &[1.0]), entry("a", 1, &[1.0])], b"");
        let error = Imatrix::from_legacy(&bytes).unwrap_err();
        assert!(matches!(error, Fault::Duplicate { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_files_give_errors_and_no_panics(
            cut in 0usize..60,
            flips in prop::collection::vec((0usize..60, any::<u8>()), 0..4),
        ) {
            let mut bytes = sample();
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] ^= byte;
            }
            bytes.truncate(cut);
            if let Ok(imatrix) = Imatrix::from_legacy(&bytes) {
                prop_assert!(!imatrix.is_empty());
            }
        }
    }
}
