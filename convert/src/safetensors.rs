//! One safetensors file: its header is read and checked in full before any tensor of it is touched.
//!
//! Why not the crate `safetensors`: it gives no file or tensor name in most of its errors, rejects a header
//! with an unknown data type as bad JSON, and lets the last of two tensors of one name win.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use fourfold_quantize::file;
use memmap2::Mmap;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::{Error, Result};

/// The format's own limit on the length of a header.
const MAX_HEADER: u64 = 100_000_000;

/// Element types of a checkpoint that this program reads; the names are the format's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SourceType {
    U8,
    BF16,
    F16,
    F32,
}

impl SourceType {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "U8" => Self::U8,
            "BF16" => Self::BF16,
            "F16" => Self::F16,
            "F32" => Self::F32,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::BF16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Whether its elements are numbers, not packed codes.
    pub fn is_float(self) -> bool {
        self != Self::U8
    }
}

/// One tensor of a header: where it lies and what its bytes are.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// The element type as the file spells it; may be one that [`SourceType`] does not know.
    pub dtype_name: String,
    /// Dimensions, slowest first.
    pub shape: Vec<u64>,
    /// First byte and the byte after the last, from the start of the file.
    pub range: (u64, u64),
}

impl Record {
    /// The element type, if this program reads it.
    pub fn dtype(&self) -> Option<SourceType> {
        SourceType::from_name(&self.dtype_name)
    }
}

/// A mapped file and the tensors in it.
#[derive(Debug)]
pub struct Shard {
    /// Where it is.
    pub path: PathBuf,
    /// Its tensors, in the order of the header.
    pub records: Vec<Record>,
    map: Mmap,
}

impl Shard {
    /// Reads the header and checks every record against the length of the file.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, length) = file::open_regular(path).map_err(Error::io(path))?;
        let records = read_header(path, &mut file, length)?;
        // SAFETY: the map is read-only and lives as long as the shard. Another program that shortens the
        // file meanwhile can end this one with a bus error, as with any mapped file; it cannot corrupt it.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            records,
            map,
        })
    }

    /// The bytes of one of this shard's records.
    pub fn bytes(&self, record: &Record) -> &[u8] {
        &self.map[record.range.0 as usize..record.range.1 as usize]
    }
}

fn read_header(path: &Path, file: &mut File, length: u64) -> Result<Vec<Record>> {
    let mut prefix = [0; 8];
    if length < 8 {
        let message =
            format!("is {length} bytes long, too short for safetensors; download it again");
        return Err(Error::file(path, message));
    }
    file.read_exact(&mut prefix).map_err(Error::io(path))?;
    if prefix.starts_with(b"version ") {
        let message = "is a Git LFS pointer, not the weights; run `git lfs pull`, or download with `hf download`";
        return Err(Error::file(path, message));
    }
    let header_length = u64::from_le_bytes(prefix);
    if header_length > MAX_HEADER || header_length > length - 8 {
        let message = format!(
            "is not safetensors or is cut short: its header would be {header_length} bytes long in a file of {length}; download it again"
        );
        return Err(Error::file(path, message));
    }
    let mut text = vec![0; header_length as usize];
    file.read_exact(&mut text).map_err(Error::io(path))?;
    let Header(entries) = serde_json::from_slice(&text).map_err(Error::json(path))?;

    let data_start = 8 + header_length;
    let mut records = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        records.push(check_record(path, name, entry, data_start)?);
    }
    check_layout(path, &records, length)?;
    Ok(records)
}

fn check_record(path: &Path, name: String, entry: Entry, data_start: u64) -> Result<Record> {
    let refuse = |message: String| Err(Error::tensor(path, &name, message));
    let [begin, end] = entry.data_offsets;
    let (Some(first), Some(last)) = (data_start.checked_add(begin), data_start.checked_add(end))
    else {
        return refuse(format!("has impossible offsets {begin} to {end}"));
    };
    if begin > end {
        return refuse(format!("ends before it begins: offsets {begin} to {end}"));
    }
    let elements = entry
        .shape
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim));
    if let Some(dtype) = SourceType::from_name(&entry.dtype) {
        let expected = elements.and_then(|count| count.checked_mul(dtype.bytes()));
        if expected != Some(end - begin) {
            return refuse(format!(
                "has {} bytes, but {} of shape {:?} needs {}",
                end - begin,
                entry.dtype,
                entry.shape,
                expected.map_or("more than any file holds".into(), |bytes| bytes.to_string())
            ));
        }
    }
    Ok(Record {
        name,
        dtype_name: entry.dtype,
        shape: entry.shape,
        range: (first, last),
    })
}

/// No tensor reaches past the end, and no two share a byte.
fn check_layout(path: &Path, records: &[Record], length: u64) -> Result<()> {
    let mut by_place: Vec<&Record> = records.iter().collect();
    by_place.sort_by_key(|record| record.range);
    let needed = by_place.iter().map(|record| record.range.1).max();
    if let Some(record) = by_place.iter().find(|record| record.range.1 > length) {
        let message = format!(
            "reaches to byte {} of a file that has {length} (the header describes {}); the download is incomplete, fetch this file again",
            record.range.1,
            needed.unwrap_or(0),
        );
        return Err(Error::tensor(path, &record.name, message));
    }
    for pair in by_place.windows(2) {
        if pair[1].range.0 < pair[0].range.1 {
            let message = format!("overlaps tensor {:?}", pair[0].name);
            return Err(Error::tensor(path, &pair[1].name, message));
        }
    }
    let mut names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::tensor(path, pair[0], "is described twice")),
        None => Ok(()),
    }
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's entries in file order; a JSON map type would silently drop a doubled name.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(header: &str, data: usize) -> Result<Shard> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        std::fs::write(&path, bytes).unwrap();
        Shard::open(&path)
    }

    fn refusal(header: &str, data: usize) -> String {
        open(header, data).unwrap_err().to_string()
    }

    #[test]
    fn reads_what_is_well_formed_in_any_order() {
        let shard = open(
            r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[3,11]},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}   "#,
            11,
        )
        .unwrap();
        assert_eq!(shard.records[0].name, "b");
        assert_eq!(shard.records[0].dtype(), Some(SourceType::BF16));
        assert_eq!(shard.bytes(&shard.records[1]), [7; 3]);
    }

    #[test]
    fn refuses_every_way_a_header_can_lie() {
        let cases = [
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                3,
                "`a` reaches to byte",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
                4,
                "`a` ends before it begins",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}"#,
                4,
                "`a` has 4 bytes, but F32 of shape [4] needs 16",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
                4,
                "needs more than any file holds",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[18446744073709551612,18446744073709551615]}}"#,
                4,
                "impossible offsets",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}"#,
                5,
                "`b` overlaps tensor `a`",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#,
                4,
                "`a` is described twice",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}}"#,
                4,
                "not the JSON that was expected",
            ),
            (r#"[1,2]"#, 4, "a map of tensors"),
        ];
        for (header, data, expected) in cases {
            let found = refusal(header, data).replace('"', "`");
            assert!(found.contains(expected), "{header}: {found}");
            assert!(found.contains("model.safetensors"), "{found}");
        }
    }

    #[test]
    fn refuses_a_header_longer_than_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for (bytes, expected) in [
            (&b"abc"[..], "3 bytes long"),
            (&u64::MAX.to_le_bytes()[..], "cut short"),
            (
                &b"version https://git-lfs.github.com/spec/v1\n"[..],
                "git lfs pull",
            ),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let found = Shard::open(&path).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
    }
}
