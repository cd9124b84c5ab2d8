//! The files of a checkpoint folder: which weights there are, and where each tensor lies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use fourfold_quantize::file;

use crate::safetensors::{Record, Shard, SourceType};
use crate::small::read_json;
use crate::{Error, Result};

const DOWNLOAD: &str =
    "download a checkpoint with `hf download openai/gpt-oss-20b --local-dir DIR`";

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
    /// Finds the weights in `folder` (or in its `original/`) and checks the headers of all files.
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

    /// The tensor of this name, if its shape is the expected one and its element type one this program reads.
    pub fn tensor(&self, name: &str, shape: &[u64]) -> Result<Tensor<'_>> {
        let Some(&(shard_index, record_index)) = self.places.get(name) else {
            return Err(Error::MissingTensor {
                path: self.folder.clone(),
                tensor: name.to_owned(),
                advice: "the download is incomplete or config.json belongs to another model",
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

const INDEX: &str = "model.safetensors.index.json";

/// Names of the files with weights, and what the index says about them (nothing, if there is none).
struct Files {
    names: Vec<String>,
    index: HashMap<String, String>,
}

fn find_weights(folder: &Path) -> Result<(PathBuf, Files)> {
    if folder.is_file() {
        return Err(what_file(folder));
    }
    if !folder.is_dir() {
        return Err(Error::file(folder, format!("no such folder; {DOWNLOAD}")));
    }
    let original = folder.join("original");
    for candidate in [folder, &original] {
        if let Some(files) = weights_in(candidate)? {
            return Ok((candidate.to_owned(), files));
        }
    }
    Err(what_folder(folder))
}

fn weights_in(folder: &Path) -> Result<Option<Files>> {
    if folder.join("model.safetensors").is_file() {
        let names = vec!["model.safetensors".to_owned()];
        let index = HashMap::new();
        return Ok(Some(Files { names, index }));
    }
    let index = folder.join(INDEX);
    if index.is_file() {
        return read_index(folder, &index).map(Some);
    }
    // Shards without an index: all of them. A missing one shows as missing tensors.
    let names: BTreeSet<String> = list(folder)
        .into_iter()
        .filter(|name| name.ends_with(".safetensors") && !name.starts_with("adapter_"))
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    let index = HashMap::new();
    Ok((!names.is_empty()).then_some(Files { names, index }))
}

fn read_index(folder: &Path, path: &Path) -> Result<Files> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let index: Index = read_json(path)?;
    let mut names = BTreeSet::new();
    for (tensor, file) in &index.weight_map {
        let mut parts = Path::new(file).components();
        let plain = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
        if !plain || file.contains(['/', '\\']) {
            let message = format!("is placed in {file:?}, which is not a file of this folder");
            return Err(Error::tensor(path, tensor, message));
        }
        if names.insert(file.clone()) && !folder.join(file).is_file() {
            let message = format!(
                "is in {file:?}, which is missing; the download is incomplete, fetch that file"
            );
            return Err(Error::tensor(path, tensor, message));
        }
    }
    Ok(Files {
        names: names.into_iter().collect(),
        index: index.weight_map,
    })
}

fn list(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Says what a path is that is a file, not a folder.
fn what_file(path: &Path) -> Error {
    let mut magic = [0; 12];
    let read = file::open_regular(path)
        .and_then(|(mut file, _)| std::io::Read::read_exact(&mut file, &mut magic));
    let name = path.to_string_lossy();
    if read.is_ok() && magic.starts_with(b"GGUF") {
        let instead = "it runs as it is, and `fourfold quantize` changes its types";
        return Error::unsupported(path, "a GGUF file already", instead);
    }
    if read.is_ok() && &magic == b"GPT-OSS v1.0" {
        return metal(path);
    }
    if name.ends_with(".safetensors") {
        return Error::file(
            path,
            "is one file of a checkpoint; name the folder it is in",
        );
    }
    Error::file(path, format!("is not a folder; {DOWNLOAD}"))
}

fn metal(path: &Path) -> Error {
    let instead = "its weights are permuted, scaled and cut for Apple GPUs; convert the safetensors of the same model (`hf download openai/gpt-oss-20b --exclude 'metal/*' 'original/*'`)";
    Error::unsupported(path, "the Metal container", instead)
}

/// Says what a folder holds instead of safetensors weights.
fn what_folder(folder: &Path) -> Error {
    let names = list(folder);
    let has = |test: &dyn Fn(&str) -> bool| names.iter().any(|name| test(name));
    if has(&|name| name == "adapter_model.safetensors" || name == "adapter_config.json") {
        let instead = "use `fourfold convert --lora DIR --base MODEL.gguf`, or merge it into its base model first";
        return Error::unsupported(folder, "a LoRA adapter, not a whole model", instead);
    }
    if has(&|name| name == "metal") || has(&|name| name == "model.bin") {
        return metal(folder);
    }
    if has(&|name| name.ends_with(".gguf")) {
        let instead = "the GGUF file runs as it is";
        return Error::unsupported(folder, "a folder of GGUF files", instead);
    }
    if has(&|name| name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) {
        let instead = "pickled weights can run code when they are read; save the model with `save_pretrained`, which writes safetensors, or download that form";
        return Error::unsupported(folder, "a pickled PyTorch checkpoint", instead);
    }
    Error::file(folder, format!("holds no safetensors weights; {DOWNLOAD}"))
}
