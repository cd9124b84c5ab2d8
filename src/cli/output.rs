//! An output file that appears whole or not at all, and replaces another only if that was asked for.

use anyhow::{Context, bail};
use fourfold::partial::{Partial, Readers};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file being written. Dropping it without [`Output::finish`] leaves nothing behind.
pub struct Output {
    writer: BufWriter<Partial>,
    path: PathBuf,
}

impl Output {
    /// Starts a file; one that exists is overwritten only if `force` says so.
    pub fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            bail!("this output cannot be standard output: name a file (one called - is ./-)");
        }
        if path.exists() && !force {
            bail!(
                "{} exists: choose another name or use --force",
                path.display()
            );
        }
        let partial = Partial::create(path, Readers::Usual)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            writer: BufWriter::with_capacity(1 << 20, partial),
            path: path.to_path_buf(),
        })
    }

    /// Gives the file its name, once everything is on the disk.
    pub fn finish(self) -> anyhow::Result<()> {
        let Self { writer, path } = self;
        let done = writer.into_inner().map_err(|error| error.into_error());
        done.and_then(Partial::finish)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}
