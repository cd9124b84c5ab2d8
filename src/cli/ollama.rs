//! Models that Ollama has downloaded, by the names it has for them: `gpt-oss:20b`.
//!
//! Its store keeps a small JSON file under every name, the manifest, which lists by their digests the files that make the model
//! up: the weights, and what a Modelfile added (`modelfile.rs`). Templates are not taken: harmony is the one that gpt-oss knows.

mod modelfile;

pub use modelfile::Modelfile;

use anyhow::{Context, bail};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than this is no manifest.
const MOST_BYTES: u64 = 1 << 20;

const WEIGHTS: &str = "application/vnd.ollama.image.model";
const ADAPTER: &str = "application/vnd.ollama.image.adapter";

/// The weights that Ollama has under this name, if it is one and Ollama has it.
pub fn find(name: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some((store, manifest)) = located(name)? else {
        return Ok(None);
    };
    weights(&store, &manifest)
        .with_context(|| format!("Ollama's model {name:?}"))
        .map(Some)
}

/// The store that has a model of this name, and the manifest there, of several the one that can be run.
fn located(name: &str) -> anyhow::Result<Option<(PathBuf, Value)>> {
    let Some(parts) = Name::parse(name) else {
        return Ok(None);
    };
    for store in stores() {
        for manifest in parts.manifests() {
            let path = store.join(manifest);
            // What may as well be a mistyped path is not missed where nothing may be read.
            if !is_name(name) && path.metadata().is_err() {
                continue;
            }
            if let Some(manifest) = read(&path)? {
                let chosen = chosen(&store, manifest)?;
                return Ok(Some((store, chosen)));
            }
        }
    }
    Ok(None)
}

/// Whether something that is no file can only have been meant as the name of a model.
pub fn is_name(text: &str) -> bool {
    text.contains(':') && Name::parse(text).is_some()
}

/// Where stores are: where the user says, else where Ollama's installers put them.
pub fn stores() -> Vec<PathBuf> {
    let named = std::env::var_os("OLLAMA_MODELS").filter(|folder| !folder.is_empty());
    let services = [
        "/usr/share/ollama/.ollama/models",
        "/var/lib/ollama",
        "/var/snap/ollama/common/models",
    ];
    let own = std::env::home_dir().map(|home| home.join(".ollama/models"));
    let usual = own.into_iter().chain(services.map(PathBuf::from));
    let mut stores = match named {
        Some(folder) => vec![folder.into()],
        None => usual.collect(),
    };
    // One that may not be read is there: reading says so.
    let is_there = |store: &PathBuf| match std::fs::metadata(store) {
        Ok(about) => about.is_dir(),
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    stores.retain(is_there);
    stores
}

/// `[HOST/][NAMESPACE/]MODEL[:TAG]`
struct Name<'a> {
    host: &'a str,
    namespace: &'a str,
    model: &'a str,
    tag: &'a str,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (text, "latest"),
        };
        let mut parts = path.rsplitn(3, '/');
        let name = Self {
            model: parts.next()?,
            namespace: parts.next().unwrap_or("library"),
            host: parts.next().unwrap_or("ollama.com"),
            tag,
        };
        // Nothing that could lead out of the store.
        let is_part = |part: &str, also: &[u8]| {
            let is_in_names = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
            !part.starts_with('.') && !part.is_empty() && part.bytes().all(is_in_names)
        };
        let parts = [name.namespace, name.model, name.tag];
        (is_part(name.host, b"-._:") && parts.iter().all(|part| is_part(part, b"-._")))
            .then_some(name)
    }

    /// Where in a store its manifest may be, the newest layout (Ollama 0.40) first. Ollama's own registry goes by two names.
    fn manifests(&self) -> Vec<PathBuf> {
        let registry = ["ollama.com", "registry.ollama.ai"];
        let at = |folder: &str, host: &str| {
            let model: PathBuf = [self.namespace, self.model, self.tag].iter().collect();
            Path::new(folder).join(host).join(model)
        };
        if registry.contains(&self.host) {
            let older = registry.map(|host| at("manifests", host));
            return [at("manifests-v2", registry[0])]
                .into_iter()
                .chain(older)
                .collect();
        }
        let encoded = self.host.replace(':', "%3A");
        vec![at("manifests-v2", &encoded), at("manifests", self.host)]
    }
}

/// A manifest, if it is there.
fn read(path: &Path) -> anyhow::Result<Option<Value>> {
    let reading = || format!("cannot read {path:?}, where Ollama says what the model is");
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(reading)?,
    };
    let mut text = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut text)
        .with_context(reading)?;
    serde_json::from_slice(&text)
        .with_context(reading)
        .map(Some)
}

/// The manifest itself, or of a list of them that of a GGUF file. There is one for each program that can run the model, which
/// stands in a file of its own or in the list.
fn chosen(store: &Path, manifest: Value) -> anyhow::Result<Value> {
    let Some(list) = manifest["manifests"].as_array() else {
        return Ok(manifest);
    };
    let is_gguf = |entry: &&Value| entry["runner"] != "mlx" && entry["format"] != "safetensors";
    let entry = list.iter().find(is_gguf).unwrap_or(&Value::Null);
    match blob(store, &entry["digest"]) {
        None => Ok(entry.clone()),
        Some(path) => Ok(read(&path)?.unwrap_or_default()),
    }
}

fn layers<'a>(manifest: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    layers.filter(move |layer| layer["mediaType"] == kind)
}

/// The file of the first layer of a kind.
fn layer(store: &Path, manifest: &Value, kind: &str) -> Option<PathBuf> {
    blob(store, &layers(manifest, kind).next()?["digest"])
}

/// The file with the weights that a manifest lists.
fn weights(store: &Path, manifest: &Value) -> anyhow::Result<PathBuf> {
    if layers(manifest, ADAPTER).next().is_some() {
        bail!("it is a model with an adapter beside it, which fourfold does not apply");
    }
    match layer(store, manifest, WEIGHTS) {
        Some(path) if layers(manifest, WEIGHTS).count() == 1 => Ok(path),
        Some(_) => bail!("it is in several files, whose names Ollama does not keep"),
        None => bail!("it is not on this machine as a GGUF file"),
    }
}

/// The file of a digest.
fn blob(store: &Path, digest: &Value) -> Option<PathBuf> {
    let hex = digest.as_str()?.strip_prefix("sha256")?;
    let hex = hex.strip_prefix([':', '-'])?;
    let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| store.join("blobs").join(format!("sha256-{hex}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifests(name: &str) -> Vec<String> {
        let name = Name::parse(name).expect("a name");
        let text = |path: PathBuf| path.to_str().unwrap().replace('\\', "/");
        name.manifests().into_iter().map(text).collect()
    }

    #[test]
    fn what_a_name_leaves_out_is_ollamas_own() {
        let own = [
            "manifests-v2/ollama.com/library/gpt-oss/20b",
            "manifests/ollama.com/library/gpt-oss/20b",
            "manifests/registry.ollama.ai/library/gpt-oss/20b",
        ];
        for name in [
            "gpt-oss:20b",
            "library/gpt-oss:20b",
            "registry.ollama.ai/library/gpt-oss:20b",
        ] {
            assert_eq!(manifests(name), own, "{name}");
        }
        assert_eq!(
            manifests("gpt-oss")[0],
            "manifests-v2/ollama.com/library/gpt-oss/latest"
        );
        assert_eq!(
            manifests("10.0.0.1:5000/me/mine"),
            [
                "manifests-v2/10.0.0.1%3A5000/me/mine/latest",
                "manifests/10.0.0.1:5000/me/mine/latest"
            ]
        );
    }

    #[test]
    fn names_lead_nowhere_else() {
        for text in [
            "",
            "../x",
            "a/../b",
            "model:",
            "a/b/c/d",
            "a:b:c",
            "/etc/passwd",
            "..",
            r"C:\model.gguf",
            "a b",
        ] {
            assert!(Name::parse(text).is_none(), "{text:?}");
        }
        assert!(is_name("gpt-oss:20b") && !is_name("gpt-oss") && !is_name("my folder:x"));
    }

    fn layer(kind: &str, digit: &str) -> Value {
        json!({"mediaType": kind, "digest": format!("sha256:{}", digit.repeat(64))})
    }

    #[test]
    fn weights_are_one_file() {
        let store = Path::new("store");
        let of = |layers: Value| weights(store, &json!({ "layers": layers }));
        let license = layer("application/vnd.ollama.image.license", "1");
        let path = of(json!([license, layer(WEIGHTS, "a")])).unwrap();
        assert!(path.ends_with(format!("sha256-{}", "a".repeat(64))));
        for (layers, word) in [
            (json!([license]), "not on this machine"),
            (json!([layer(WEIGHTS, "a"), layer(ADAPTER, "b")]), "adapter"),
            (json!([layer(WEIGHTS, "a"), layer(WEIGHTS, "b")]), "several"),
            (
                json!([{"mediaType": WEIGHTS, "digest": "sha256:../../x"}]),
                "not on this machine",
            ),
        ] {
            let message = of(layers).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn of_several_manifests_one_with_a_gguf_file_counts() {
        let store = tempfile::tempdir().unwrap();
        let child = json!({"layers": [layer(WEIGHTS, "c")]});
        std::fs::create_dir(store.path().join("blobs")).unwrap();
        let file = store
            .path()
            .join("blobs")
            .join(format!("sha256-{}", "d".repeat(64)));
        std::fs::write(file, child.to_string()).unwrap();
        let other = json!({"runner": "mlx", "digest": format!("sha256:{}", "e".repeat(64))});
        let referred = json!({"runner": "ollama", "digest": format!("sha256:{}", "d".repeat(64))});
        let inline = json!({"runner": "llamacpp", "layers": [layer(WEIGHTS, "c")]});
        for entry in [referred, inline] {
            let list = json!({"manifests": [other, entry]});
            let manifest = chosen(store.path(), list).unwrap();
            let path = weights(store.path(), &manifest).unwrap();
            assert!(path.ends_with(format!("sha256-{}", "c".repeat(64))));
        }
        let none = chosen(store.path(), json!({"manifests": [other]})).unwrap();
        assert!(weights(store.path(), &none).is_err());
    }
}
