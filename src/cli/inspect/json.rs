//! The JSON form: `{"metadata":{..},"tensors":[..],"summary":{..}}`, and `"bad_tensors":[..]` after `--check`.
//!
//! It is written as it is made: a vocabulary has 650,000 strings, which need not be in memory a second time.

use std::io::Write;

use fourfold_quantize::check::BadTensor;
use fourfold_quantize::gguf::{Array, Gguf, Value};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::summary::Summary;

/// Writes everything about a file.
pub fn write(
    gguf: &Gguf,
    summary: &Summary,
    bad: Option<&[BadTensor]>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let whole = Whole { gguf, summary, bad };
    match serde_json::to_writer(&mut *out, &whole) {
        // As an I/O error it is recognized when nobody reads any more.
        Err(error) if error.is_io() => Err(std::io::Error::from(error).into()),
        other => {
            other?;
            Ok(writeln!(out)?)
        }
    }
}

struct Whole<'a> {
    gguf: &'a Gguf,
    summary: &'a Summary,
    bad: Option<&'a [BadTensor]>,
}

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("metadata", &Metadata(self.gguf))?;
        map.serialize_entry("tensors", &Tensors(self.gguf))?;
        map.serialize_entry("summary", self.summary)?;
        if let Some(bad) = self.bad {
            let rows: Vec<_> = bad
                .iter()
                .map(|bad| {
                    serde_json::json!({"tensor": bad.tensor, "block": bad.block, "problem": bad.problem})
                })
                .collect();
            map.serialize_entry("bad_tensors", &rows)?;
        }
        map.end()
    }
}

struct Metadata<'a>(&'a Gguf);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.metadata().iter();
        serializer.collect_map(entries.map(|(key, value)| (key, Shown(value))))
    }
}

struct Shown<'a>(&'a Value);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(value) => serializer.serialize_u8(*value),
            Value::I8(value) => serializer.serialize_i8(*value),
            Value::U16(value) => serializer.serialize_u16(*value),
            Value::I16(value) => serializer.serialize_i16(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U64(value) => serializer.serialize_u64(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            // JSON has no NaN and no infinity; serde_json writes null.
            Value::F32(value) => serializer.serialize_f32(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::Array(array) => Elements(array).serialize(serializer),
        }
    }
}

struct Elements<'a>(&'a Array);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(strings) = self.0.strings() {
            return serializer.collect_seq(strings);
        }
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for value in self.0.iter() {
            seq.serialize_element(&Shown(&value))?;
        }
        seq.end()
    }
}

struct Tensors<'a>(&'a Gguf);

impl Serialize for Tensors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.tensor_count()))?;
        for info in self.0.infos() {
            seq.serialize_element(&serde_json::json!({
                "name": info.name,
                "type": info.tensor_type.name,
                "shape": info.dims,
                "bytes": info.bytes.len(),
                "offset": info.offset,
                "file": info.part,
            }))?;
        }
        seq.end()
    }
}
