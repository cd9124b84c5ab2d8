//! A file that appears whole or not at all: written under another name, then renamed.

use super::{Obstacle, destination, folder_of, open_regular};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A file being written. Dropping it without [`Partial::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct Partial {
    file: File,
    /// None once it has its name.
    temporary: Option<PathBuf>,
    target: PathBuf,
    replace: Replace,
    leftover: bool,
}

/// Which files may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// None.
    Nothing,
    /// Those that begin like the one that is written, and empty ones: not an input that was named by mistake.
    Alike(&'static [u8]),
}

/// Who may read a file besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whoever the system's settings say.
    Usual,
    /// Nobody.
    None,
}

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// And was not to be replaced.
    #[error("already exists; choose another name or allow overwriting (--force)")]
    Exists,
    /// And is no file of the kind that was to be replaced.
    #[error("exists and is another kind of file, which is not replaced; choose another name")]
    OtherKind,
    /// Something else than a file stands there.
    #[error("{0}; choose another name")]
    Obstacle(#[from] Obstacle),
    /// This is where.
    #[error(
        "another program is writing this file now, into {0:?}; wait for it or choose another name"
    )]
    Busy(PathBuf),
    /// Such as `..`.
    #[error("the name does not end in a file name")]
    NoFileName,
    /// The system said no.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What it said no to.
        doing: &'static str,
        /// What it said.
        error: io::Error,
    },
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { error, .. } => error,
            other => io::Error::other(other),
        }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { doing, error }
}

impl Partial {
    /// Starts `NAME.fourfold-partial` beside the file that it will become. What a killed program left there is removed: nobody
    /// else calls a file so.
    pub fn create(name: &Path, readers: Readers, replace: Replace) -> Result<Self, Error> {
        let target = resolve(name, replace)?;
        let file_name = target.file_name().ok_or(Error::NoFileName)?;
        let mut temporary = file_name.to_owned();
        temporary.push(".fourfold-partial");
        let temporary = target.with_file_name(temporary);
        let leftover = clear(&temporary)?;
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if readers == Readers::None {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        let _ = readers;
        let file = (options.open(&temporary)).map_err(failed("create the file"))?;
        // The lock says that a program is at work. Until it is held, the file may pass for a leftover and be removed.
        if !lock(&file) || !is_at(&file, &temporary) {
            return Err(Error::Busy(temporary));
        }
        Ok(Self {
            file,
            temporary: Some(temporary),
            target,
            replace,
            leftover,
        })
    }

    /// The file under its temporary name.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The file of a killed program that was in the way and has been removed.
    pub fn leftover(&self) -> Option<&Path> {
        self.temporary.as_deref().filter(|_| self.leftover)
    }

    /// Refuses to go on if the disk has no room for a file of so many bytes.
    pub fn check_space(&self, bytes: u64) -> io::Result<()> {
        super::check_space(&self.target, bytes)
    }

    /// Makes sure that everything is on the disk and that the name is still to be had.
    pub fn settle(&self) -> Result<(), Error> {
        (self.file.sync_all()).map_err(failed("write the file to disk"))?;
        resolve(&self.target, self.replace).map(drop)
    }

    /// Gives the file its name, once everything is on the disk.
    pub fn finish(mut self) -> Result<(), Error> {
        self.settle()?;
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.target).map_err(failed("rename the finished file"))?;
        }
        self.temporary = None;
        // Without this a power cut could bring the old name back; not every file system can do it, and the data is safe.
        #[cfg(unix)]
        if let Ok(folder) = File::open(folder_of(&self.target)) {
            let _ = folder.sync_all();
        }
        Ok(())
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
        if let Some(temporary) = &self.temporary {
            // Nobody is left to tell; the next run to the same name removes it.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Where a file of this name will be put. What stands there already may be a file at most, and that only if it may be replaced.
fn resolve(name: &Path, replace: Replace) -> Result<PathBuf, Error> {
    let place = destination(name)?;
    if place.symlink_metadata().is_err() {
        return Ok(place);
    }
    let Replace::Alike(begin) = replace else {
        return Err(Error::Exists);
    };
    let (file, length) = open_regular(&place).map_err(failed("read the file that is there"))?;
    let mut found = Vec::new();
    let most = begin.len() as u64;
    (file.take(most).read_to_end(&mut found)).map_err(failed("read the file that is there"))?;
    match length == 0 || found == begin {
        true => Ok(place),
        false => Err(Error::OtherKind),
    }
}

/// Removes the temporary file of a program that was killed, unless it is still at work; says whether there was one.
fn clear(temporary: &Path) -> Result<bool, Error> {
    // What is no file is not a leftover, and will be in the way of creating one.
    let Ok((left, _)) = open_regular(temporary) else {
        return Ok(false);
    };
    if !lock(&left) {
        return Err(Error::Busy(temporary.to_owned()));
    }
    // Another program may have removed it first, and made its own.
    let is_left = is_at(&left, temporary);
    if is_left {
        fs::remove_file(temporary).map_err(failed("remove the leftover file"))?;
    }
    Ok(is_left)
}

/// Takes the lock of a file; false if another program holds it. Where locks do not exist, nothing depends on them.
pub fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether the name leads to this open file, or to a link to it.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), path.metadata()) {
        (Ok(file), Ok(path)) => (file.dev(), file.ino()) == (path.dev(), path.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(target: &Path) -> Result<Partial, Error> {
        Partial::create(target, Readers::Usual, Replace::Alike(b"new"))
    }

    fn write(target: &Path) -> Result<(), Error> {
        let mut partial = create(target)?;
        partial.write_all(b"new").unwrap();
        partial.finish()
    }

    #[test]
    fn a_file_is_there_when_it_is_finished_and_nothing_else_ever() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        drop(create(&target).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write(&target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(folder.path()).is_err());
        assert!(matches!(write(Path::new("/")), Err(Error::Obstacle(_))));
    }

    #[test]
    fn a_file_that_came_meanwhile_is_replaced_only_if_that_was_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let partial = Partial::create(&target, Readers::Usual, Replace::Nothing).unwrap();
        fs::write(&target, "somebody's").unwrap();
        assert!(matches!(partial.finish(), Err(Error::Exists)));
        assert_eq!(fs::read(&target).unwrap(), b"somebody's");
        let again = Partial::create(&target, Readers::Usual, Replace::Nothing);
        assert!(matches!(again, Err(Error::Exists)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_leftover_is_removed_and_a_file_in_the_making_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let temporary = folder.path().join("file.fourfold-partial");
        fs::write(&temporary, "half").unwrap();
        let first = create(&target).unwrap();
        assert_eq!(first.leftover(), Some(&*temporary));
        assert!(matches!(create(&target), Err(Error::Busy(_))));
        first.finish().unwrap();
        // Another program's, begun when this one had its name already.
        let next = create(&target).unwrap();
        assert!(next.leftover().is_none() && temporary.exists());
    }

    #[test]
    fn only_files_of_the_same_kind_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        for (there, is_replaced) in [("", true), ("newer", true), ("ne", false), ("old", false)] {
            fs::write(&target, there).unwrap();
            match write(&target) {
                Ok(()) => assert!(is_replaced, "{there:?}"),
                Err(Error::OtherKind) => assert!(!is_replaced, "{there:?}"),
                Err(other) => panic!("{other}"),
            }
        }
        // Somebody's own file of a similar name is left alone.
        let own = folder.path().join("file.partial");
        fs::write(&own, "precious").unwrap();
        fs::write(&target, "new").unwrap();
        write(&target).unwrap();
        assert_eq!(fs::read(&own).unwrap(), b"precious");
    }

    /// However many begin at once, what appears is what one of them wrote.
    #[test]
    fn of_many_at_once_one_writes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let run = |number: u8| {
            for _ in 0..50 {
                match Partial::create(&target, Readers::Usual, Replace::Alike(b"")) {
                    Ok(mut partial) => {
                        for _ in 0..20 {
                            partial.write_all(&[number]).unwrap();
                        }
                        partial.finish().unwrap();
                    }
                    // It was there when it was made sure that it is not, or taken for a leftover.
                    Err(Error::Busy(_) | Error::Io { .. }) => continue,
                    Err(other) => panic!("{other}"),
                }
                let bytes = fs::read(&target).unwrap();
                assert!(bytes.len() == 20 && bytes.iter().all(|&byte| byte == bytes[0]));
            }
        };
        std::thread::scope(|scope| {
            for number in 0..4 {
                scope.spawn(move || run(number));
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    mod links {
        use super::*;
        use std::os::unix::fs::symlink;

        #[test]
        fn only_files_are_written_over() {
            let folder = tempfile::tempdir().unwrap();
            let pipe = folder.path().join("pipe");
            nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let [to_pipe, to_folder, dangling] =
                ["a", "b", "c"].map(|name| folder.path().join(name));
            symlink(&pipe, &to_pipe).unwrap();
            symlink(folder.path(), &to_folder).unwrap();
            symlink("absent", &dangling).unwrap();
            for (target, reason) in [
                (&*pipe, "not a regular file"),
                (&to_pipe, "not a regular file"),
                (folder.path(), "is a directory"),
                (&to_folder, "is a directory"),
                (&dangling, "link to nothing"),
            ] {
                // The same with and without: none that advises to allow overwriting, which does not help.
                for replace in [Replace::Nothing, Replace::Alike(b"")] {
                    let error = Partial::create(target, Readers::Usual, replace).unwrap_err();
                    assert!(error.to_string().contains(reason), "{error}");
                }
            }
        }

        #[test]
        fn a_link_to_a_file_is_written_through() {
            let folder = tempfile::tempdir().unwrap();
            let [link, file] = ["link", "file"].map(|name| folder.path().join(name));
            fs::write(&file, "new and old").unwrap();
            symlink("file", &link).unwrap();
            let refused = Partial::create(&link, Readers::Usual, Replace::Nothing);
            assert!(matches!(refused, Err(Error::Exists)));
            write(&link).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"new");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }

        #[test]
        fn a_link_that_somebody_put_in_the_partial_files_place_is_removed() {
            let folder = tempfile::tempdir().unwrap();
            let [fresh, file] = ["fresh", "file"].map(|name| folder.path().join(name));
            fs::write(&file, "precious").unwrap();
            symlink(&file, folder.path().join("fresh.fourfold-partial")).unwrap();
            write(&fresh).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"precious");
        }
    }
}
