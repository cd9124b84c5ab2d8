//! The tensors of a checkpoint: which there are, and where each lies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::{Files, INDEX, find_weights};
use crate::safetensors::{Record, Shard, SourceType};
use crate::{Error, Result};

/// All tensors of a checkpoint, by name, and the folder they are in.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder with the weights: the one that was named, or `original/` inside it.
    pub folder: PathBuf,
    shards: Vec<Shard>,
    /// Name -> (shard, record).
    places: BTreeMap<String, (usize, usize)>,
}

/// One tensor of a checkpoint, borrowed from the map of its file.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// The file it is in.
    pub path: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// Element type.
    pub dtype: SourceType,
    /// Dimensions, slowest first.
    pub shape: &'a [u64],
    /// Its elements, row by row.
    pub bytes: &'a [u8],
    /// Where it begins in its file: conversion goes through a file in this order.
    pub place: (usize, u64),
}

impl Checkpoint {
    /// Finds the weights in `folder` (or in its `original/`, or in the one snapshot of a download cache) and checks the headers of all files.
    pub fn open(folder: &Path) -> Result<Self> {
        let (folder, files) = find_weights(folder)?;
        let mut shards = Vec::with_capacity(files.names.len());
        for name in &files.names {
            shards.push(Shard::open(&folder.join(name))?);
        }
        let mut places = BTreeMap::new();
        for (shard_index, shard) in shards.iter().enumerate() {
            for (record_index, record) in shard.records.iter().enumerate() {
                let place = (shard_index, record_index);
                if let Some((other, _)) = places.insert(record.name.clone(), place) {
                    let other: &Shard = &shards[other];
                    let message = format!("is also in {}", other.path.display());
                    return Err(Error::tensor(&shard.path, &record.name, message));
                }
            }
        }
        let checkpoint = Self {
            folder,
            shards,
            places,
        };
        checkpoint.check_index(&files)?;
        Ok(checkpoint)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// What the header says about the tensor of this name.
    pub fn record(&self, name: &str) -> Option<&Record> {
        let &(shard, record) = self.places.get(name)?;
        Some(&self.shards[shard].records[record])
    }

    /// The tensor of this name, if its shape is the expected one and its element type one this program reads.
    pub fn tensor(&self, name: &str, shape: &[u64]) -> Result<Tensor<'_>> {
        let Some(&(shard_index, record_index)) = self.places.get(name) else {
            return Err(Error::MissingTensor {
                path: self.folder.clone(),
                tensor: name.to_owned(),
                advice: "the download is incomplete or config.json belongs to another model"
                    .to_owned(),
            });
        };
        let shard = &self.shards[shard_index];
        let record: &Record = &shard.records[record_index];
        let Some(dtype) = record.dtype() else {
            let message = format!(
                "has the element type {}; only BF16, F16, F32 and MXFP4 in U8 are read",
                record.dtype_name
            );
            return Err(Error::tensor(&shard.path, name, message));
        };
        if record.shape != shape {
            let message = format!(
                "has the shape {:?}; config.json asks for {shape:?}",
                record.shape
            );
            return Err(Error::tensor(&shard.path, name, message));
        }
        Ok(Tensor {
            path: &shard.path,
            name: &record.name,
            dtype,
            shape: &record.shape,
            bytes: shard.bytes(record),
            place: (shard_index, record.range.0),
        })
    }

    /// As [`Self::tensor`], for a tensor of numbers.
    pub fn floats(&self, name: &str, shape: &[u64]) -> Result<Tensor<'_>> {
        self.tensor_of(name, shape, "BF16, F16 or F32", SourceType::is_float)
    }

    /// As [`Self::tensor`], for packed codes or scales.
    pub fn packed(&self, name: &str, shape: &[u64]) -> Result<Tensor<'_>> {
        self.tensor_of(name, shape, "U8", |dtype| dtype == SourceType::U8)
    }

    fn tensor_of(
        &self,
        name: &str,
        shape: &[u64],
        expected: &str,
        fits: impl Fn(SourceType) -> bool,
    ) -> Result<Tensor<'_>> {
        let tensor = self.tensor(name, shape)?;
        if fits(tensor.dtype) {
            return Ok(tensor);
        }
        let message = format!(
            "has the element type {:?}, expected {expected}",
            tensor.dtype
        );
        Err(Error::tensor(tensor.path, name, message))
    }

    /// The first of `names` that exists in the weights' folder, or in the one above it for `original/`.
    pub fn companion(&self, name: &str) -> Option<PathBuf> {
        let here = self.folder.join(name);
        let above = self
            .folder
            .file_name()
            .is_some_and(|name| name == "original");
        let above = self.folder.parent().filter(|_| above);
        [Some(here), above.map(|folder| folder.join(name))]
            .into_iter()
            .flatten()
            .find(|path| path.is_file())
    }

    fn check_index(&self, files: &Files) -> Result<()> {
        for (name, file) in &files.index {
            let path = self.folder.join(file);
            match self.places.get(name) {
                None => {
                    let message = format!(
                        "is missing, though {INDEX} places it here; download this file again"
                    );
                    return Err(Error::tensor(&path, name, message));
                }
                Some(&(shard, _)) if files.names[shard] != *file => {
                    let message = format!(
                        "is in {}, not here as {INDEX} says; the files belong to different downloads",
                        files.names[shard]
                    );
                    return Err(Error::tensor(&path, name, message));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
