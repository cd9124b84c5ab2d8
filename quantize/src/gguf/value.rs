//! The values that metadata can have: thirteen types, one of them an array of the others.
//!
//! Arrays stay in the encoding of the file, borrowed from the map: a vocabulary has 200,000 tokens and 446,000 merges,
//! and a `String` for each would cost more time than reading the rest of the file.

use std::fmt;
use std::sync::Arc;

use super::read::Backing;

/// The type of a metadata value, as numbered in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are the types' own")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with this number.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// Bytes of a value; `None` for strings and arrays, whose size varies.
    pub fn size(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::String | ValueType::Array => None,
        }
    }

    /// Its name, as in the format's description.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the types' own")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The type of this value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The value, if it is an integer of any width.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => Some(v.into()),
            Value::I64(v) => Some(v.into()),
            _ => None,
        }
    }

    /// What this value is, for a message: `u32`, or `array of string`.
    pub fn describe(&self) -> String {
        match self {
            Value::Array(array) => format!("array of {}", array.element()),
            other => other.value_type().to_string(),
        }
    }

    /// Appends the value as it stands in a file, without its type.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(v) => out.extend(v.to_le_bytes()),
            Value::I8(v) => out.extend(v.to_le_bytes()),
            Value::U16(v) => out.extend(v.to_le_bytes()),
            Value::I16(v) => out.extend(v.to_le_bytes()),
            Value::U32(v) => out.extend(v.to_le_bytes()),
            Value::I32(v) => out.extend(v.to_le_bytes()),
            Value::F32(v) => out.extend(v.to_le_bytes()),
            Value::Bool(v) => out.push(u8::from(*v)),
            Value::String(v) => encode_string(v, out),
            Value::U64(v) => out.extend(v.to_le_bytes()),
            Value::I64(v) => out.extend(v.to_le_bytes()),
            Value::F64(v) => out.extend(v.to_le_bytes()),
            Value::Array(array) => {
                out.extend((array.element as u32).to_le_bytes());
                out.extend((array.count as u64).to_le_bytes());
                out.extend(array.bytes());
            }
        }
    }
}

/// Appends a string as it stands in a file: length, then bytes.
pub(super) fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Value::$variant(value.into())
            }
        }
    )*};
}

value_from! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    f32 => F32, f64 => F64, bool => Bool, &str => String, String => String, Array => Array,
}

/// Several values of one type, in the encoding of the file.
#[derive(Clone)]
pub struct Array {
    element: ValueType,
    count: usize,
    bytes: ArrayBytes,
}

#[derive(Clone)]
enum ArrayBytes {
    Borrowed {
        backing: Arc<Backing>,
        start: usize,
        len: usize,
    },
    Owned(Arc<[u8]>),
}

impl Array {
    /// `count` checked values at `start..start + len` of a file.
    pub(super) fn borrowed(
        element: ValueType,
        count: usize,
        backing: Arc<Backing>,
        start: usize,
        len: usize,
    ) -> Self {
        Array {
            element,
            count,
            bytes: ArrayBytes::Borrowed {
                backing,
                start,
                len,
            },
        }
    }

    /// An array of strings.
    pub fn of_strings<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Self {
        let mut bytes = Vec::new();
        let mut count = 0;
        for string in strings {
            encode_string(string.as_ref(), &mut bytes);
            count += 1;
        }
        Array {
            element: ValueType::String,
            count,
            bytes: ArrayBytes::Owned(bytes.into()),
        }
    }

    /// An array of numbers or truth values.
    pub fn of<T: Scalar>(values: &[T]) -> Self {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        for &value in values {
            value.into().encode(&mut bytes);
        }
        Array {
            element: T::TYPE,
            count: values.len(),
            bytes: ArrayBytes::Owned(bytes.into()),
        }
    }

    /// The type of its values.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its values as they stand in a file.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            ArrayBytes::Borrowed {
                backing,
                start,
                len,
            } => backing
                .bytes()
                .get(*start..*start + *len)
                .unwrap_or_default(),
            ArrayBytes::Owned(bytes) => bytes,
        }
    }

    /// Its values, if they are strings.
    pub fn strings(&self) -> Option<Strings<'_>> {
        (self.element == ValueType::String).then(|| Strings {
            bytes: self.bytes(),
            left: self.count,
        })
    }

    /// Its values, if they have exactly this type.
    pub fn values<T: Scalar>(&self) -> Option<impl ExactSizeIterator<Item = T> + '_> {
        (self.element == T::TYPE).then(|| self.bytes().chunks_exact(size_of::<T>()).map(T::decode))
    }

    /// Its values one by one, whatever their type.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Value> + '_> {
        fn of<'a, T: Scalar>(array: &'a Array) -> Box<dyn Iterator<Item = Value> + 'a> {
            Box::new(array.values::<T>().into_iter().flatten().map(T::into))
        }
        match self.element {
            ValueType::U8 => of::<u8>(self),
            ValueType::I8 => of::<i8>(self),
            ValueType::U16 => of::<u16>(self),
            ValueType::I16 => of::<i16>(self),
            ValueType::U32 => of::<u32>(self),
            ValueType::I32 => of::<i32>(self),
            ValueType::F32 => of::<f32>(self),
            ValueType::Bool => of::<bool>(self),
            ValueType::U64 => of::<u64>(self),
            ValueType::I64 => of::<i64>(self),
            ValueType::F64 => of::<f64>(self),
            ValueType::String => Box::new(self.strings().into_iter().flatten().map(Value::from)),
            ValueType::Array => Box::new(std::iter::empty()),
        }
    }
}

impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        self.element == other.element && self.count == other.count && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} of {}]", self.count, self.element)
    }
}

/// A value that has a fixed size in a file.
pub trait Scalar: Copy + Into<Value> + 'static {
    /// Its type.
    const TYPE: ValueType;
    /// The value in these bytes, of which there are as many as the type has.
    fn decode(bytes: &[u8]) -> Self;
}

macro_rules! scalar {
    ($($rust:ty => $variant:ident),* $(,)?) => {$(
        impl Scalar for $rust {
            const TYPE: ValueType = ValueType::$variant;
            fn decode(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$rust>()];
                own.copy_from_slice(bytes);
                <$rust>::from_le_bytes(own)
            }
        }
    )*};
}

scalar! { u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64, f32 => F32, f64 => F64 }

impl Scalar for bool {
    const TYPE: ValueType = ValueType::Bool;
    fn decode(bytes: &[u8]) -> Self {
        // Any byte but 0 reads as true, as in llama.cpp.
        bytes != [0]
    }
}

/// The strings of an array.
#[derive(Clone)]
pub struct Strings<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        // Lengths and UTF-8 were checked when the file was opened. They are checked again, at little cost, because a
        // map shows what others write into the file: such a change must not become undefined behaviour.
        let (length, rest) = self.bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        self.bytes = rest;
        Some(std::str::from_utf8(text).unwrap_or_default())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}
