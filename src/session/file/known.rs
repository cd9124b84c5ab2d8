//! A file at a moment, to notice that another program has written it since.

use super::log::Extent;
use fourfold_quantize::file::partial::lock;
use fourfold_quantize::file::place;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file as it was last read or written, which may be not at all.
#[derive(Debug)]
pub struct Known {
    place: PathBuf,
    /// Length and time; none if there was no file.
    state: Option<(u64, SystemTime)>,
    /// What it holds, if that was read or written by this program.
    extent: Option<Extent>,
}

impl Known {
    /// The file as it is now.
    pub fn new(path: &Path) -> Self {
        let place = place(path);
        Self {
            state: place.metadata().ok().as_ref().and_then(state),
            place,
            extent: None,
        }
    }

    /// The same file, of which this was read.
    pub fn read(self, extent: Extent) -> Self {
        let extent = Some(extent);
        Self { extent, ..self }
    }

    /// The file at the path, as it was when `about` was asked of it, to which this was written.
    pub fn written(path: &Path, about: &Metadata, extent: Extent) -> Self {
        Self {
            place: place(path),
            state: state(about),
            extent: Some(extent),
        }
    }

    /// This program tried to add to it, so it is not as it was.
    pub fn touched(&mut self, about: &Metadata) {
        self.state = state(about);
    }

    /// Whether the path leads to this file.
    pub fn is_of(&self, path: &Path) -> bool {
        self.place == place(path)
    }

    /// Whether this is the same file at another moment.
    pub fn is_same(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// Whether it is as it was. A file that was removed is nobody's.
    pub fn is_current(&self) -> bool {
        let now = Self::new(&self.place).state;
        now.is_none() || now == self.state
    }

    /// The file, for nobody else to add to; none if that cannot be done, or if it is better to write it anew.
    pub fn open_to_add(&self) -> Result<Option<(File, &Extent)>, Changed> {
        let extent = self.extent.as_ref();
        let Some(extent) = extent.filter(|extent| !extent.is_mostly_waste()) else {
            return Ok(None);
        };
        let Ok(file) = File::options().read(true).write(true).open(&self.place) else {
            return Ok(None);
        };
        if !lock(&file) {
            return Err(Changed);
        }
        let about = file.metadata().ok();
        match about.as_ref().and_then(state) == self.state {
            true => Ok(Some((file, extent))),
            false => Err(Changed),
        }
    }
}

/// Another program is writing the file, or has written it.
#[derive(Debug)]
pub struct Changed;

fn state(about: &Metadata) -> Option<(u64, SystemTime)> {
    Some((about.len(), about.modified().ok()?))
}
