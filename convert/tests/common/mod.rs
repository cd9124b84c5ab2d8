//! Checkpoints made in the tests: the golden ones, taken apart and put together in other ways.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fourfold_convert::{Checkpoint, Options, Plan, Report, Result};
use fourfold_quantize::gguf::{Gguf, WriteOptions};
use serde_json::{Value, json};

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

#[derive(Clone)]
pub struct Stored {
    pub dtype: String,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// The tensors of a checkpoint, to change and to save.
#[derive(Clone)]
pub struct Weights(pub BTreeMap<String, Stored>);

impl Weights {
    pub fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let (length, rest) = file.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header: BTreeMap<String, Value> = serde_json::from_slice(header).unwrap();
        let tensors = header
            .into_iter()
            .filter(|(name, _)| name != "__metadata__");
        Self(
            tensors
                .map(|(name, entry)| {
                    let [begin, end]: [usize; 2] =
                        serde_json::from_value(entry["data_offsets"].clone()).unwrap();
                    let stored = Stored {
                        dtype: entry["dtype"].as_str().unwrap().to_owned(),
                        shape: serde_json::from_value(entry["shape"].clone()).unwrap(),
                        bytes: data[begin..end].to_vec(),
                    };
                    (name, stored)
                })
                .collect(),
        )
    }

    pub fn save(&self, path: &Path) {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, tensor) in &self.0 {
            let offsets = [data.len(), data.len() + tensor.bytes.len()];
            header.insert(
                name.clone(),
                json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}),
            );
            data.extend_from_slice(&tensor.bytes);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(data);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }

    pub fn take(&mut self, name: &str) -> Stored {
        self.0.remove(name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.take(from);
        self.0.insert(to.to_owned(), tensor);
    }

    pub fn get(&mut self, name: &str) -> &mut Stored {
        self.0.get_mut(name).unwrap_or_else(|| panic!("no {name}"))
    }
}

/// A copy of a golden checkpoint in a folder of its own.
pub fn copy(name: &str, folder: &Path) -> Weights {
    fs::create_dir_all(folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(data(name).join(file), folder.join(file)).unwrap();
    }
    Weights::read(&folder.join("model.safetensors"))
}

pub fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
}

pub fn without_tokenizer() -> Options {
    Options {
        tokenizer: false,
        ..Options::default()
    }
}

pub fn convert(folder: &Path, options: &Options, target: &Path) -> Result<Report> {
    let checkpoint = Checkpoint::open(folder)?;
    let plan = Plan::new(&checkpoint, options)?;
    plan.write(target, &WriteOptions::default(), &|_| {}, &|| false)
}

/// Converts with `options` and opens the result.
pub fn converted(folder: &Path, options: &Options) -> Gguf {
    let target = tempfile::tempdir().unwrap();
    let path = target.path().join("out.gguf");
    convert(folder, options, &path).unwrap();
    // The map outlives the folder.
    Gguf::open(&path).unwrap()
}

/// Asserts that all tensors whose name `which` accepts are the same in both files.
pub fn assert_same(found: &Gguf, expected: &Gguf, which: impl Fn(&str) -> bool) {
    assert_eq!(found.tensors().count(), expected.tensors().count());
    for expected in expected.tensors().filter(|tensor| which(tensor.name)) {
        let found = found.tensor(expected.name).unwrap();
        assert_eq!(found.dims, expected.dims, "{}", expected.name);
        assert_eq!(found.dtype, expected.dtype, "{}", expected.name);
        assert!(found.bytes == expected.bytes, "{}", expected.name);
    }
}
