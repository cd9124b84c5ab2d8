//! Metadata: an ordered list of keys and values, with getters that say what is wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, Fault, Result};
use super::value::{Scalar, Strings, Value, ValueType};

/// Keys and their values, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(Arc<str>, Value)>,
    /// Where in `entries` each key stands: a file may have 4,096, and something to look up for each of them.
    places: HashMap<Arc<str>, usize>,
    /// The file they come from, for messages; empty for metadata made in memory.
    origin: PathBuf,
}

impl Metadata {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn from_file(entries: Vec<(String, Value)>, origin: &Path) -> Self {
        let mut metadata = Metadata {
            origin: origin.to_owned(),
            ..Metadata::new()
        };
        for (key, value) in entries {
            metadata.set(key, value);
        }
        metadata
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let place = *self.places.get(key)?;
        Some(&self.entries[place].1)
    }

    /// Gives a key a value, in its old place if it has one and at the end otherwise.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.places.get(&*key) {
            Some(&place) => self.entries[place].1 = value,
            None => {
                let key: Arc<str> = key.into();
                self.places.insert(Arc::clone(&key), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let removed = self.places.remove(key)?;
        for place in self.places.values_mut().filter(|place| **place > removed) {
            *place -= 1;
        }
        Some(self.entries.remove(removed).1)
    }

    /// Gives the keys that begin so another beginning.
    pub(super) fn rename_prefix(&mut self, old: &str, new: &str) {
        let entries = std::mem::take(&mut self.entries);
        self.places.clear();
        for (key, value) in entries {
            match key.strip_prefix(old) {
                Some(rest) => self.set(format!("{new}{rest}"), value),
                None => self.set(&*key, value),
            }
        }
    }

    /// The value of a key that must hold a whole number from 0 to 2³²-1, of any integer type.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.integer(key, ValueType::U32)
    }

    /// As [`Metadata::u32`], for 64 bits.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.integer(key, ValueType::U64)
    }

    /// As [`Metadata::u32`], for 64 bits with a sign.
    pub fn i64(&self, key: &str) -> Result<i64> {
        self.integer(key, ValueType::I64)
    }

    /// The value of a key that must hold an f32 (or an f64, which is rounded).
    pub fn f32(&self, key: &str) -> Result<f32> {
        match self.require(key)? {
            Value::F32(value) => Ok(*value),
            Value::F64(value) => Ok(*value as f32),
            other => Err(self.wrong_type(key, "f32", other)),
        }
    }

    /// The value of a key that must hold true or false.
    pub fn bool(&self, key: &str) -> Result<bool> {
        match self.require(key)? {
            Value::Bool(value) => Ok(*value),
            other => Err(self.wrong_type(key, "bool", other)),
        }
    }

    /// The value of a key that must hold a string.
    pub fn string(&self, key: &str) -> Result<&str> {
        match self.require(key)? {
            Value::String(value) => Ok(value),
            other => Err(self.wrong_type(key, "string", other)),
        }
    }

    /// The values of a key that must hold an array of strings.
    pub fn strings(&self, key: &str) -> Result<Strings<'_>> {
        let value = self.require(key)?;
        match value {
            Value::Array(array) => array.strings(),
            _ => None,
        }
        .ok_or_else(|| self.wrong_type(key, "array of string", value))
    }

    /// The values of a key that must hold an array of i32.
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>> {
        self.values(key)
    }

    /// The values of a key that must hold an array of f32.
    pub fn f32s(&self, key: &str) -> Result<Vec<f32>> {
        self.values(key)
    }

    /// The values of a key that must hold an array of exactly this type.
    pub fn values<T: Scalar>(&self, key: &str) -> Result<Vec<T>> {
        match self.require(key)? {
            Value::Array(array) if array.element() == T::TYPE => {
                Ok(array.values().into_iter().flatten().collect())
            }
            other => Err(self.wrong_type(key, &format!("array of {}", T::TYPE), other)),
        }
    }

    fn require(&self, key: &str) -> Result<&Value> {
        self.get(key).ok_or_else(|| {
            self.error(Fault::MissingKey {
                key: key.to_owned(),
            })
        })
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, expected: ValueType) -> Result<T> {
        let value = self.require(key)?;
        let number = value
            .integer()
            .ok_or_else(|| self.wrong_type(key, expected.name(), value))?;
        T::try_from(number).map_err(|_| {
            self.error(Fault::OutOfRange {
                key: key.to_owned(),
                value: number.to_string(),
                expected,
            })
        })
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.error(Fault::WrongType {
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.describe(),
        })
    }

    fn error(&self, fault: Fault) -> Error {
        Error::new(&self.origin, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Array;
    use super::*;

    #[test]
    fn getters_name_the_key_and_both_types() {
        let mut metadata = Metadata::new();
        metadata.set("count", 7i32);
        metadata.set("negative", -1i32);
        metadata.set("tokens", Array::of_strings(["a", "", "Ġthe"]));
        assert_eq!(metadata.u32("count").unwrap(), 7);
        let tokens: Vec<_> = metadata.strings("tokens").unwrap().collect();
        assert_eq!(tokens, ["a", "", "Ġthe"]);

        let message = |error: Error| error.to_string();
        assert_eq!(
            message(metadata.f32("count").unwrap_err()),
            "key \"count\" should be f32 and is i32"
        );
        assert_eq!(
            message(metadata.i32s("tokens").unwrap_err()),
            "key \"tokens\" should be array of i32 and is array of string"
        );
        assert_eq!(
            message(metadata.u32("negative").unwrap_err()),
            "key \"negative\" is -1, which does not fit into u32"
        );
        assert!(matches!(
            metadata.string("absent").unwrap_err().fault(),
            Fault::MissingKey { key } if key == "absent"
        ));
    }

    #[test]
    fn setting_keeps_the_place_of_a_key() {
        let mut metadata = Metadata::new();
        metadata.set("a", 1u32);
        metadata.set("b", true);
        metadata.set("a", "text");
        let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(metadata.remove("a"), Some(Value::from("text")));
        assert_eq!(metadata.len(), 1);
        assert_eq!(metadata.get("a"), None);
        assert!(metadata.bool("b").unwrap());
        metadata.set("a", 2u32);
        let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["b", "a"]);
    }

    /// Going through all keys for each of them, this takes minutes.
    #[test]
    fn looking_up_every_key_takes_no_longer_with_many() {
        let mut metadata = Metadata::new();
        let key = |index: u32| format!("tokenizer.ggml.{index:06}_token_id");
        for index in 0..300_000 {
            metadata.set(key(index), index);
        }
        for index in 0..300_000 {
            assert_eq!(metadata.u32(&key(index)).unwrap(), index);
        }
    }
}
