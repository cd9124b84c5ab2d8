//! An output file that appears whole or not at all: written under another name, then renamed.

use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file being written. Dropping it without [`Output::finish`] leaves nothing behind.
pub struct Output {
    writer: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Output {
    /// Starts a file; one that exists is overwritten only if `force` says so.
    pub fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        if path.exists() && !force {
            bail!(
                "{} exists: choose another name or use --force",
                path.display()
            );
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary)
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        Ok(Self {
            writer: BufWriter::with_capacity(1 << 20, file),
            temporary,
            path: path.to_path_buf(),
        })
    }

    /// Gives the file its name, once everything is on the disk.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let done = self
            .writer
            .flush()
            .and_then(|()| self.writer.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path));
        done.with_context(|| format!("cannot write {}", self.path.display()))
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

impl Drop for Output {
    fn drop(&mut self) {
        // After `finish` there is nothing of this name any more.
        let _ = fs::remove_file(&self.temporary);
    }
}
