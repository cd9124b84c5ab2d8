//! One error variant for each way a file can lie, naming the key or tensor and the numbers.

use std::fmt;
use std::path::{Path, PathBuf};

use super::value::ValueType;
use crate::file::{self, partial};

/// The outcome of reading or writing a GGUF file.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong, and with which file.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    fault: Box<Fault>,
}

impl Error {
    /// `fault`, found in the file at `path`; an empty path stands for something not in a file.
    pub fn new(path: impl Into<PathBuf>, fault: Fault) -> Self {
        Error {
            path: path.into(),
            fault: Box::new(fault),
        }
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What is wrong, without the file.
    pub fn into_fault(self) -> Fault {
        *self.fault
    }

    /// The file it is wrong with.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_os_str().is_empty() {
            write!(f, "{}", self.fault)
        } else {
            // Debug quotes and escapes: a hostile name must not drive the terminal.
            write!(f, "{:?}: {}", self.path, self.fault)
        }
    }
}

// Without a source: the message says everything, and a program that prints the chain must not say it twice.
impl std::error::Error for Error {}

/// The part of a file that was being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The 24 bytes before the first key.
    Header,
    /// The name of the key with this number, counted from 0.
    Key(u64),
    /// The value of this key.
    Value(String),
    /// The name of the tensor with this number, counted from 0.
    TensorName(u64),
    /// The record of this tensor.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => write!(f, "the header"),
            Place::Key(index) => write!(f, "the name of key {index}"),
            Place::Value(key) => write!(f, "the value of key {key:?}"),
            Place::TensorName(index) => write!(f, "the name of tensor {index}"),
            Place::Tensor(name) => write!(f, "the record of tensor {name:?}"),
        }
    }
}

/// What stands where every GGUF file has its magic, and what to do about it.
fn instead_of_gguf(found: &[u8]) -> String {
    let known = match found {
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', ..] => {
            "it is a pointer of Git LFS; `git lfs pull` gets the file itself"
        }
        [b'<', b'!', ..] | [b'<', b'h', ..] => {
            "it is a web page; download the file that it leads to"
        }
        [.., b'{'] if found.len() == 9 => {
            "it is a safetensors file; `fourfold convert` makes a GGUF file of its folder"
        }
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let text = found[..found.len().min(4)].escape_ascii();
    match found.len() {
        0 => "it is empty".to_owned(),
        1..4 => format!("it ends after \"{text}\""),
        _ => format!("it begins with \"{text}\" instead of \"GGUF\""),
    }
}

/// The ways a file can be wrong.
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the messages describe the variants and their fields"
)]
pub enum Fault {
    // The file as a whole.
    #[error("cannot {doing}: {error}")]
    Io {
        doing: &'static str,
        error: std::io::Error,
    },
    #[error("is not a regular file; give the path of a .gguf file")]
    NotAFile,
    #[error("is a checkpoint; `fourfold convert` makes a GGUF file of it")]
    Checkpoint,
    #[error("is not a GGUF file: {}", instead_of_gguf(found))]
    NotGguf { found: Vec<u8> },
    #[error(
        "is a big-endian GGUF file (version bytes {version:#010x}); convert it to little-endian first, for example with gguf-convert-endian"
    )]
    BigEndian { version: u32 },
    #[error(
        "is GGUF version {version}; versions 2 and 3 can be read, so convert the model again with a current program"
    )]
    Version { version: u32 },
    #[error(
        "ends inside {place}: {needed} bytes are needed and {left} are left; the file is cut short or damaged, fetch it again"
    )]
    Truncated {
        place: Place,
        needed: u64,
        left: u64,
    },

    // Keys and values.
    #[error("claims {count} keys, but has room for at most {most}; the file is damaged")]
    TooManyKeys { count: u64, most: u64 },
    #[error("key {index} has an empty name")]
    EmptyKey { index: u64 },
    #[error("key {index} has a name of {length} bytes; at most {most} are allowed")]
    KeyTooLong { index: u64, length: u64, most: u64 },
    #[error("key {key:?} appears twice")]
    DuplicateKey { key: String },
    #[error("{place} is not valid UTF-8 at byte {at}")]
    InvalidUtf8 { place: Place, at: usize },
    #[error("key {key:?} has value type {id}, which does not exist (0 to 12 do)")]
    UnknownValueType { key: String, id: u32 },
    #[error("key {key:?} holds an array of arrays, which GGUF readers do not support")]
    NestedArray { key: String },
    #[error(
        "key {key:?} claims a string of {length} bytes, but {left} bytes are left in the file (and {most} is the limit)"
    )]
    StringTooLong {
        key: String,
        length: u64,
        left: u64,
        most: u64,
    },
    #[error(
        "key {key:?} claims an array of {count} values of type {element}, but {left} bytes are left in the file (and {most} values is the limit)"
    )]
    ArrayTooLong {
        key: String,
        element: ValueType,
        count: u64,
        left: u64,
        most: u64,
    },
    #[error("key {key:?} is missing")]
    MissingKey { key: String },
    #[error("key {key:?} should be {expected} and is {found}")]
    WrongType {
        key: String,
        expected: String,
        found: String,
    },
    #[error("key {key:?} is {value}, which does not fit into {expected}")]
    OutOfRange {
        key: String,
        value: String,
        expected: ValueType,
    },
    #[error(
        "general.alignment is {alignment}; it must be a power of two and at most {most} (32 is usual)"
    )]
    BadAlignment { alignment: u64, most: u64 },

    // Tensors.
    #[error("claims {count} tensors, but has room for at most {most}; the file is damaged")]
    TooManyTensors { count: u64, most: u64 },
    #[error("tensor {index} has an empty name")]
    EmptyTensorName { index: u64 },
    #[error("tensor {name:?} has a name of {length} bytes; at most {most} are allowed")]
    TensorNameTooLong {
        name: String,
        length: u64,
        most: u64,
    },
    #[error("tensor {name:?} appears twice")]
    DuplicateTensor { name: String },
    #[error("tensor {name:?} has {count} dimensions; at most {most} are allowed")]
    TooManyDims { name: String, count: u32, most: u32 },
    #[error("tensor {name:?} has dimensions {dims:?}; none may be 0")]
    ZeroDim { name: String, dims: Vec<u64> },
    #[error(
        "tensor {name:?} has dimensions {dims:?}, whose product or size in bytes does not fit into 63 bits"
    )]
    DimsOverflow { name: String, dims: Vec<u64> },
    #[error("tensor {name:?} has type {id}, which does not exist{hint}")]
    UnknownType {
        name: String,
        id: u32,
        hint: &'static str,
    },
    #[error(
        "tensor {name:?} has type {type_name} (id {id}), which fourfold does not support{hint}"
    )]
    UnsupportedType {
        name: String,
        id: u32,
        type_name: &'static str,
        hint: &'static str,
    },
    #[error(
        "tensor {name:?} has rows of {columns} elements, which is not a multiple of the {block} in a block of {type_name}"
    )]
    PartialBlock {
        name: String,
        columns: u64,
        block: u64,
        type_name: &'static str,
    },
    #[error(
        "tensor {name:?} is at offset {offset}, which is not a multiple of the alignment {alignment}"
    )]
    Misaligned {
        name: String,
        offset: u64,
        alignment: u64,
    },
    #[error(
        "tensor {name:?} is at offset {offset}, before the tensor listed ahead of it at {previous}"
    )]
    OutOfOrder {
        name: String,
        offset: u64,
        previous: u64,
    },
    #[error(
        "tensor {name:?} is at offset {offset} and overlaps the tensor before it, which ends at {expected}"
    )]
    Overlap {
        name: String,
        offset: u64,
        expected: u64,
    },
    #[error("tensor {name:?} is at offset {offset}, leaving a gap after {expected}")]
    Gap {
        name: String,
        offset: u64,
        expected: u64,
    },
    #[error(
        "tensor {name:?} needs {size} bytes from {start} on, but the file has {file_size} bytes; it is cut short or damaged, fetch it again"
    )]
    OutsideFile {
        name: String,
        start: u64,
        size: u64,
        file_size: u64,
    },

    // Split files.
    #[error(
        "is part {number} of {count} of a split model; open the first part, {first:?}, and the others are found beside it"
    )]
    NotFirstPart {
        number: u64,
        count: u64,
        first: PathBuf,
    },
    #[error(
        "is one of {count} parts by its metadata, so its name must end in {suffix:?}; give the parts their original names back"
    )]
    SplitName { count: u64, suffix: String },
    #[error(
        "part {number} of {count} is missing: {missing:?} does not exist; fetch it into the same folder"
    )]
    MissingPart {
        number: u64,
        count: u64,
        missing: PathBuf,
    },
    #[error("split.no is {found} and should be {expected}; parts of different models are mixed up")]
    SplitNumber { expected: u64, found: u64 },
    #[error("split.count is {count}, and at most {most} parts are possible; the file is damaged")]
    PartCount { count: u64, most: u64 },
    #[error(
        "split.count is {found} and {expected} in the first part; parts of different models are mixed up"
    )]
    SplitCount { expected: u64, found: u64 },
    #[error(
        "split.tensors.count is {expected}, but the parts hold {found} tensors; a part is damaged or from another model"
    )]
    SplitTensors { expected: i64, found: u64 },

    // Writing.
    #[error("{0}")]
    Target(partial::Error),
    #[error("{0}")]
    DiskFull(file::DiskFull),
    #[error("tensor {name:?} has {size} bytes; {length} bytes at {offset} do not lie inside it")]
    OutsideTensor {
        name: String,
        offset: u64,
        length: u64,
        size: u64,
    },
    #[error("tensor {name:?} was to hold {expected} bytes and {written} were written")]
    Incomplete {
        name: String,
        expected: u64,
        written: u64,
    },
    #[error("{count} parts would be needed; at most {most} are possible, so allow larger ones")]
    TooManyParts { count: u64, most: u64 },
}
