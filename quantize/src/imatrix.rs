//! Importance matrices: how much each input of a matrix mattered on some text, from `llama-imatrix`.
//!
//! Two forms exist, and both are read: a GGUF file with sums and counts, and the older `.dat`. Either is as hostile as
//! any file from somewhere else.

mod legacy;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dtype::DType;
use crate::file;
use crate::gguf::{self, Gguf, TensorView, Value};

/// An importance matrix file.
#[derive(Debug)]
pub struct Imatrix {
    path: PathBuf,
    entries: HashMap<String, Entry>,
    datasets: Vec<String>,
    chunks: Option<u32>,
}

/// The importance of the inputs of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// One value for each column, expert after expert.
    values: Vec<f32>,
}

/// What is wrong with an importance matrix.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: {fault}")]
pub struct Error {
    path: PathBuf,
    fault: Fault,
}

impl Error {
    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// The ways an importance matrix can be wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages describe the variants")]
pub enum Fault {
    #[error("cannot {doing}: {error}")]
    Io {
        doing: &'static str,
        error: std::io::Error,
    },
    #[error("is not a regular file; give the path of an importance matrix")]
    NotAFile,
    #[error(
        "has {size} bytes, and importance matrices have at most {most}; give the path of one from llama-imatrix"
    )]
    TooLarge { size: u64, most: u64 },
    #[error("{0}")]
    Gguf(gguf::Error),
    #[error("is a GGUF file of type {found}, not an importance matrix")]
    NotImatrix { found: String },
    #[error("is not an importance matrix: neither GGUF nor the older format ({why})")]
    NotLegacy { why: String },
    #[error("tensor {name:?} should be F32 with 1 or 2 dimensions and is {found}")]
    WrongShape { name: String, found: String },
    #[error("tensor {name:?} has no {missing:?} beside it")]
    Unpaired { name: String, missing: String },
    #[error("{name:?} has sums for {sums} matrices and counts for {counts}")]
    CountMismatch {
        name: String,
        sums: u64,
        counts: u64,
    },
    #[error(
        "{name:?} holds {value} at {index}; importance must be a finite number and not negative"
    )]
    BadValue {
        name: String,
        index: usize,
        value: f32,
    },
    #[error(
        "has {found} values for tensor {name:?}, which needs {expected} ({columns} columns, {matrices} matrices); it was made from another model"
    )]
    WrongSize {
        name: String,
        found: usize,
        expected: u64,
        columns: u64,
        matrices: u64,
    },
    #[error("ends inside {place}: {needed} bytes are needed and {left} are left")]
    Truncated {
        place: String,
        needed: u64,
        left: u64,
    },
    #[error("{place} is {number}, which makes no sense in a file with {left} bytes left")]
    BadNumber {
        place: String,
        number: i64,
        left: u64,
    },
    #[error("{name:?} appears twice")]
    Duplicate { name: String },
}

type Result<T> = std::result::Result<T, Fault>;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// A number for each column of each matrix: of gpt-oss-120b, 36 layers with 128 experts of 3 times 2880 columns beside
/// 12,736 of attention, in all 40 million numbers of 4 bytes, 161 MB. Three times as much is accepted, since all of it
/// is held in memory.
const MAX_BYTES: u64 = 512 << 20;

impl Imatrix {
    /// Reads a file of either form.
    pub fn open(path: &Path) -> std::result::Result<Imatrix, Error> {
        let fail = |fault| Error {
            path: path.to_owned(),
            fault,
        };
        let mut imatrix = Self::read(path).map_err(fail)?;
        imatrix.path = path.to_owned();
        Ok(imatrix)
    }

    fn read(path: &Path) -> Result<Imatrix> {
        let io = |doing| move |error| Fault::Io { doing, error };
        let (mut file, about) = file::open(path).map_err(io("open the file"))?;
        if !about.is_file() {
            return Err(Fault::NotAFile);
        }
        let (size, most) = (about.len(), MAX_BYTES);
        if size > most {
            return Err(Fault::TooLarge { size, most });
        }
        let mut magic = [0; 4];
        let is_gguf = file.read_exact(&mut magic).is_ok() && magic == *b"GGUF";
        if is_gguf {
            drop(file);
            return Self::from_gguf(&Gguf::open(path).map_err(Fault::Gguf)?);
        }
        Self::from_legacy(&file::read(path, most).map_err(io("read the file"))?)
    }

    /// Reads the GGUF form.
    pub fn from_gguf(gguf: &Gguf) -> Result<Imatrix> {
        let metadata = gguf.metadata();
        match metadata.get("general.type") {
            Some(Value::String(kind)) if kind == "imatrix" => {}
            Some(Value::String(other)) => {
                let found = format!("{other:?}");
                return Err(Fault::NotImatrix { found });
            }
            _ => {
                let found = "unknown".to_owned();
                return Err(Fault::NotImatrix { found });
            }
        }
        let mut entries = HashMap::new();
        for sums in gguf.tensors() {
            if let Some(name) = sums.name.strip_suffix(SUMS) {
                let entry = averaged(gguf, name, sums)?;
                entries.insert(name.to_owned(), entry);
            } else if let Some(name) = sums.name.strip_suffix(COUNTS) {
                let missing = format!("{name}{SUMS}");
                if gguf.tensor(&missing).is_none() {
                    let name = sums.name.to_owned();
                    return Err(Fault::Unpaired { name, missing });
                }
            }
        }
        Ok(Imatrix {
            path: PathBuf::new(),
            entries,
            datasets: match metadata.get("imatrix.datasets") {
                Some(_) => {
                    let names = metadata.strings("imatrix.datasets").map_err(Fault::Gguf)?;
                    names.map(str::to_owned).collect()
                }
                None => Vec::new(),
            },
            chunks: match metadata.get("imatrix.chunk_count") {
                Some(_) => Some(metadata.u32("imatrix.chunk_count").map_err(Fault::Gguf)?),
                None => None,
            },
        })
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many tensors it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names of the texts it was computed on.
    pub fn datasets(&self) -> &[String] {
        &self.datasets
    }

    /// How many chunks of text it was computed on, if the file says.
    pub fn chunks(&self) -> Option<u32> {
        self.chunks
    }

    /// The importance of each column of a tensor with these dimensions, matrix after matrix; `None` if the file does
    /// not know the tensor.
    pub fn importance(
        &self,
        name: &str,
        dims: &[u64],
    ) -> std::result::Result<Option<&[f32]>, Error> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        let columns = dims.first().copied().unwrap_or(1);
        let matrices = dims.get(2).copied().unwrap_or(1);
        let expected = columns.saturating_mul(matrices);
        if entry.values.len() as u64 != expected {
            return Err(Error {
                path: self.path.clone(),
                fault: Fault::WrongSize {
                    name: name.to_owned(),
                    found: entry.values.len(),
                    expected,
                    columns,
                    matrices,
                },
            });
        }
        Ok(Some(&entry.values))
    }
}

/// Sums of squares divided by how many rows went into them.
fn averaged(gguf: &Gguf, name: &str, sums: TensorView<'_>) -> Result<Entry> {
    let counts_name = format!("{name}{COUNTS}");
    let Some(counts) = gguf.tensor(&counts_name) else {
        return Err(Fault::Unpaired {
            name: sums.name.to_owned(),
            missing: counts_name,
        });
    };
    let columns = dims_of(sums)?.0 as usize;
    let (sum_rows, counts_len) = (dims_of(sums)?.1, counts.bytes.len() as u64 / 4);
    dims_of(counts)?;
    if counts_len != sum_rows {
        return Err(Fault::CountMismatch {
            name: name.to_owned(),
            sums: sum_rows,
            counts: counts_len,
        });
    }
    let mut values = floats(sums.bytes).collect::<Vec<_>>();
    for (row, count) in values.chunks_exact_mut(columns).zip(floats(counts.bytes)) {
        if count > 0.0 {
            row.iter_mut().for_each(|value| *value /= count);
        } else {
            // An expert that was never chosen: nothing is known, so everything counts the same.
            row.fill(1.0);
        }
    }
    let checked = checked(name, values)?;
    check(&counts_name, floats(counts.bytes))?;
    Ok(checked)
}

/// Columns and rows of an F32 matrix.
fn dims_of(tensor: TensorView<'_>) -> Result<(u64, u64)> {
    match (tensor.dtype, tensor.dims) {
        (DType::F32, &[columns]) => Ok((columns, 1)),
        (DType::F32, &[columns, rows]) => Ok((columns, rows)),
        (dtype, dims) => Err(Fault::WrongShape {
            name: tensor.name.to_owned(),
            found: format!("{} {dims:?}", dtype.name()),
        }),
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let (floats, _) = bytes.as_chunks();
    floats.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

fn check(name: &str, values: impl Iterator<Item = f32>) -> Result<()> {
    for (index, value) in values.enumerate() {
        if !value.is_finite() || value < 0.0 {
            return Err(Fault::BadValue {
                name: name.to_owned(),
                index,
                value,
            });
        }
    }
    Ok(())
}

fn checked(name: &str, values: Vec<f32>) -> Result<Entry> {
    check(name, values.iter().copied())?;
    Ok(Entry { values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Array, Layout, Metadata, WriteOptions, Writer};

    /// A GGUF importance matrix with the given tensors, written and opened.
    fn open(kind: &str, tensors: &[(&str, &[u64], &[f32])]) -> std::result::Result<Imatrix, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.gguf");
        let mut metadata = Metadata::new();
        metadata.set("general.type", kind);
        metadata.set("imatrix.datasets", Array::of_strings(["wiki.txt"]));
        metadata.set("imatrix.chunk_count", 7u32);
        metadata.set("imatrix.chunk_size", 512u32);
        let mut layout = Layout::new(metadata);
        for (name, dims, _) in tensors {
            layout.add_tensor(name, DType::F32, dims).unwrap();
        }
        let writer = Writer::begin(layout, &path, &WriteOptions::default()).unwrap();
        for (index, (_, _, values)) in tensors.iter().enumerate() {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.write_at(index, 0, &bytes).unwrap();
        }
        writer.finish().unwrap();
        Imatrix::open(&path)
    }

    const SUMS_OF_TWO: (&str, &[u64], &[f32]) =
        ("a.weight.in_sum2", &[2, 2], &[2.0, 4.0, 6.0, 8.0]);

    #[test]
    fn sums_are_divided_by_counts_and_unused_experts_count_evenly() {
        let counts: (&str, &[u64], &[f32]) = ("a.weight.counts", &[1, 2], &[2.0, 0.0]);
        let imatrix = open("imatrix", &[SUMS_OF_TWO, counts]).unwrap();
        let found = imatrix.importance("a.weight", &[2, 9, 2]).unwrap();
        assert_eq!(found, Some(&[1.0, 2.0, 1.0, 1.0][..]));
        assert_eq!(imatrix.importance("b.weight", &[2, 9]).unwrap(), None);
        assert_eq!(imatrix.datasets(), ["wiki.txt"]);
        assert_eq!(imatrix.chunks(), Some(7));
        let error = imatrix.importance("a.weight", &[2, 9]).unwrap_err();
        assert!(matches!(
            error.fault(),
            Fault::WrongSize {
                found: 4,
                expected: 2,
                ..
            }
        ));
    }

    /// With a hole in it such a file takes no room on the disk, and as much memory as it says.
    #[test]
    fn a_file_that_is_far_too_large_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.dat");
        for magic in [b"GGUF", b"\x01\0\0\0"] {
            std::fs::write(&path, magic).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(MAX_BYTES + 1).unwrap();
            let error = Imatrix::open(&path).unwrap_err();
            assert!(matches!(error.fault(), Fault::TooLarge { .. }), "{error}");
        }
        let error = Imatrix::open(folder.path()).unwrap_err();
        assert!(matches!(error.fault(), Fault::NotAFile), "{error}");
    }

    #[test]
    fn a_gguf_that_is_no_importance_matrix_is_refused() {
        let error = open("model", &[]).unwrap_err();
        assert!(matches!(error.fault(), Fault::NotImatrix { .. }), "{error}");
    }

    #[test]
    fn sums_without_counts_are_refused() {
        let error = open("imatrix", &[SUMS_OF_TWO]).unwrap_err();
        assert!(matches!(error.fault(), Fault::Unpaired { .. }), "{error}");
        let counts: (&str, &[u64], &[f32]) = ("b.counts", &[1], &[2.0]);
        let error = open("imatrix", &[counts]).unwrap_err();
        assert!(matches!(error.fault(), Fault::Unpaired { .. }), "{error}");
    }

    #[test]
    fn counts_of_another_shape_are_refused() {
        let counts: (&str, &[u64], &[f32]) = ("a.weight.counts", &[1, 3], &[1.0; 3]);
        let error = open("imatrix", &[SUMS_OF_TWO, counts]).unwrap_err();
        assert!(matches!(
            error.fault(),
            Fault::CountMismatch {
                sums: 2,
                counts: 3,
                ..
            }
        ));
    }

    #[test]
    fn values_that_are_not_importance_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            let counts: (&str, &[u64], &[f32]) = ("a.weight.counts", &[1, 2], &[1.0, 1.0]);
            let sums: (&str, &[u64], &[f32]) = ("a.weight.in_sum2", &[2, 2], &[1.0, bad, 1.0, 1.0]);
            let error = open("imatrix", &[sums, counts]).unwrap_err();
            assert!(
                matches!(error.fault(), Fault::BadValue { index: 1, .. }),
                "{error}"
            );
            let counts: (&str, &[u64], &[f32]) = ("a.weight.counts", &[1, 2], &[1.0, bad]);
            let error = open("imatrix", &[SUMS_OF_TWO, counts]).unwrap_err();
            assert!(matches!(error.fault(), Fault::BadValue { .. }), "{error}");
        }
    }
}
