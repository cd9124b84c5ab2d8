//! A file that appears whole or not at all: written under another name, then renamed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file being written. Dropping it without [`Partial::finish`] leaves nothing behind.
pub struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

/// Who may read a file besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whoever the system's settings say.
    Usual,
    /// Nobody.
    None,
}

impl Partial {
    /// Starts `NAME.partial` beside the file that it will become. What a killed program left there is removed.
    pub fn create(target: &Path, readers: Readers) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut name = name.to_owned();
        name.push(".partial");
        let path = target.with_file_name(name);
        // The lock says that a program is at work.
        if let Ok(left) = File::open(&path) {
            if let Err(TryLockError::WouldBlock) = left.try_lock() {
                return Err(io::Error::other("another program is writing it"));
            }
            fs::remove_file(&path)?;
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if readers == Readers::None {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        let _ = readers;
        let file = options.open(&path)?;
        // Where locks do not exist, nothing depends on them.
        let _ = file.try_lock();
        let target = target.to_path_buf();
        Ok(Self { file, path, target })
    }

    /// Gives the file its name, once everything is on the disk.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Once it has its name there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}
