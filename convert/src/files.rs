//! Which files of a folder are the weights, and what a folder is that has none.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use fourfold_quantize::file;

use crate::small::{read_json, read_text};
use crate::{Error, Result};

const DOWNLOAD: &str =
    "download a checkpoint with `hf download openai/gpt-oss-20b --local-dir DIR`";

const WEIGHTS: &str = "model.safetensors";

/// The file that says which tensor is in which of several files.
pub const INDEX: &str = "model.safetensors.index.json";

/// Names of the files with weights, and what the index says about them (nothing, if there is none).
pub struct Files {
    /// In the order in which they are opened.
    pub names: Vec<String>,
    /// Tensor -> file.
    pub index: HashMap<String, String>,
}

/// The weights in `folder`, and the folder they are in: this one, `original/` inside it, or the one snapshot that a
/// download cache has.
pub fn find_weights(folder: &Path) -> Result<(PathBuf, Files)> {
    if folder.is_file() {
        return Err(what_file(folder));
    }
    if !folder.is_dir() {
        return Err(Error::file(folder, format!("no such folder; {DOWNLOAD}")));
    }
    if let Some(found) = here_or_original(folder)? {
        return Ok(found);
    }
    let snapshot = only_snapshot(folder)?;
    let folder = snapshot.as_deref().unwrap_or(folder);
    here_or_original(folder)?.ok_or_else(|| what_folder(folder))
}

fn here_or_original(folder: &Path) -> Result<Option<(PathBuf, Files)>> {
    for candidate in [folder.to_owned(), folder.join("original")] {
        if let Some(files) = weights_in(&candidate)? {
            return Ok(Some((candidate, files)));
        }
    }
    Ok(None)
}

/// The snapshot in a repository's folder of `huggingface_hub`'s cache. Of several, a person must choose.
fn only_snapshot(folder: &Path) -> Result<Option<PathBuf>> {
    let snapshots = folder.join("snapshots");
    let mut names = list(&snapshots);
    names.retain(|name| snapshots.join(name).is_dir());
    if names.len() < 2 {
        return Ok(names.pop().map(|name| snapshots.join(name)));
    }
    // What `main` was when it was last downloaded.
    let main = read_text(&folder.join("refs/main")).unwrap_or_default();
    let name = names.iter().find(|name| *name == main.trim());
    let message = format!(
        "is a download cache with {} snapshots; name one of them, for example {}",
        names.len(),
        snapshots.join(name.unwrap_or(&names[0])).display()
    );
    Err(Error::file(folder, message))
}

/// Refuses a link to nothing, which is what an interrupted download leaves in a cache.
pub fn check_link(path: &Path) -> Result<()> {
    if path.is_symlink() && !path.exists() {
        let message = "is a link to a file that is missing (in a download cache, its blob); download it again";
        return Err(Error::file(path, message));
    }
    Ok(())
}

fn weights_in(folder: &Path) -> Result<Option<Files>> {
    check_link(&folder.join(WEIGHTS))?;
    check_link(&folder.join(INDEX))?;
    if folder.join(WEIGHTS).is_file() {
        let names = vec![WEIGHTS.to_owned()];
        let index = HashMap::new();
        return Ok(Some(Files { names, index }));
    }
    let index = folder.join(INDEX);
    if index.is_file() {
        return read_index(folder, &index).map(Some);
    }
    // Shards without an index: all of them. A missing one shows as missing tensors.
    let mut names = list(folder);
    names.retain(|name| is_shard(name));
    for name in &names {
        check_link(&folder.join(name))?;
    }
    let index = HashMap::new();
    Ok((!names.is_empty()).then_some(Files { names, index }))
}

fn is_shard(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with("adapter_")
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
        if !names.insert(file.clone()) {
            continue;
        }
        check_link(&folder.join(file))?;
        if !folder.join(file).is_file() {
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

/// The names in a folder, sorted.
fn list(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
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
    if let Some(inside) = last_with_weights(folder, &names) {
        let message = format!(
            "holds no safetensors weights, but {} does; name that folder",
            folder.join(inside).display()
        );
        return Error::file(folder, message);
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

/// Of the folders inside, the one with weights and the highest number: a trainer numbers its checkpoints by steps.
fn last_with_weights<'a>(folder: &Path, names: &'a [String]) -> Option<&'a String> {
    let step = |name: &str| -> Option<u64> { name.rsplit('-').next()?.parse().ok() };
    names
        .iter()
        .filter(|name| list(&folder.join(name)).iter().any(|name| is_shard(name)))
        .max_by_key(|name| step(name))
}
