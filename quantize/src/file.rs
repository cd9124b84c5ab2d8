//! Opening and replacing what may not be a file: a path from a person, or one that a downloaded folder leads to.
//!
//! A pipe would be waited for without end, and a device or a sparse file read until no memory is left. So nothing is
//! waited for, and what was opened is looked at before anything is read from it. And renaming a finished file would
//! destroy a device node or a link that stands under the name.

pub mod partial;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Opens anything for reading, without waiting for the other end of a pipe.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    let about = file.metadata()?;
    Ok((file, about))
}

/// Opens a regular file for reading, and says how many bytes it has.
pub fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let (file, about) = open(path)?;
    // What reading from it would have said.
    #[cfg(unix)]
    if about.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if !about.is_file() {
        let message = "is not a regular file; put the file itself in its place";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok((file, about.len()))
}

/// All bytes of a regular file that has at most `most` of them.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    if length > most {
        let message = format!(
            "has {length} bytes, and at most {most} are read; it is not the file it should be, fetch it again"
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // It may be growing.
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What stands where a file is to be written, and is not replaced by one.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// Not even if it is empty.
    #[error("is a directory")]
    Directory,
    /// A device, a pipe or a socket.
    #[error("is not a regular file")]
    NotAFile,
    /// What it was meant to lead to is not for us to make.
    #[error("is a symbolic link to nothing")]
    DanglingLink,
    /// Say, for want of a permission.
    #[error("is a symbolic link that cannot be followed ({0})")]
    Link(io::Error),
}

/// Where a file that is written under this name belongs: there, or where the symbolic link leads that is there already.
pub fn destination(path: &Path) -> Result<PathBuf, Obstacle> {
    let Ok(link) = path.symlink_metadata() else {
        return Ok(path.to_owned());
    };
    match path.metadata() {
        Err(_) => Err(Obstacle::DanglingLink),
        Ok(about) if about.is_dir() => Err(Obstacle::Directory),
        Ok(about) if !about.is_file() => Err(Obstacle::NotAFile),
        Ok(_) if link.is_symlink() => path.canonicalize().map_err(Obstacle::Link),
        Ok(_) => Ok(path.to_owned()),
    }
}

/// The one name of a file however it is spelled, also of one that is not there yet.
pub fn place(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = folder_of(path).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    let place = path.canonicalize().ok().or_else(in_folder);
    place.unwrap_or_else(|| path.to_path_buf())
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What a disk lacks for a file.
#[derive(Debug, thiserror::Error)]
#[error(
    "the folder {folder:?} has {available} bytes free and {needed} are needed; make room or write elsewhere"
)]
pub struct DiskFull {
    /// Where the file was to be.
    pub folder: PathBuf,
    /// Its bytes.
    pub needed: u64,
    /// Bytes that the disk has left for this user.
    pub available: u64,
}

/// Refuses a file of so many bytes, to be written under this name, if the disk has no room for it: then the error holds a
/// [`DiskFull`].
pub fn check_space(path: &Path, needed: u64) -> io::Result<()> {
    let folder = folder_of(path);
    let available = fs4::available_space(folder)?;
    if available >= needed {
        return Ok(());
    }
    let folder = folder.to_owned();
    let full = DiskFull {
        folder,
        needed,
        available,
    };
    Err(io::Error::new(io::ErrorKind::StorageFull, full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_refused_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let message = read(&path, 4).unwrap_err().to_string();
        assert!(message.contains("5 bytes") && message.contains("at most 4"));
        // A hole takes no room on the disk, and would take all of the memory.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(
            read(&path, 1 << 20).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        check_space(&path, 1).unwrap();
        let full = check_space(&path, u64::MAX).unwrap_err();
        let full: DiskFull = full.downcast().unwrap();
        assert_eq!((&*full.folder, full.needed), (folder.path(), u64::MAX));
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_folders_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&*pipe, Path::new("/dev/zero")] {
            let message = read(path, 1 << 20).unwrap_err().to_string();
            assert!(message.contains("not a regular file"), "{message}");
        }
        // Word for word what the standard library says.
        let expected = std::fs::read(folder.path()).unwrap_err().to_string();
        assert_eq!(read(folder.path(), 9).unwrap_err().to_string(), expected);
    }
}
