//! An output file that appears whole or not at all, and replaces another only if that was asked for.

use anyhow::{Context, bail};
use fourfold_quantize::file::partial::{Partial, Readers, Replace};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file being written. Dropping it without [`Output::finish`] leaves nothing behind.
pub struct Output {
    writer: BufWriter<Partial>,
    path: PathBuf,
}

impl Output {
    /// Starts a file; one that exists is overwritten only if `force` says so and it begins like what is written.
    pub fn create(path: &Path, force: bool, begin: &'static [u8]) -> anyhow::Result<Self> {
        refuse_pipe(path)?;
        let replace = match force {
            true => Replace::Alike(begin),
            false => Replace::Nothing,
        };
        let partial = Partial::create(path, Readers::Usual, replace);
        let partial = partial.with_context(|| failure(path))?;
        Ok(Self {
            writer: BufWriter::with_capacity(1 << 20, partial),
            path: path.to_path_buf(),
        })
    }

    /// Refuses to go on if the disk has no room for a file of so many bytes: before the work, not hours later.
    pub fn check_space(&self, bytes: u64) -> anyhow::Result<()> {
        let space = self.writer.get_ref().check_space(bytes);
        space.with_context(|| failure(&self.path))
    }

    /// Gives the file its name, once everything is on the disk.
    pub fn finish(self) -> anyhow::Result<()> {
        let Self { writer, path } = self;
        let partial = writer.into_inner().map_err(|error| error.into_error());
        let partial = partial.with_context(|| failure(&path))?;
        partial.finish().with_context(|| failure(&path))
    }

    /// Says which file could not be written: a full disk is no help without it.
    fn named<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", failure(&self.path)))
        })
    }
}

/// What needs a name, and perhaps a disk to go back and forth on, is not written to a pipe.
pub fn refuse_pipe(path: &Path) -> anyhow::Result<()> {
    if path == Path::new("-") {
        bail!("this output cannot be standard output: name a file (one called - is ./-)");
    }
    Ok(())
}

fn failure(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.writer.write(bytes);
        self.named(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.writer.flush();
        self.named(outcome)
    }
}
