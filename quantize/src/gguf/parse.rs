//! One file's bytes into keys and tensor records, believing nothing.
//!
//! Every count and length is compared with the bytes that are left before anything is allocated, so refusing a bad
//! file costs no more memory than the metadata that it really has.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::error::{Error, Fault, Place, Result};
use super::foreign::TensorType;
use super::layout::{MAX_DIMS, MAX_NAME_BYTES};
use super::metadata::Metadata;
use super::read::Backing;
use super::value::{Array, Value, ValueType};
use super::{DEFAULT_ALIGNMENT, align_up};

/// No model comes near these; they bound what a file that is huge only on paper can make us allocate.
const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 17;
/// The format's own limit.
const MAX_KEY_BYTES: u64 = u16::MAX as u64;
/// As in llama.cpp.
const MAX_STRING_BYTES: u64 = 1 << 30;
const MAX_ARRAY_LEN: u64 = 1 << 30;
const MAX_ALIGNMENT: u64 = 1 << 24;

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
        let alignment = alignment(&entries)?;
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
            return Err(Fault::NotGguf {
                found: magic.to_vec(),
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

    fn keys(&mut self, count: u64) -> Parse<Vec<(String, Value)>> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        for index in 0..count {
            let key = self.key(index)?;
            if !seen.insert(key) {
                return Err(Fault::DuplicateKey {
                    key: key.to_owned(),
                });
            }
            let value = self.value(key)?;
            entries.push((key.to_owned(), value));
        }
        Ok(entries)
    }

    fn key(&mut self, index: u64) -> Parse<&'a str> {
        let place = || Place::Key(index);
        let length = self.u64(place)?;
        match length {
            0 => Err(Fault::EmptyKey { index }),
            1..=MAX_KEY_BYTES => {
                let bytes = self.take(length, place)?;
                std::str::from_utf8(bytes).map_err(|error| Fault::InvalidUtf8 {
                    place: place(),
                    at: error.valid_up_to(),
                })
            }
            _ => Err(Fault::KeyTooLong {
                index,
                length,
                most: MAX_KEY_BYTES,
            }),
        }
    }

    fn value(&mut self, key: &str) -> Parse<Value> {
        let place = || Place::Value(key.to_owned());
        let value_type = self.value_type(key)?;
        Ok(match value_type {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array(place)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array(place)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array(place)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array(place)?)),
            ValueType::U32 => Value::U32(self.u32(place)?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array(place)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array(place)?)),
            // Any byte but 0 reads as true, as in llama.cpp.
            ValueType::Bool => Value::Bool(self.array::<1>(place)? != [0]),
            ValueType::U64 => Value::U64(self.u64(place)?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array(place)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array(place)?)),
            ValueType::String => {
                let bytes = self.string(key, place)?;
                // llama.cpp cuts long paths at 127 bytes, possibly inside a character: that must not make a model
                // unreadable, so what is broken becomes U+FFFD.
                Value::String(String::from_utf8_lossy(bytes).into_owned())
            }
            ValueType::Array => Value::Array(self.values(key, place)?),
        })
    }

    fn value_type(&mut self, key: &str) -> Parse<ValueType> {
        let id = self.u32(|| Place::Value(key.to_owned()))?;
        ValueType::from_id(id).ok_or_else(|| Fault::UnknownValueType {
            key: key.to_owned(),
            id,
        })
    }

    fn string(&mut self, key: &str, place: impl Fn() -> Place) -> Parse<&'a [u8]> {
        let length = self.u64(&place)?;
        if length > self.left().min(MAX_STRING_BYTES) {
            return Err(Fault::StringTooLong {
                key: key.to_owned(),
                length,
                left: self.left(),
                most: MAX_STRING_BYTES,
            });
        }
        self.take(length, place)
    }

    fn values(&mut self, key: &str, place: impl Fn() -> Place) -> Parse<Array> {
        let element = self.value_type(key)?;
        let count = self.u64(&place)?;
        // A string takes at least the 8 bytes of its length.
        let smallest = match element {
            ValueType::Array => {
                return Err(Fault::NestedArray {
                    key: key.to_owned(),
                });
            }
            other => other.size().unwrap_or(8) as u64,
        };
        if count > (self.left() / smallest).min(MAX_ARRAY_LEN) {
            return Err(Fault::ArrayTooLong {
                key: key.to_owned(),
                element,
                count,
                left: self.left(),
                most: MAX_ARRAY_LEN,
            });
        }
        let start = self.at;
        if element == ValueType::String {
            for _ in 0..count {
                let bytes = self.string(key, &place)?;
                if let Err(error) = std::str::from_utf8(bytes) {
                    return Err(Fault::InvalidUtf8 {
                        place: place(),
                        at: self.at - start - bytes.len() + error.valid_up_to(),
                    });
                }
            }
        } else {
            self.take(count * smallest, place)?;
        }
        Ok(Array::borrowed(
            element,
            count as usize,
            Arc::clone(self.backing),
            start,
            self.at - start,
        ))
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

fn alignment(entries: &[(String, Value)]) -> Parse<u64> {
    let key = "general.alignment";
    match entries.iter().find(|entry| entry.0 == key) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some((_, Value::U32(alignment))) => {
            let alignment = u64::from(*alignment);
            if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
                Ok(alignment)
            } else {
                Err(Fault::BadAlignment {
                    alignment,
                    most: MAX_ALIGNMENT,
                })
            }
        }
        Some((_, other)) => Err(Fault::WrongType {
            key: key.to_owned(),
            expected: ValueType::U32.to_string(),
            found: other.describe(),
        }),
    }
}
