//! A conversation and its cache in a file, restored exactly.
//!
//! `log.rs` describes the file. A save is, little-endian: length of the header, header (JSON: the model's fingerprint and
//! whatever the program wants back), number of tokens, tokens, and the cache's table of its parts. A file for
//! another model or version is refused with its header, so that the text of the conversation can be kept.

mod known;
mod log;
#[cfg(test)]
mod tests;

pub(super) use known::Known;

use crate::model::persist::Put;
use fourfold_quantize::file::open_regular;
use fourfold_quantize::file::partial::{self, Partial, Readers, Replace};
use log::{Extent, Reader, Writer, array};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    /// Its cache is damaged, but what was said is not.
    #[error("the cache in {path:?} cannot be continued, its text can: {reason}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: io::Error,
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

impl Error {
    /// Whether [`super::Session::load`] can go on from the text alone.
    pub fn leaves_text(&self) -> bool {
        matches!(self, Self::OtherModel { .. } | Self::Cache { .. })
    }
}

/// What identifies a model, its file's content and the form of its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// For people: name and kind.
    pub label: String,
    /// A hash of everything that the meaning of a cache depends on.
    pub hash: String,
}

/// What a session's file is to hold.
pub(super) struct Image<'a> {
    pub fingerprint: &'a Fingerprint,
    pub content: &'a Value,
    pub tokens: &'a [u32],
    /// Puts the parts of the cache, and writes the table of them.
    pub cache: &'a dyn Fn(&mut Put, &mut Vec<u8>) -> io::Result<()>,
}

impl Image<'_> {
    /// Saves to a file that becomes known: behind what it holds if `known` says what that is, else anew, under a temporary name.
    pub fn save(&self, path: &Path, known: Option<&mut Known>) -> Result<Known, Error> {
        let failed = |error| Error::Io {
            action: "write",
            path: path.to_path_buf(),
            error,
        };
        let Some(known) = known else {
            return self.save_anew(path).map_err(failed);
        };
        let changed = |_| Error::Changed {
            path: path.to_path_buf(),
        };
        let Some((file, old)) = known.open_to_add().map_err(changed)? else {
            return self.save_anew(path).map_err(failed);
        };
        let added = self.add(&file, old);
        let about = file.metadata().map_err(failed)?;
        match added {
            Ok(extent) => Ok(Known::written(path, &about, extent)),
            Err(error) => {
                known.touched(&about);
                Err(failed(error))
            }
        }
    }

    fn add(&self, file: &File, old: &Extent) -> io::Result<Extent> {
        let added = Writer::behind(file, old).and_then(|writer| self.write(writer));
        if added.is_err() {
            // If this fails too, the next save begins where it should have cut the file.
            let _ = file.set_len(old.end());
        }
        added
    }

    fn save_anew(&self, path: &Path) -> io::Result<Known> {
        let partial = begin(path)?;
        let extent = self.write(Writer::new(partial.file())?)?;
        let about = partial.file().metadata()?;
        partial.finish()?;
        Ok(Known::written(path, &about, extent))
    }

    fn write(&self, mut writer: Writer) -> io::Result<Extent> {
        let header = json!({
            "model": self.fingerprint.label,
            "fingerprint": self.fingerprint.hash,
            "content": self.content,
        });
        let header = serde_json::to_vec(&header)?;
        let mut save = Vec::new();
        save.write_all(&(header.len() as u64).to_le_bytes())?;
        save.write_all(&header)?;
        save.write_all(&(self.tokens.len() as u64).to_le_bytes())?;
        for token in self.tokens {
            save.write_all(&token.to_le_bytes())?;
        }
        (self.cache)(&mut |part| writer.part(part), &mut save)?;
        writer.save(&save)
    }
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
    match Partial::create(path, Readers::None, Replace::Alike(log::NAME)) {
        Err(partial::Error::OtherKind) => {
            Err(io::Error::other("it exists and is no fourfold session"))
        }
        other => Ok(other?),
    }
}

/// A session's file that was opened, and its newest whole save.
pub struct Saved {
    path: PathBuf,
    fingerprint: Fingerprint,
    content: Value,
    tokens: Vec<u32>,
    /// Which part of the save is the cache's table.
    table: usize,
    reader: Reader,
}

impl Saved {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Io {
            action: "read",
            path: path.to_path_buf(),
            error,
        };
        let damaged = |reason: &str| Self::damaged(path, reason);
        let (mut file, length) = open_regular(path).map_err(failed)?;
        if array(&mut file).ok().as_ref() != Some(log::NAME) {
            return Err(damaged("it is no fourfold session"));
        }
        let version = array(&mut file).map_err(|_| damaged("it ends too early"))?;
        if version != log::VERSION {
            let [saved, current] = [version, log::VERSION].map(u32::from_le_bytes);
            return Err(damaged(&format!(
                "it has version {saved}, this program reads version {current}"
            )));
        }
        let reader = Reader::new(file, length).map_err(failed)?;
        let reader = reader
            .ok_or_else(|| damaged("its checksum does not match, so it was cut off or changed"))?;
        let mut rest = &reader.save[..];
        let header = sized(&mut rest, 1).map_err(|_| damaged("its header is cut off"))?;
        let mut header: Value = serde_json::from_slice(header)
            .map_err(|error| damaged(&format!("its header is not JSON: {error}")))?;
        let text = |key: &str| Some(header[key].as_str()?.escape_debug().to_string());
        let (Some(label), Some(hash)) = (text("model"), text("fingerprint")) else {
            return Err(damaged("its header names no model"));
        };
        let tokens = sized(&mut rest, 4).map_err(|_| damaged("its tokens are cut off"))?;
        let (tokens, _) = tokens.as_chunks::<4>();
        Ok(Self {
            path: path.to_path_buf(),
            fingerprint: Fingerprint { label, hash },
            content: header["content"].take(),
            tokens: tokens
                .iter()
                .map(|bytes| u32::from_le_bytes(*bytes))
                .collect(),
            table: reader.save.len() - rest.len(),
            reader,
        })
    }

    /// What was saved beside the cache; valid whatever the model.
    pub fn content(&self) -> &Value {
        &self.content
    }

    /// Whether something was written behind this save that was cut off or changed.
    pub fn is_older(&self) -> bool {
        self.reader.is_older
    }

    /// The tokens in the cache, if it belongs to this model.
    pub fn tokens(&mut self, current: &Fingerprint) -> Result<Vec<u32>, Error> {
        if self.fingerprint.hash != current.hash {
            return Err(Error::OtherModel {
                path: self.path.clone(),
                saved: self.fingerprint.label.clone(),
                current: current.label.clone(),
            });
        }
        Ok(std::mem::take(&mut self.tokens))
    }

    /// The cache's table, and what reads the parts that it names.
    pub fn cache(&mut self) -> (Vec<u8>, impl FnMut(u64, &mut [u8]) -> io::Result<()>) {
        let table = self.reader.save.split_off(self.table);
        (table, |place, part: &mut [u8]| {
            self.reader.part(place, part)
        })
    }

    /// What is known of the file after its cache was read.
    pub(super) fn into_extent(self) -> Extent {
        self.reader.into_extent()
    }

    /// The error of a file that does not hold what it should.
    pub fn damaged(path: &Path, reason: impl ToString) -> Error {
        Error::Damaged {
            path: path.to_path_buf(),
            reason: reason.to_string(),
        }
    }
}

/// A count and that many items of `size` bytes.
fn sized<'a>(input: &mut &'a [u8], size: u64) -> io::Result<&'a [u8]> {
    let count = u64::from_le_bytes(array(input)?);
    let length = count
        .checked_mul(size)
        .and_then(|length| usize::try_from(length).ok());
    let (items, rest) = length
        .and_then(|length| input.split_at_checked(length))
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    *input = rest;
    Ok(items)
}
