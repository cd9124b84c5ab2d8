//! What to call the model: from the name of its folder, config.json, and the front matter of README.md.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::small::read_text;

/// The parts of a name, and what the model card adds.
#[derive(Debug, Default, PartialEq)]
pub struct Card {
    /// As a folder or repository spells it: `gpt-oss-20b`.
    pub id: String,
    /// As people read it: `Gpt Oss 20b`.
    pub title: String,
    /// What precedes the size: `gpt-oss`.
    pub basename: Option<String>,
    /// What follows it.
    pub finetune: Option<String>,
    /// `20B`.
    pub size_label: Option<String>,
    /// `apache-2.0`.
    pub license: Option<String>,
    /// Repositories (`openai/gpt-oss-20b`) that it was made from.
    pub base_models: Vec<String>,
    /// Tags, the task among them.
    pub tags: Vec<String>,
}

impl Card {
    /// Reads what there is; a missing or odd model card only means fewer fields.
    pub fn read(checkpoint: &Checkpoint, config: &Config) -> Self {
        let folder = checkpoint.folder.canonicalize();
        let folder = folder.as_deref().unwrap_or(&checkpoint.folder);
        let id = folder_id(folder)
            .or_else(|| {
                config
                    .name
                    .as_deref()?
                    .rsplit('/')
                    .next()
                    .map(str::to_owned)
            })
            .unwrap_or_else(|| "gpt-oss".to_owned());
        let mut card = Self::from_id(&id);
        let text = checkpoint
            .companion("README.md")
            .map(|path| read_text(&path));
        if let Some(Ok(text)) = text {
            card.add_front_matter(&text);
        }
        card
    }

    fn from_id(id: &str) -> Self {
        let words: Vec<&str> = id.split('-').filter(|word| !word.is_empty()).collect();
        let size = words.iter().position(|word| is_size(word));
        let join = |words: &[&str]| (!words.is_empty()).then(|| words.join("-"));
        Self {
            id: id.to_owned(),
            title: words
                .iter()
                .map(|word| capitalize(word))
                .collect::<Vec<_>>()
                .join(" "),
            basename: join(&words[..size.unwrap_or(words.len())]),
            finetune: size.and_then(|size| join(&words[size + 1..])),
            size_label: size.map(|size| words[size].to_uppercase()),
            ..Self::default()
        }
    }

    /// The few fields that GGUF has a key for, from the lines between the first two `---`.
    fn add_front_matter(&mut self, text: &str) {
        let mut lines = text.lines();
        if lines.next().is_none_or(|line| line.trim_end() != "---") {
            return;
        }
        let mut pipeline_tag = None;
        let mut key = String::new();
        for line in lines.take_while(|line| line.trim_end() != "---") {
            let item = line.trim_start().strip_prefix("- ");
            let values: Vec<String> = match (item, line.split_once(':')) {
                (Some(item), _) => vec![unquote(item)],
                (None, Some((name, value))) if !line.starts_with([' ', '#']) => {
                    key = name.trim().to_owned();
                    let inside = value.trim();
                    let list = inside
                        .strip_prefix('[')
                        .and_then(|rest| rest.strip_suffix(']'));
                    list.unwrap_or(inside).split(',').map(unquote).collect()
                }
                _ => continue,
            };
            for value in values.into_iter().filter(|value| !value.is_empty()) {
                match key.as_str() {
                    "license" => self.license = Some(value),
                    "tags" => self.tags.push(value),
                    "pipeline_tag" => pipeline_tag = Some(value),
                    "base_model" => self.base_models.push(value),
                    _ => {}
                }
            }
        }
        self.tags.extend(pipeline_tag);
    }
}

/// The folder's own name; in the download cache of `huggingface_hub`, the repository's.
fn folder_id(folder: &Path) -> Option<String> {
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let mut folder = folder;
    if name(folder)? == "original" {
        folder = folder.parent()?;
    }
    if let Some(snapshots) = folder.parent()
        && name(snapshots).as_deref() == Some("snapshots")
        && let Some(repository) = snapshots.parent().and_then(name)
        && let Some(id) = repository.strip_prefix("models--")
    {
        return id.rsplit("--").next().map(str::to_owned);
    }
    name(folder)
}

fn is_size(word: &str) -> bool {
    let number = word.strip_suffix(['b', 'B', 'm', 'M']);
    number.is_some_and(|number| {
        number.starts_with(|c: char| c.is_ascii_digit()) && number.parse::<f32>().is_ok()
    })
}

/// A word in small letters gets a capital; `20b` and `v2` stay.
fn capitalize(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first)
            if first.is_lowercase()
                && !word.chars().any(|c| c.is_uppercase() || c.is_ascii_digit()) =>
        {
            first.to_uppercase().chain(letters).collect()
        }
        _ => word.to_owned(),
    }
}

fn unquote(value: &str) -> String {
    value.trim().trim_matches(['"', '\'']).to_owned()
}

/// `32x2.4B`: the number of experts, and the weights that one of them works with.
pub fn expert_size_label(experts: u32, expert_weights: u64, other_weights: u64) -> String {
    let one = (expert_weights / u64::from(experts) + other_weights) as f64;
    let (scaled, unit) = match one {
        n if n > 1e12 => (n / 1e12, "T"),
        n if n > 1e9 => (n / 1e9, "B"),
        n if n > 1e6 => (n / 1e6, "M"),
        n => (n / 1e3, "K"),
    };
    // At least two digits in all.
    let decimals = usize::from(scaled.round() < 10.0);
    format!("{experts}x{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart_as_llama_cpp_takes_them_apart() {
        let card = Card::from_id("gpt-oss-20b");
        assert_eq!(card.title, "Gpt Oss 20b");
        assert_eq!(card.basename.as_deref(), Some("gpt-oss"));
        assert_eq!(
            (card.size_label.as_deref(), card.finetune),
            (Some("20B"), None)
        );
        let tuned = Card::from_id("gpt-oss-120b-Medical-v2");
        assert_eq!(tuned.title, "Gpt Oss 120b Medical v2");
        assert_eq!(tuned.finetune.as_deref(), Some("Medical-v2"));
        assert_eq!(
            Card::from_id("gpt-oss-safeguard-20b").basename.as_deref(),
            Some("gpt-oss-safeguard")
        );
    }

    #[test]
    fn the_download_cache_names_the_repository() {
        let path = Path::new(
            "/home/me/.cache/huggingface/hub/models--openai--gpt-oss-20b/snapshots/6cee5e8/original",
        );
        assert_eq!(folder_id(path).as_deref(), Some("gpt-oss-20b"));
        assert_eq!(
            folder_id(Path::new("/models/mine/original")).as_deref(),
            Some("mine")
        );
    }

    #[test]
    fn front_matter_gives_license_tags_and_base() {
        let mut card = Card::default();
        card.add_front_matter("---\nlicense: apache-2.0\npipeline_tag: text-generation\nbase_model: [\"openai/gpt-oss-20b\"]\ntags:\n- vllm\n- 'mine'\n---\ntags: no\n");
        assert_eq!(card.license.as_deref(), Some("apache-2.0"));
        assert_eq!(card.tags, ["vllm", "mine", "text-generation"]);
        assert_eq!(card.base_models, ["openai/gpt-oss-20b"]);
        card.add_front_matter("no front matter\nlicense: mit\n");
        assert_eq!(card.license.as_deref(), Some("apache-2.0"));
    }

    #[test]
    fn size_labels_of_the_published_models() {
        // Weights of 20b and 120b, the experts' matrices and biases apart.
        assert_eq!(
            expert_size_label(32, 19_116_933_120, 1_797_824_064),
            "32x2.4B"
        );
        assert_eq!(
            expert_size_label(128, 114_701_598_720, 2_127_557_952),
            "128x3.0B"
        );
    }
}
