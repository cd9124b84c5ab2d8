//! Writing a model: many threads at once, into temporary files that get their names only when they are whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fs4::fs_std::FileExt;

use super::error::{Error, Fault, Result};
use super::layout::{Declared, Layout};
use super::metadata::Metadata;
use super::value::encode_string;
use super::{DEFAULT_ALIGNMENT, align_up, target};
use crate::file;

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
    overwrite: bool,
    leftovers: Vec<PathBuf>,
}

struct Part {
    /// `None` once it has its final name.
    temporary: Option<PathBuf>,
    target: PathBuf,
    file: File,
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
    /// Lays the file out, checks that it will fit on the disk, and creates it under a temporary name (`NAME.partial`)
    /// in the folder where it will stay.
    pub fn begin(layout: Layout, path: &Path, options: &WriteOptions) -> Result<Writer> {
        if path.file_name().is_none() {
            return Err(Error::new(path, Fault::NoFileName));
        }
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
        let targets: Vec<PathBuf> = target::names(path, count)
            .into_iter()
            .map(|target| target::resolve(target, options.overwrite))
            .collect::<Result<_>>()?;
        let mut writer = Writer {
            parts: Vec::new(),
            slots: Vec::new(),
            overwrite: options.overwrite,
            leftovers: Vec::new(),
        };
        let total = layout.tensors.len();
        let mut plans = Vec::new();
        for (number, tensors) in groups.into_iter().enumerate() {
            let metadata = part_metadata(&layout.metadata, number, count, total, alignment);
            let header = encode_header(&metadata, tensors, alignment);
            let size = writer.place(number, header.len() as u64, tensors, alignment);
            plans.push((header, size));
        }
        for target in &targets {
            writer.clear_leftover(target)?;
        }
        check_space(&targets[0], plans.iter().map(|plan| plan.1).sum())?;
        for ((header, size), target) in plans.into_iter().zip(targets) {
            writer.create(target, &header, size)?;
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
                &part.target,
                Fault::OutsideTensor {
                    name: slot.name.clone(),
                    offset,
                    length,
                    size: slot.size,
                },
            ));
        }
        write_all_at(&part.file, bytes, slot.start + offset)
            .map_err(|error| io_error(&part.target, "write the file", error))?;
        slot.written.fetch_add(length, Ordering::Relaxed);
        let before = part.written.fetch_add(length, Ordering::Relaxed);
        if before / WRITE_OUT_BYTES != (before + length) / WRITE_OUT_BYTES {
            start_write_out(&part.file);
        }
        Ok(())
    }

    /// The files that will exist after [`Writer::finish`].
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| &*part.target)
    }

    /// Temporary files of interrupted runs that were in the way and have been removed.
    pub fn leftovers(&self) -> &[PathBuf] {
        &self.leftovers
    }

    /// Makes sure that everything is on the disk, and gives the files their names.
    pub fn finish(mut self) -> Result<Vec<PathBuf>> {
        for slot in &self.slots {
            let written = slot.written.load(Ordering::Relaxed);
            if written != slot.size {
                return Err(Error::new(
                    &self.parts[slot.part].target,
                    Fault::Incomplete {
                        name: slot.name.clone(),
                        expected: slot.size,
                        written,
                    },
                ));
            }
        }
        for part in &self.parts {
            part.file
                .sync_all()
                .map_err(|error| io_error(&part.target, "write the file to disk", error))?;
        }
        let targets: Vec<_> = self.paths().map(Path::to_owned).collect();
        for target in &targets {
            target::resolve(target.clone(), self.overwrite)?;
        }
        // The first part last: once it is there, so are the others.
        for part in self.parts.iter_mut().rev() {
            if let Some(temporary) = &part.temporary {
                fs::rename(temporary, &part.target)
                    .map_err(|error| io_error(&part.target, "rename the finished file", error))?;
                part.temporary = None;
            }
        }
        // Without this a power cut could bring the old name back; not every file system can do it, and the data is safe.
        #[cfg(unix)]
        if let Ok(folder) = File::open(file::folder_of(&targets[0])) {
            let _ = folder.sync_all();
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

    /// Removes the temporary file of a run that was killed, unless that run is still going on.
    fn clear_leftover(&mut self, target: &Path) -> Result<()> {
        let temporary = target::temporary(target);
        // What is no file is not a leftover, and will be in the way of creating one.
        let Ok((file, _)) = file::open_regular(&temporary) else {
            return Ok(());
        };
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::new(target, Fault::Busy { temporary }));
        }
        fs::remove_file(&temporary)
            .map_err(|error| io_error(&temporary, "remove the leftover file", error))?;
        self.leftovers.push(temporary);
        Ok(())
    }

    fn create(&mut self, target: PathBuf, header: &[u8], size: u64) -> Result<()> {
        let temporary = target::temporary(&target);
        let file = File::create_new(&temporary)
            .map_err(|error| io_error(&temporary, "create the file", error))?;
        // From here on, dropping the writer removes the file.
        self.parts.push(Part {
            temporary: Some(temporary),
            target,
            file,
            written: AtomicU64::new(0),
        });
        let part = &self.parts[self.parts.len() - 1];
        // The lock tells a later run that this file is not a leftover. Where locks do not exist, nothing depends on it.
        let _ = part.file.try_lock();
        (&part.file)
            .write_all(header)
            .and_then(|()| part.file.set_len(size))
            .and_then(|()| reserve(&part.file, size))
            .map_err(|error| io_error(&part.target, "write the file", error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for part in &self.parts {
            if let Some(temporary) = &part.temporary {
                // Nobody is left to tell; the next run to the same name removes it.
                let _ = fs::remove_file(temporary);
            }
        }
    }
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
