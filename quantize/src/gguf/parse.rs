//! One file's bytes into keys and tensor records, believing nothing.
//!
//! Every count and length is compared with the bytes that are left before anything is allocated, so refusing a bad
//! file costs no more memory than the metadata that it really has.

mod metadata;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::align_up;
use super::error::{Error, Fault, Place, Result};
use super::foreign::TensorType;
use super::layout::{MAX_DIMS, MAX_NAME_BYTES};
use super::metadata::Metadata;
use super::read::Backing;

/// No model comes near these; they bound what a file that is huge only on paper can make us allocate.
const MAX_KEYS: u64 = 1 << 12;
const MAX_TENSORS: u64 = 1 << 17;

/// What stands in one file.
pub(super) struct Parsed {
    pub version: u32,
    pub alignment: u64,
    pub metadata: Metadata,
    pub tensors: Vec<Record>,
}

/// What a file says about one tensor, checked.
pub(super) struct Record {
    pub name: Box<str>,
    pub tensor_type: TensorType,
    pub dims: [u64; MAX_DIMS],
    pub dim_count: u8,
    /// Which file of a split model it lies in, counted from 0.
    pub part: u16,
    /// Where its bytes begin, counted from the beginning of the file.
    pub start: u64,
    pub size: u64,
}

impl Record {
    pub fn dims(&self) -> &[u64] {
        &self.dims[..usize::from(self.dim_count)]
    }
}

/// Reads everything before the tensors' bytes, and checks that these are where they are said to be.
pub(super) fn parse(backing: &Arc<Backing>, path: &Path) -> Result<Parsed> {
    let mut parser = Parser {
        backing,
        bytes: backing.bytes(),
        at: 0,
    };
    parser.file(path).map_err(|fault| Error::new(path, fault))
}

struct Parser<'a> {
    backing: &'a Arc<Backing>,
    bytes: &'a [u8],
    at: usize,
}

type Parse<T> = std::result::Result<T, Fault>;

impl<'a> Parser<'a> {
    fn file(&mut self, path: &Path) -> Parse<Parsed> {
        let (version, tensor_count, key_count) = self.header()?;
        let entries = self.keys(key_count)?;
        let alignment = metadata::alignment(&entries)?;
        let mut tensors = self.records(tensor_count)?;
        self.place(&mut tensors, alignment)?;
        Ok(Parsed {
            version,
            alignment,
            metadata: Metadata::from_file(entries, path),
            tensors,
        })
    }

    fn header(&mut self) -> Parse<(u32, u64, u64)> {
        let magic = self.bytes.get(..4).unwrap_or(self.bytes);
        if magic != b"GGUF" {
            let found = &self.bytes[..self.bytes.len().min(9)];
            return Err(Fault::NotGguf {
                found: found.to_vec(),
            });
        }
        self.at = 4;
        let header = || Place::Header;
        let version = self.u32(header)?;
        match version {
            2 | 3 => {}
            // A small number with its bytes swapped.
            _ if version & 0xffff == 0 && version != 0 => return Err(Fault::BigEndian { version }),
            _ => return Err(Fault::Version { version }),
        }
        let tensor_count = self.u64(header)?;
        let key_count = self.u64(header)?;
        // The least a key takes: length, one byte of name, type, one byte of value. The least a tensor takes: length,
        // one byte of name, number of dimensions, type, offset.
        let most_keys = (self.left() / 14).min(MAX_KEYS);
        if key_count > most_keys {
            return Err(Fault::TooManyKeys {
                count: key_count,
                most: most_keys,
            });
        }
        let most_tensors = (self.left() / 25).min(MAX_TENSORS);
        if tensor_count > most_tensors {
            return Err(Fault::TooManyTensors {
                count: tensor_count,
                most: most_tensors,
            });
        }
        Ok((version, tensor_count, key_count))
    }

    fn records(&mut self, count: u64) -> Parse<Vec<Record>> {
        let mut records = Vec::new();
        let mut seen = HashSet::new();
        for index in 0..count {
            let name = self.tensor_name(index)?;
            if !seen.insert(name) {
                return Err(Fault::DuplicateTensor {
                    name: name.to_owned(),
                });
            }
            records.push(self.record(name)?);
        }
        Ok(records)
    }

    fn tensor_name(&mut self, index: u64) -> Parse<&'a str> {
        let place = || Place::TensorName(index);
        let length = self.u64(place)?;
        if length == 0 {
            return Err(Fault::EmptyTensorName { index });
        }
        let bytes = self.take(length, place)?;
        if length > MAX_NAME_BYTES as u64 {
            return Err(Fault::TensorNameTooLong {
                name: String::from_utf8_lossy(&bytes[..MAX_NAME_BYTES]).into_owned() + "…",
                length,
                most: MAX_NAME_BYTES as u64,
            });
        }
        std::str::from_utf8(bytes).map_err(|error| Fault::InvalidUtf8 {
            place: place(),
            at: error.valid_up_to(),
        })
    }

    /// Everything of a record after the name. `start` is still relative to the first tensor's bytes.
    fn record(&mut self, name: &str) -> Parse<Record> {
        let place = || Place::Tensor(name.to_owned());
        let dim_count = self.u32(place)?;
        if dim_count as usize > MAX_DIMS {
            return Err(Fault::TooManyDims {
                name: name.to_owned(),
                count: dim_count,
                most: MAX_DIMS as u32,
            });
        }
        let mut all_dims = [1; MAX_DIMS];
        let dims = &mut all_dims[..dim_count as usize];
        for dim in &mut *dims {
            *dim = self.u64(place)?;
        }
        let id = self.u32(place)?;
        let start = self.u64(place)?;
        let tensor_type = TensorType::from_id(id).map_err(|hint| Fault::UnknownType {
            name: name.to_owned(),
            id,
            hint,
        })?;
        let size = super::layout::tensor_size(name, tensor_type, dims)?;
        Ok(Record {
            name: name.into(),
            tensor_type,
            dims: all_dims,
            dim_count: dim_count as u8,
            part: 0,
            start,
            size,
        })
    }

    /// Checks that the tensors follow each other without gap or overlap and end inside the file, and makes their
    /// offsets count from the beginning of the file.
    fn place(&self, records: &mut [Record], alignment: u64) -> Parse<()> {
        let file_size = self.bytes.len() as u64;
        let overflow = |record: &Record| Fault::DimsOverflow {
            name: record.name.to_string(),
            dims: record.dims().to_vec(),
        };
        // Cannot overflow: the file's size is far from 2^64 and the alignment is at most 2^24.
        let data_start = align_up(self.at as u64, alignment).unwrap_or(file_size);
        let (mut expected, mut previous) = (0u64, 0u64);
        for record in records {
            let name = || record.name.to_string();
            let offset = record.start;
            if !offset.is_multiple_of(alignment) {
                return Err(Fault::Misaligned {
                    name: name(),
                    offset,
                    alignment,
                });
            }
            if offset != expected {
                return Err(if offset < previous {
                    Fault::OutOfOrder {
                        name: name(),
                        offset,
                        previous,
                    }
                } else if offset < expected {
                    Fault::Overlap {
                        name: name(),
                        offset,
                        expected,
                    }
                } else {
                    Fault::Gap {
                        name: name(),
                        offset,
                        expected,
                    }
                });
            }
            let start = data_start
                .checked_add(offset)
                .ok_or_else(|| overflow(record))?;
            let end = start
                .checked_add(record.size)
                .ok_or_else(|| overflow(record))?;
            if end > file_size {
                return Err(Fault::OutsideFile {
                    name: name(),
                    start,
                    size: record.size,
                    file_size,
                });
            }
            record.start = start;
            previous = offset;
            expected = align_up(offset + record.size, alignment).ok_or_else(|| overflow(record))?;
        }
        Ok(())
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, length: u64, place: impl Fn() -> Place) -> Parse<&'a [u8]> {
        let left = self.left();
        if length > left {
            return Err(Fault::Truncated {
                place: place(),
                needed: length,
                left,
            });
        }
        let start = self.at;
        self.at += length as usize;
        Ok(&self.bytes[start..self.at])
    }

    fn array<const N: usize>(&mut self, place: impl Fn() -> Place) -> Parse<[u8; N]> {
        let bytes = self.take(N as u64, place)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    fn u32(&mut self, place: impl Fn() -> Place) -> Parse<u32> {
        self.array(place).map(u32::from_le_bytes)
    }

    fn u64(&mut self, place: impl Fn() -> Place) -> Parse<u64> {
        self.array(place).map(u64::from_le_bytes)
    }
}
