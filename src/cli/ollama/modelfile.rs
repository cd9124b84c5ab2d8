//! What a Modelfile put beside the weights: instructions, and parameters under Ollama's names.

use super::{layer, located, read};
use crate::cli::input_file::read_text_file;
use crate::cli::sampling;
use fourfold::sample::Settings;
use serde_json::Value;

const SYSTEM: &str = "application/vnd.ollama.image.system";
const PARAMETERS: &str = "application/vnd.ollama.image.params";

/// Ollama's names for the settings that `sampling::set` knows.
const SETTINGS: [(&str, &str); 9] = [
    ("temperature", "temp"),
    ("top_k", "top-k"),
    ("top_p", "top-p"),
    ("min_p", "min-p"),
    ("typical_p", "typical"),
    ("repeat_penalty", "repeat-penalty"),
    ("repeat_last_n", "repeat-last-n"),
    ("presence_penalty", "presence-penalty"),
    ("frequency_penalty", "frequency-penalty"),
];

/// What to do where the command line says nothing.
#[derive(Default)]
pub struct Modelfile {
    /// Instructions.
    pub system: Option<String>,
    parameters: Value,
}

impl Modelfile {
    /// What belongs to the model of this name; nothing if it is no model of Ollama's.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        let Some((store, manifest)) = located(name)? else {
            return Ok(Self::default());
        };
        let blob = |kind: &str| layer(&store, &manifest, kind).filter(|path| path.exists());
        Ok(Self {
            system: blob(SYSTEM).as_deref().map(read_text_file).transpose()?,
            parameters: match blob(PARAMETERS) {
                Some(path) => read(&path)?.unwrap_or_default(),
                None => Value::Null,
            },
        })
    }

    /// Changes the settings that it names. One that means nothing here is said and left out: Ollama checks none of them.
    pub fn apply(&self, settings: &mut Settings) {
        for (theirs, ours) in SETTINGS {
            let value = match &self.parameters[theirs] {
                Value::Null => continue,
                value => value.to_string(),
            };
            if let Err(error) = sampling::set(settings, ours, &value) {
                eprintln!("Ollama's {theirs} for this model is left out: {error:#}");
            }
        }
    }

    /// Where the random numbers begin.
    pub fn seed(&self) -> Option<u64> {
        self.parameters["seed"].as_u64().filter(|&seed| seed > 0)
    }

    /// Most new tokens; anything below 1 is no limit.
    pub fn max_tokens(&self) -> Option<usize> {
        let most = self.parameters["num_predict"].as_u64();
        let most = usize::try_from(most?).ok();
        most.filter(|&most| most > 0)
    }

    /// Texts that end an answer.
    pub fn stop(&self) -> Vec<String> {
        let texts = self.parameters["stop"].as_array();
        let texts = texts.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }
}
