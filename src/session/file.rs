//! A conversation and its cache in a file, restored exactly.
//!
//! Layout, little-endian: 16 bytes of name, version, length of the header, header (JSON: the
//! model's fingerprint and whatever the program wants back), number of tokens, tokens, cache,
//! SHA-256 of all that. The checksum is compared before anything is believed; a file for another
//! model or version is refused with its header, so that the text of the conversation can be kept.

use fourfold_quantize::file::partial::{self, Partial, Readers, Replace};
use fourfold_quantize::file::{open_regular, place};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const NAME: &[u8; 16] = b"fourfold session";
const VERSION: u32 = 1;
const CHECKSUM: usize = 32;
/// A conversation of 131,072 tokens is about a megabyte of text; this is room for any amount of
/// tool output.
const MOST_HEADER: u64 = 1 << 30;

/// Why a session could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("cannot {action} the session {path:?}: {error}")]
    Io {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Something else, or cut off.
    #[error("{path:?} is not a session that can be continued: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not fit.
    #[error(
        "the session {path:?} holds {tokens} tokens, but there is room for {limit}: raise --ctx to continue it"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Tokens in its cache.
        tokens: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// It holds what somebody else said.
    #[error(
        "the session {path:?} was changed by another program meanwhile and is left as it is: save this one under another name"
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Its cache belongs to another model, or to other settings of the cache.
    #[error(
        "the session {path:?} was saved with {saved}, but this is {current}: its cache cannot be continued, its text can"
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// What the file says.
        saved: String,
        /// What is running.
        current: String,
    },
}

/// What identifies a model, its file's content and the form of its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// For people: name and kind.
    pub label: String,
    /// A hash of everything that the meaning of a cache depends on.
    pub hash: String,
}

/// A file at a moment, to notice that another program has written it since.
#[derive(Debug)]
pub(super) struct Known {
    place: PathBuf,
    /// Length and time; none if there was no file.
    state: Option<(u64, SystemTime)>,
}

impl Known {
    /// The file as it is now.
    pub fn new(path: &Path) -> Self {
        Self {
            place: place(path),
            state: state(path),
        }
    }

    /// Whether the path leads to this file.
    pub fn is_of(&self, path: &Path) -> bool {
        self.place == place(path)
    }

    /// Whether it is as it was. A file that was removed is nobody's.
    pub fn is_current(&self) -> bool {
        let state = state(&self.place);
        state.is_none() || state == self.state
    }
}

fn state(path: &Path) -> Option<(u64, SystemTime)> {
    let about = path.metadata().ok()?;
    Some((about.len(), about.modified().ok()?))
}

/// A session file that was opened and found intact.
pub struct Saved {
    path: PathBuf,
    fingerprint: Fingerprint,
    content: Value,
    tokens: Vec<u32>,
    cache: BufReader<io::Take<File>>,
}

/// Writes a session under a temporary name and renames it when it is complete.
pub fn save(
    path: &Path,
    fingerprint: &Fingerprint,
    content: &Value,
    tokens: &[u32],
    cache: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = |error| Error::Io {
        action: "write",
        path: path.to_path_buf(),
        error,
    };
    let write = || -> io::Result<()> {
        let partial = begin(path)?;
        let mut out = Hashing {
            hash: Sha256::new(),
            out: BufWriter::with_capacity(1 << 20, partial),
        };
        let header = json!({
            "model": fingerprint.label,
            "fingerprint": fingerprint.hash,
            "content": content,
        });
        let header = serde_json::to_vec(&header)?;
        out.write_all(NAME)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        out.write_all(&(tokens.len() as u64).to_le_bytes())?;
        for token in tokens {
            out.write_all(&token.to_le_bytes())?;
        }
        cache(&mut out)?;
        let checksum = out.hash.finalize();
        out.out.write_all(&checksum)?;
        Ok(out.out.into_inner()?.finish()?)
    };
    write().map_err(failed)
}

/// Whether a session can be saved there, to be asked before anything is said that would be lost.
pub fn check_place(path: &Path) -> Result<(), Error> {
    match begin(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Io {
            action: "write",
            path: path.to_path_buf(),
            error,
        }),
    }
}

/// A file in the place of a session, or of nothing: whatever else is there was not meant.
fn begin(path: &Path) -> io::Result<Partial> {
    match Partial::create(path, Readers::None, Replace::Alike(NAME)) {
        Err(partial::Error::OtherKind) => {
            Err(io::Error::other("it exists and is no fourfold session"))
        }
        other => Ok(other?),
    }
}

/// Passes bytes on and hashes them.
struct Hashing<W> {
    hash: Sha256,
    out: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Saved {
    /// Opens a file and checks that it is whole.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Io {
            action: "read",
            path: path.to_path_buf(),
            error,
        };
        let damaged = |reason: &str| Error::Damaged {
            path: path.to_path_buf(),
            reason: reason.to_string(),
        };
        let (mut file, length) = open_regular(path).map_err(failed)?;
        let mut name = [0; 16];
        if file.read_exact(&mut name).is_err() || &name != NAME {
            return Err(damaged("it is no fourfold session"));
        }
        let body = length
            .checked_sub(CHECKSUM as u64)
            .ok_or_else(|| damaged("it ends too early"))?;
        // The version comes before the checksum, whose place a later version may change.
        let version = u32::from_le_bytes(array(&mut file).map_err(failed)?);
        if version != VERSION {
            return Err(damaged(&format!(
                "it has version {version}, this program reads version {VERSION}"
            )));
        }
        if !is_intact(&mut file, body).map_err(failed)? {
            return Err(damaged(
                "its checksum does not match, so it was cut off or changed",
            ));
        }
        file.seek(SeekFrom::Start(20)).map_err(failed)?;
        let mut rest = BufReader::with_capacity(1 << 20, file.take(body - 20));
        let header =
            sized(&mut rest, 1, MOST_HEADER).map_err(|_| damaged("its header is cut off"))?;
        let mut header: Value = serde_json::from_slice(&header)
            .map_err(|error| damaged(&format!("its header is not JSON: {error}")))?;
        let text = |key: &str| Some(header[key].as_str()?.escape_debug().to_string());
        let (Some(label), Some(hash)) = (text("model"), text("fingerprint")) else {
            return Err(damaged("its header names no model"));
        };
        let tokens = sized(&mut rest, 4, body).map_err(|_| damaged("its tokens are cut off"))?;
        let (tokens, _) = tokens.as_chunks::<4>();
        Ok(Self {
            path: path.to_path_buf(),
            fingerprint: Fingerprint { label, hash },
            content: header["content"].take(),
            tokens: tokens
                .iter()
                .map(|bytes| u32::from_le_bytes(*bytes))
                .collect(),
            cache: rest,
        })
    }

    /// What was saved beside the cache; valid whatever the model.
    pub fn content(&self) -> &Value {
        &self.content
    }

    /// The tokens and the cache, if they belong to this model.
    pub fn cache(self, current: &Fingerprint) -> Result<(Vec<u32>, impl Read + use<>), Error> {
        if self.fingerprint.hash != current.hash {
            return Err(Error::OtherModel {
                path: self.path,
                saved: self.fingerprint.label,
                current: current.label.clone(),
            });
        }
        Ok((self.tokens, self.cache))
    }

    /// The error of a cache that does not hold what it should.
    pub fn damaged(path: &Path, reason: impl ToString) -> Error {
        Error::Damaged {
            path: path.to_path_buf(),
            reason: reason.to_string(),
        }
    }
}

/// Compares the checksum at the end with the `body` bytes before it.
fn is_intact(file: &mut File, body: u64) -> io::Result<bool> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut rest = body;
    let mut buffer = vec![0; 1 << 20];
    while rest > 0 {
        let wanted = buffer
            .len()
            .min(usize::try_from(rest).unwrap_or(usize::MAX));
        let count = file.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Ok(false);
        }
        hash.update(&buffer[..count]);
        rest -= count as u64;
    }
    let checksum: [u8; CHECKSUM] = array(file)?;
    Ok(hash.finalize().as_slice() == checksum)
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A count and that many items of `size` bytes; memory is taken only for what is really there.
fn sized(input: &mut impl Read, size: u64, most: u64) -> io::Result<Vec<u8>> {
    let count = u64::from_le_bytes(array(input)?);
    let length = count.checked_mul(size).filter(|&length| length <= most);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = Vec::new();
    input.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fingerprint(hash: &str) -> Fingerprint {
        Fingerprint {
            label: "a model".into(),
            hash: hash.into(),
        }
    }

    fn saved(folder: &Path) -> PathBuf {
        let path = folder.join("talk.session");
        let content = json!({"messages": ["hello"]});
        save(&path, &fingerprint("1"), &content, &[7, 8, 70_000], |out| {
            out.write_all(b"the cache")
        })
        .unwrap();
        path
    }

    #[test]
    fn everything_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let saved = Saved::open(&saved(folder.path())).unwrap();
        assert_eq!(saved.content()["messages"][0], "hello");
        let (tokens, mut cache) = saved.cache(&fingerprint("1")).unwrap();
        let mut bytes = Vec::new();
        cache.read_to_end(&mut bytes).unwrap();
        assert_eq!(
            (tokens, bytes.as_slice()),
            (vec![7, 8, 70_000], b"the cache".as_slice())
        );
    }

    #[test]
    fn another_model_is_refused_but_its_text_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let saved = Saved::open(&saved(folder.path())).unwrap();
        assert_eq!(saved.content()["messages"][0], "hello");
        let error = saved.cache(&fingerprint("2")).err().unwrap();
        assert!(error.to_string().contains("cannot be continued"), "{error}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            assert!(Saved::open(&path).is_err(), "bit in byte {position}");
            std::fs::write(&path, &whole[..position]).unwrap();
            assert!(Saved::open(&path).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn a_count_that_lies_takes_no_memory() {
        let mut bytes = NAME.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((1u64 << 60).to_le_bytes());
        let checksum = Sha256::digest(&bytes);
        bytes.extend(checksum);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lie");
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Saved::open(&path), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let failed = save(&path, &fingerprint("1"), &Value::Null, &[], |_| {
            Err(io::Error::other("full"))
        });
        assert!(failed.is_err());
        assert!(Saved::open(&path).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_a_session_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, "GGUF and much more").unwrap();
        assert!(check_place(&path).is_err());
        let refused = save(&path, &fingerprint("1"), &Value::Null, &[], |_| Ok(()));
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("no fourfold session")
        );
        assert_eq!(fs::read(&path).unwrap(), b"GGUF and much more");
    }

    #[test]
    fn what_a_killed_program_left_is_cleared_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("talk.session.fourfold-partial");
        fs::write(&left, "half").unwrap();
        let path = saved(folder.path());
        assert!(!left.exists());
        let other = File::create(&left).unwrap();
        other.try_lock().unwrap();
        let busy = save(&path, &fingerprint("2"), &Value::Null, &[], |_| Ok(()));
        assert!(busy.unwrap_err().to_string().contains("another program"));
        assert!(left.exists() && Saved::open(&path).is_ok());
    }
}
