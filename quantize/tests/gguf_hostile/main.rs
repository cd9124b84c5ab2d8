//! Every way a GGUF file is known to lie (CVEs of other readers among them) is refused with an error of its own.
//!
//! The files are built byte by byte, because a writer that can be trusted cannot write them.

mod file;
mod memory;
mod split;
mod tensors;
mod values;

use fourfold_quantize::gguf::{Error, Fault, Gguf, Place};

const U8: u32 = 0;
const U16: u32 = 2;
const U32: u32 = 4;
const I32: u32 = 5;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

const F32: u32 = 0;
const Q8_0: u32 = 8;
const Q4_K: u32 = 12;
const IQ1_S: u32 = 19;

/// Bytes of a GGUF file in the making.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(version: u32, tensors: u64, keys: u64) -> Bytes {
        Bytes(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn string(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    fn tensor(self, name: &str, dims: &[u64], id: u32, offset: u64) -> Self {
        let mut bytes = self.string(name).u32(dims.len() as u32);
        for dim in dims {
            bytes = bytes.u64(*dim);
        }
        bytes.u32(id).u64(offset)
    }

    /// Pads to the alignment and appends that many bytes of tensors.
    fn data(mut self, size: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + size, 0);
        self
    }

    fn fault(self) -> Fault {
        match memory::within_limit(self.0.len(), || Gguf::from_bytes(self.0)) {
            Ok(_) => panic!("the file was accepted"),
            Err(error) => fault_of(error),
        }
    }

    fn open(self) -> Gguf {
        Gguf::from_bytes(self.0).unwrap()
    }
}

/// The fault, after checking that its message is one readable line.
fn fault_of(error: Error) -> Fault {
    let message = error.to_string();
    assert!(message.len() > 10 && !message.contains('\n'), "{message}");
    error.into_fault()
}

/// Checks a fault by a pattern, and shows it if it is another one.
#[macro_export]
macro_rules! assert_fault {
    ($fault:expr, $($pattern:tt)+) => {
        let fault = $fault;
        let found = format!("{fault:?}");
        assert!(matches!(fault, $($pattern)+), "{found}");
    };
}

/// One key of type u32 before the value, so that the file is long enough for the counts in the header.
fn key(name: &str, value_type: u32) -> Bytes {
    Bytes::header(3, 0, 1).string(name).u32(value_type)
}
