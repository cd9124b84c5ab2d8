//! Writing a model: many threads at once, into temporary files that get their names only when they are whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fs4::fs_std::FileExt;

use super::error::{Error, Fault, Result};
use super::layout::{Declared, Layout};
use super::metadata::Metadata;
use super::value::encode_string;
use super::{DEFAULT_ALIGNMENT, align_up, split};
use crate::file;
use crate::file::partial::{self, Partial, Readers, Replace};

/// How to write a file.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Whether a file of the same name may be replaced.
    pub overwrite: bool,
    /// Begin a new part when the tensors of one would exceed this many bytes.
    pub split_max_bytes: Option<u64>,
    /// What offsets are multiples of: a power of two, 32 unless there is a reason.
    pub alignment: u32,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions {
            overwrite: false,
            split_max_bytes: None,
            alignment: DEFAULT_ALIGNMENT as u32,
        }
    }
}

/// How much is written before the disk is told to begin with it.
const WRITE_OUT_BYTES: u64 = 64 << 20;

/// A file, or the parts of a split one, being written under a temporary name.
///
/// Dropping it without [`Writer::finish`] removes everything that was written.
pub struct Writer {
    parts: Vec<Part>,
    slots: Vec<Slot>,
}

struct Part {
    partial: Partial,
    written: AtomicU64,
}

/// Where a tensor goes.
struct Slot {
    name: String,
    part: usize,
    start: u64,
    size: u64,
    written: AtomicU64,
}

impl Writer {
    /// Lays the file out, checks that it will fit on the disk, and creates it under a temporary name (`NAME.fourfold-partial`)
    /// in the folder where it will stay.
    pub fn begin(layout: Layout, path: &Path, options: &WriteOptions) -> Result<Writer> {
        let alignment = u64::from(options.alignment);
        if !alignment.is_power_of_two() {
            let most = 1 << 31;
            return Err(Error::new(path, Fault::BadAlignment { alignment, most }));
        }
        let groups = group(&layout.tensors, options.split_max_bytes, alignment);
        let count = groups.len() as u64;
        if count > u64::from(u16::MAX) {
            let most = u64::from(u16::MAX);
            return Err(Error::new(path, Fault::TooManyParts { count, most }));
        }
        let names = split::names(path, count).into_iter();
        let mut writer = Writer {
            parts: names
                .map(|name| Part::create(&name, options.overwrite))
                .collect::<Result<_>>()?,
            slots: Vec::new(),
        };
        let total = layout.tensors.len();
        let mut plans = Vec::new();
        for (number, tensors) in groups.into_iter().enumerate() {
            let metadata = part_metadata(&layout.metadata, number, count, total, alignment);
            let header = encode_header(&metadata, tensors, alignment);
            let size = writer.place(number, header.len() as u64, tensors, alignment);
            plans.push((header, size));
        }
        let first = writer.parts[0].partial.target();
        check_space(first, plans.iter().map(|plan| plan.1).sum())?;
        for ((header, size), part) in plans.into_iter().zip(&writer.parts) {
            part.begin(&header, size)?;
        }
        Ok(writer)
    }

    /// Writes some bytes of a tensor, by the number that [`Layout::add_tensor`] gave it. Threads may call this at the
    /// same time as long as their ranges do not overlap.
    pub fn write_at(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let slot = &self.slots[tensor];
        let part = &self.parts[slot.part];
        let length = bytes.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > slot.size) {
            return Err(Error::new(
                part.partial.target(),
                Fault::OutsideTensor {
                    name: slot.name.clone(),
                    offset,
                    length,
                    size: slot.size,
                },
            ));
        }
        write_all_at(part.partial.file(), bytes, slot.start + offset)
            .map_err(|error| io_error(part.partial.target(), "write the file", error))?;
        slot.written.fetch_add(length, Ordering::Relaxed);
        let before = part.written.fetch_add(length, Ordering::Relaxed);
        if before / WRITE_OUT_BYTES != (before + length) / WRITE_OUT_BYTES {
            start_write_out(part.partial.file());
        }
        Ok(())
    }

    /// The files that will exist after [`Writer::finish`].
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.partial.target())
    }

    /// Temporary files of interrupted runs that were in the way and have been removed.
    pub fn leftovers(&self) -> impl Iterator<Item = &Path> {
        let parts = self.parts.iter();
        parts.filter_map(|part| part.partial.leftover())
    }

    /// Makes sure that everything is on the disk, and gives the files their names.
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        for slot in &self.slots {
            let written = slot.written.load(Ordering::Relaxed);
            if written != slot.size {
                return Err(Error::new(
                    self.parts[slot.part].partial.target(),
                    Fault::Incomplete {
                        name: slot.name.clone(),
                        expected: slot.size,
                        written,
                    },
                ));
            }
        }
        let targets: Vec<_> = self.paths().map(Path::to_owned).collect();
        for (part, target) in self.parts.iter().zip(&targets) {
            part.partial.settle().map_err(unwritten(target))?;
        }
        // The first part last: once it is there, so are the others.
        for (part, target) in self.parts.into_iter().zip(&targets).rev() {
            part.partial.finish().map_err(unwritten(target))?;
        }
        Ok(targets)
    }

    /// Gives the tensors of a part their places, and returns the size of the part.
    fn place(&mut self, part: usize, header: u64, tensors: &[Declared], alignment: u64) -> u64 {
        let mut start = header;
        for tensor in tensors {
            self.slots.push(Slot {
                name: tensor.name.clone(),
                part,
                start,
                size: tensor.size,
                written: AtomicU64::new(0),
            });
            start += padded(tensor.size, alignment);
        }
        start
    }
}

impl Part {
    fn create(name: &Path, overwrite: bool) -> Result<Part> {
        let replace = match overwrite {
            true => Replace::Alike(b"GGUF"),
            false => Replace::Nothing,
        };
        let partial = Partial::create(name, Readers::Usual, replace);
        Ok(Part {
            partial: partial.map_err(unwritten(name))?,
            written: AtomicU64::new(0),
        })
    }

    /// Writes the header, and makes room for the rest.
    fn begin(&self, header: &[u8], size: u64) -> Result<()> {
        let mut file = self.partial.file();
        file.write_all(header)
            .and_then(|()| file.set_len(size))
            .and_then(|()| reserve(file, size))
            .map_err(|error| io_error(self.partial.target(), "write the file", error))
    }
}

fn unwritten(target: &Path) -> impl FnOnce(partial::Error) -> Error {
    let target = target.to_owned();
    |error| Error::new(target, Fault::Target(error))
}

fn io_error(path: &Path, doing: &'static str, error: io::Error) -> Error {
    Error::new(path, Fault::Io { doing, error })
}

fn padded(size: u64, alignment: u64) -> u64 {
    // Sizes fit into 63 bits, so this does not overflow for any alignment a u32 can hold.
    align_up(size, alignment).unwrap_or(size)
}

/// Cuts the tensors into the parts of a split file; always at least one, even without tensors.
fn group(tensors: &[Declared], max_bytes: Option<u64>, alignment: u64) -> Vec<&[Declared]> {
    let Some(max_bytes) = max_bytes else {
        return vec![tensors];
    };
    let mut groups = Vec::new();
    let (mut begin, mut bytes) = (0, 0u64);
    for (index, tensor) in tensors.iter().enumerate() {
        let size = padded(tensor.size, alignment);
        if index > begin && bytes.saturating_add(size) > max_bytes {
            groups.push(&tensors[begin..index]);
            (begin, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(size);
    }
    groups.push(&tensors[begin..]);
    groups
}

fn part_metadata(
    all: &Metadata,
    number: usize,
    count: u64,
    tensors: usize,
    alignment: u64,
) -> Metadata {
    let mut metadata = if number == 0 {
        all.clone()
    } else {
        Metadata::new()
    };
    if alignment != DEFAULT_ALIGNMENT {
        metadata.set("general.alignment", alignment as u32);
    }
    if count > 1 {
        // The types are what llama.cpp insists on; `begin` and the reader's limits keep the numbers inside them.
        metadata.set("split.no", number as u16);
        metadata.set("split.count", count as u16);
        metadata.set("split.tensors.count", tensors as i32);
    }
    metadata
}

/// Everything before the tensors' bytes, padding included.
fn encode_header(metadata: &Metadata, tensors: &[Declared], alignment: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(b"GGUF");
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        encode_string(key, &mut out);
        out.extend((value.value_type() as u32).to_le_bytes());
        value.encode(&mut out);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        encode_string(&tensor.name, &mut out);
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        for dim in &tensor.dims {
            out.extend(dim.to_le_bytes());
        }
        out.extend(tensor.dtype.row().id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += padded(tensor.size, alignment);
    }
    out.resize(padded(out.len() as u64, alignment) as usize, 0);
    out
}

fn check_space(path: &Path, needed: u64) -> Result<()> {
    file::check_space(path, needed).map_err(|error| match error.downcast() {
        Ok(full) => Error::new(path, Fault::DiskFull(full)),
        Err(error) => io_error(
            file::folder_of(path),
            "look at the folder's free space",
            error,
        ),
    })
}

/// Gives the file its room on the disk now, so that nobody else can take it later and no write has to look for it.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    match file.allocate(size) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(error),
        // A file system that cannot do it gives room to each write.
        _ => Ok(()),
    }
}

/// Lets the disk begin with what has been written, without waiting for it: else it would idle until [`Writer::finish`]
/// and the wait there would be for the whole file. Together with [`reserve`] a third faster.
#[cfg(target_os = "linux")]
fn start_write_out(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: a system call on an open file that touches no memory of ours. A failure loses nothing but the head start:
    // `finish` waits for the disk and reports its errors.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
fn start_write_out(_: &File) {}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
        }
    }
    Ok(())
}
