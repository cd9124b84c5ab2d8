//! What stands between a GGUF file's header and its tensors: keys with values of some type.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Parse, Parser};
use crate::gguf::DEFAULT_ALIGNMENT;
use crate::gguf::error::{Fault, Place};
use crate::gguf::value::{Array, Value, ValueType};

/// The format's own limit.
const MAX_KEY_BYTES: u64 = u16::MAX as u64;
/// As in llama.cpp.
const MAX_STRING_BYTES: u64 = 1 << 30;
const MAX_ARRAY_LEN: u64 = 1 << 30;
const MAX_ALIGNMENT: u64 = 1 << 24;

impl<'a> Parser<'a> {
    /// All keys with their values.
    pub fn keys(&mut self, count: u64) -> Parse<Vec<(String, Value)>> {
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
}

/// What the offsets of tensors are multiples of.
pub fn alignment(entries: &[(String, Value)]) -> Parse<u64> {
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
