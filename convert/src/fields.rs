//! The fields of a configuration in JSON, and errors that name them.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Largest accepted value of any count: no gpt-oss comes near, and products of three stay far from overflow.
const MAX_COUNT: u64 = 1 << 20;

/// The JSON object and the path to name in errors.
pub(crate) struct Fields {
    pub path: PathBuf,
    pub fields: Map<String, Value>,
}

impl Fields {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = match self.fields.get(key) {
            Some(value) => format!("is {value}"),
            None => "is missing".to_owned(),
        };
        Error::file(&self.path, format!("`{key}` {found}; expected {expected}"))
    }

    /// A whole number from 1 to `most`.
    pub fn limited(&self, key: &str, most: u64) -> Result<u32> {
        self.get(key)
            .and_then(Value::as_u64)
            .filter(|&value| value >= 1 && value <= most)
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {most}")))
    }

    pub fn count(&self, key: &str) -> Result<u32> {
        self.limited(key, MAX_COUNT)
    }

    /// As [`Self::count`]; of a field that is not there, what transformers takes, with a note.
    pub fn count_or(&self, key: &str, default: u32, notes: &mut Vec<String>) -> Result<u32> {
        if self.fields.contains_key(key) {
            return self.count(key);
        }
        notes.push(absent(key, default));
        Ok(default)
    }

    pub fn number(&self, key: &str) -> Result<f32> {
        self.get(key)
            .and_then(Value::as_f64)
            .map(|value| value as f32)
            .filter(|value| value.is_finite())
            .ok_or_else(|| self.wrong(key, "a number"))
    }

    pub fn number_or(&self, key: &str, default: f32) -> Result<f32> {
        match self.get(key) {
            Some(_) => self.number(key),
            None => Ok(default),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// See [`ids`].
    pub fn ids(&self, key: &str) -> Result<Vec<i64>> {
        ids(self.get(key)).ok_or_else(|| self.wrong(key, "a token id or a list of them"))
    }

    pub fn object(&self, key: &str) -> Option<Fields> {
        let fields = self.get(key)?.as_object()?.clone();
        let path = self.path.clone();
        Some(Fields { path, fields })
    }
}

/// One id, a list of ids, or nothing; `None` if it is something else. Whether the model has such tokens is another
/// question: some programs write -1 for none.
pub(crate) fn ids(value: Option<&Value>) -> Option<Vec<i64>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(Value::as_i64).collect(),
        Some(value) => value.as_i64().map(|id| vec![id]),
    }
}

/// Says what was taken for a field that is not there.
pub(crate) fn absent(key: &str, taken: impl std::fmt::Display) -> String {
    format!("config.json does not say `{key}`; {taken} is taken, as transformers does")
}
