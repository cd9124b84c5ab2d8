//! A file that appears whole or not at all: written under another name, then renamed.

use fourfold_quantize::file;
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
        let target = file::destination(target).map_err(io::Error::other)?;
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut name = name.to_owned();
        name.push(".partial");
        let path = target.with_file_name(name);
        // The lock says that a program is at work.
        if let Ok((left, _)) = file::open_regular(&path) {
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
        Ok(Self { file, path, target })
    }

    /// Refuses to go on if the disk has no room for a file of so many bytes.
    pub fn check_space(&self, bytes: u64) -> io::Result<()> {
        file::check_space(&self.path, bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn write(target: &Path) -> io::Result<()> {
        let mut partial = Partial::create(target, Readers::Usual)?;
        partial.write_all(b"new")?;
        partial.finish()
    }

    #[test]
    fn a_file_is_there_when_it_is_finished_and_nothing_else_ever() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        drop(Partial::create(&target, Readers::Usual).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write(&target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(folder.path()).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed_and_other_things_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [link, file, pipe] = ["link", "file", "pipe"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(write(&link).is_err(), "it points to nothing");
        fs::write(&file, "old").unwrap();
        write(&link).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = write(&pipe).unwrap_err();
        assert!(refused.to_string().contains("regular file"), "{refused}");
        // A link that somebody put where the partial file goes is removed, not written through.
        fs::write(&file, "precious").unwrap();
        let fresh = folder.path().join("fresh");
        std::os::unix::fs::symlink(&file, folder.path().join("fresh.partial")).unwrap();
        write(&fresh).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }
}
