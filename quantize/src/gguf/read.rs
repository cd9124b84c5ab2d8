//! Opening a model: one file, or every part of a split one, mapped and checked.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Advice, Mmap};

use super::error::{Error, Fault, Result};
use super::foreign::TensorType;
use super::metadata::Metadata;
use super::ollama;
use super::parse::{Parsed, Record, parse};
use super::split;
use crate::dtype::DType;
use crate::file;

/// The bytes of one file.
#[derive(Debug)]
pub(super) enum Backing {
    Map(Mmap),
    Bytes(Cow<'static, [u8]>),
}

impl Backing {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Backing::Map(map) => map,
            Backing::Bytes(bytes) => bytes,
        }
    }
}

/// An opened model. Nothing but its metadata has been read; the tensors are borrowed from the map.
///
/// The file must not be changed or cut short by another program while it is open, which is what every program that
/// maps files relies on.
pub struct Gguf {
    metadata: Metadata,
    version: u32,
    alignment: u64,
    parts: Vec<Part>,
    tensors: Vec<Record>,
    /// Indices into `tensors`, in the order of the names.
    by_name: Vec<u32>,
    is_ollama: bool,
}

struct Part {
    path: PathBuf,
    backing: Arc<Backing>,
}

/// A tensor lent by an opened model.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of its elements.
    pub dtype: DType,
    /// Its dimensions in GGML's order: the length of a row first.
    pub dims: &'a [u64],
    /// Its blocks, row after row.
    pub bytes: &'a [u8],
}

/// A tensor as a file describes it, whether or not it can be computed with.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of its elements.
    pub tensor_type: TensorType,
    /// Its dimensions in GGML's order: the length of a row first.
    pub dims: &'a [u64],
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Which file of a split model it lies in, counted from 0.
    pub part: usize,
    /// Where in that file its bytes begin.
    pub offset: u64,
}

impl Gguf {
    /// Opens a model to compute with: every tensor's type must be one of [`DType`].
    pub fn open(path: &Path) -> Result<Gguf> {
        let gguf = Self::open_any(path)?;
        gguf.require_known_types()?;
        Ok(gguf)
    }

    /// Opens a model to look at, whatever types its tensors have.
    pub fn open_any(path: &Path) -> Result<Gguf> {
        let backing = map(path)?;
        let first = parse(&backing, path)?;
        let count = match first.metadata.get("split.count") {
            Some(_) => first.metadata.u64("split.count")?,
            None => 0,
        };
        // llama.cpp's merge tool leaves the keys in place with a count of 0.
        if count <= 1 {
            return Self::assemble(first, vec![(path.to_owned(), backing)]);
        }
        Self::open_split(path, backing, first, count)
    }

    /// Opens a model that is in memory already.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Gguf> {
        let path = PathBuf::new();
        let backing = Arc::new(Backing::Bytes(bytes.into()));
        let parsed = parse(&backing, &path)?;
        let gguf = Self::assemble(parsed, vec![(path, backing)])?;
        gguf.require_known_types()?;
        Ok(gguf)
    }

    fn open_split(
        path: &Path,
        backing: Arc<Backing>,
        mut whole: Parsed,
        count: u64,
    ) -> Result<Gguf> {
        let fail = |fault| Err(Error::new(path, fault));
        let most = u64::from(u16::MAX);
        if count > most {
            return fail(Fault::PartCount { count, most });
        }
        let named = split::parse(path);
        let number = whole.metadata.u64("split.no")?.saturating_add(1);
        if number != 1 {
            let first = match &named {
                Some((prefix, ..)) => split::part_path(prefix, 1, count),
                None => PathBuf::from(split::suffix(1, count)),
            };
            return fail(Fault::NotFirstPart {
                number,
                count,
                first,
            });
        }
        let prefix = match named {
            Some((prefix, 1, named_count)) if named_count == count => prefix,
            _ => {
                let suffix = split::suffix(1, count);
                return fail(Fault::SplitName { count, suffix });
            }
        };
        let mut parts = vec![(path.to_owned(), backing)];
        for number in 2..=count {
            let path = split::part_path(&prefix, number, count);
            if !path.exists() {
                return fail(Fault::MissingPart {
                    number,
                    count,
                    missing: path,
                });
            }
            let backing = map(&path)?;
            let mut part = parse(&backing, &path)?;
            check_part(&part.metadata, &path, number, count)?;
            for record in &mut part.tensors {
                // Fits: the count was checked.
                record.part = (number - 1) as u16;
            }
            whole.tensors.append(&mut part.tensors);
            parts.push((path, backing));
        }
        let expected = whole.metadata.i64("split.tensors.count")?;
        let found = whole.tensors.len() as u64;
        if u64::try_from(expected) != Ok(found) {
            return fail(Fault::SplitTensors { expected, found });
        }
        Self::assemble(whole, parts)
    }

    fn assemble(mut parsed: Parsed, parts: Vec<(PathBuf, Arc<Backing>)>) -> Result<Gguf> {
        let is_ollama = ollama::translate(&mut parsed);
        let tensors = parsed.tensors;
        let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
        let name = |index: u32| &*tensors[index as usize].name;
        by_name.sort_unstable_by_key(|&index| name(index));
        // Within a file this was checked; parts can still repeat each other.
        if let Some(pair) = by_name
            .windows(2)
            .find(|pair| name(pair[0]) == name(pair[1]))
        {
            let name = name(pair[0]).to_owned();
            return Err(Error::new(&parts[0].0, Fault::DuplicateTensor { name }));
        }
        Ok(Gguf {
            metadata: parsed.metadata,
            version: parsed.version,
            alignment: parsed.alignment,
            parts: parts
                .into_iter()
                .map(|(path, backing)| Part { path, backing })
                .collect(),
            tensors,
            by_name,
            is_ollama,
        })
    }

    fn require_known_types(&self) -> Result<()> {
        match self.tensors.iter().find(|r| r.tensor_type.dtype.is_none()) {
            None => Ok(()),
            Some(record) => Err(Error::new(
                &self.parts[usize::from(record.part)].path,
                Fault::UnsupportedType {
                    name: record.name.to_string(),
                    id: record.tensor_type.id,
                    type_name: record.tensor_type.name,
                    hint: record.tensor_type.advice(),
                },
            )),
        }
    }

    /// The metadata; of a split model, the first part's.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order of the file, without those whose type cannot be computed with
    /// (of which there are none after [`Gguf::open`]).
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.tensors.iter().filter_map(|record| self.view(record))
    }

    /// The tensor of this name, if there is one that can be computed with.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let at = self
            .by_name
            .binary_search_by_key(&name, |&index| &self.tensors[index as usize].name)
            .ok()?;
        self.view(&self.tensors[self.by_name[at] as usize])
    }

    /// How many tensors there are.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// Every tensor as the file describes it.
    pub fn infos(&self) -> impl ExactSizeIterator<Item = TensorInfo<'_>> {
        self.tensors.iter().map(|record| TensorInfo {
            name: &record.name,
            tensor_type: record.tensor_type,
            dims: record.dims(),
            bytes: self.bytes(record),
            part: usize::from(record.part),
            offset: record.start,
        })
    }

    /// The files that make up the model, with their sizes.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (&Path, u64)> {
        self.parts
            .iter()
            .map(|part| (&*part.path, part.backing.bytes().len() as u64))
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What offsets are multiples of.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// What `general.architecture` says, if anything.
    pub fn architecture(&self) -> Option<&str> {
        self.metadata.string("general.architecture").ok()
    }

    /// Whether this is a file of Ollama's, whose keys and tensors have other names in it than here.
    pub fn is_ollama(&self) -> bool {
        self.is_ollama
    }

    /// Tells the system that the files will be read from beginning to end.
    pub fn advise_sequential(&self) {
        for part in &self.parts {
            if let Backing::Map(map) = &*part.backing {
                // Only a hint: a system that cannot take it reads a little slower.
                let _ = map.advise(Advice::Sequential);
            }
        }
    }

    /// Takes the pages of `bytes`, a piece of a tensor, out of this process's memory (not out of the system's page
    /// cache), so that walking through a file of any size stays small.
    pub fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        for part in &self.parts {
            let Backing::Map(map) = &*part.backing else {
                continue;
            };
            let Some(start) = (bytes.as_ptr() as usize).checked_sub(map.as_ptr() as usize) else {
                continue;
            };
            if start + bytes.len() <= map.len() {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                // SAFETY: the map is of a file and never written through, so pages that are dropped, those shared with
                // neighbours included, come back unchanged.
                let advised = unsafe { map.unchecked_advise_range(advice, start, bytes.len()) };
                // Only a hint, as above.
                let _ = advised;
            }
        }
        #[cfg(not(unix))]
        let _ = bytes;
    }

    fn bytes(&self, record: &Record) -> &[u8] {
        let backing = &self.parts[usize::from(record.part)].backing;
        // Both fit into usize and lie inside: parsing checked them against this very map.
        &backing.bytes()[record.start as usize..(record.start + record.size) as usize]
    }

    fn view<'a>(&'a self, record: &'a Record) -> Option<TensorView<'a>> {
        Some(TensorView {
            name: &record.name,
            dtype: record.tensor_type.dtype?,
            dims: record.dims(),
            bytes: self.bytes(record),
        })
    }
}

fn check_part(metadata: &Metadata, path: &Path, number: u64, count: u64) -> Result<()> {
    let found = metadata.u64("split.no")?;
    if found != number - 1 {
        let expected = number - 1;
        return Err(Error::new(path, Fault::SplitNumber { expected, found }));
    }
    let found = metadata.u64("split.count")?;
    if found != count {
        let expected = count;
        return Err(Error::new(path, Fault::SplitCount { expected, found }));
    }
    Ok(())
}

fn map(path: &Path) -> Result<Arc<Backing>> {
    let fail = |doing| move |error| Error::new(path, Fault::Io { doing, error });
    let (file, about) = file::open(path).map_err(fail("open the file"))?;
    if !about.is_file() {
        let fault = match path.join("config.json").exists() {
            true => Fault::Checkpoint,
            false => Fault::NotAFile,
        };
        return Err(Error::new(path, fault));
    }
    // SAFETY: the map is read-only. That nobody else changes the file meanwhile cannot be enforced; it is documented
    // at `Gguf`, and nothing here keeps an unchecked promise about contents that were validated earlier.
    let map = unsafe { Mmap::map(&file) }.map_err(fail("map the file"))?;
    Ok(Arc::new(Backing::Map(map)))
}
