//! The tokenizer files of a checkpoint: tokens, types, merges, special ids, chat template.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use fourfold_quantize::gguf::vocabulary::{MAX_TOKEN_BYTES, byte_of};
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::fields::ids;
use crate::o200k;
use crate::small::{MAX_TOKENIZER, read_json, read_json_up_to, read_text};
use crate::tokenizer_file::TokenizerFile;
use crate::{Error, Result};

/// What `tokenizer.ggml.token_type` says about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenType {
    /// Made of bytes, by merges.
    Normal = 1,
    /// Never made from text.
    Control = 3,
    /// Made from text as a whole.
    UserDefined = 4,
    /// A row of the embedding without a token.
    Unused = 5,
}

/// Everything GGUF says about the tokenizer.
#[derive(Debug, Default)]
pub struct Vocab {
    /// One for each row of the embedding: byte-level text, literal text, or `[PADn]`.
    pub tokens: Vec<String>,
    /// One of [`TokenType`] for each.
    pub types: Vec<i32>,
    /// `left right`, in order of priority.
    pub merges: Vec<String>,
    /// GGUF's names of special tokens (`bos`, `eos`, ...) and their ids.
    pub special: Vec<(&'static str, u32)>,
    /// Whether a bos is put before, and an eos after, every text.
    pub add_bos: bool,
    /// See [`Self::add_bos`].
    pub add_eos: bool,
    /// Where the model stops, from generation_config.json.
    pub stop: Vec<u32>,
    /// The Jinja text, and named further ones.
    pub chat_template: Option<String>,
    /// See [`Self::chat_template`].
    pub named_templates: Vec<(String, String)>,
    /// What is unusual about it, for the person who converts.
    pub notes: Vec<String>,
}

/// GGUF's word for each special token, and Hugging Face's.
const SPECIAL: [(&str, &str); 7] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unknown", "unk"),
    ("seperator", "sep"),
    ("padding", "pad"),
    ("cls", "cls"),
    ("mask", "mask"),
];

impl Vocab {
    /// Reads tokenizer.json and the smaller files beside it.
    pub fn read(checkpoint: &Checkpoint, config: &Config) -> Result<Self> {
        let Some(path) = checkpoint.companion("tokenizer.json") else {
            let message = "holds no tokenizer.json; download it too (`hf download openai/gpt-oss-20b tokenizer.json tokenizer_config.json chat_template.jinja generation_config.json --local-dir DIR`), or convert without a tokenizer by --no-tokenizer";
            return Err(Error::file(&checkpoint.folder, message));
        };
        let file: TokenizerFile = read_json_up_to(&path, MAX_TOKENIZER)?;
        let mut vocab = Self::from_file(&path, file, config.vocab_size)?;
        let small = |name: &str| match checkpoint.companion(name) {
            Some(path) => read_json::<Value>(&path).map(|value| (path, value)),
            None => Ok((checkpoint.folder.join(name), Value::Null)),
        };
        let tokenizer_config = small("tokenizer_config.json")?;
        let generation_config = small("generation_config.json")?;
        vocab.set_special(config, &tokenizer_config.1, &generation_config)?;
        vocab.set_template(checkpoint, &tokenizer_config.1)?;
        Ok(vocab)
    }

    fn from_file(path: &Path, file: TokenizerFile, rows: u32) -> Result<Self> {
        let refuse = |message: String| Err(Error::file(path, message));
        if let Some(kind) = file.model.kind.filter(|kind| kind != "BPE") {
            return refuse(format!("holds a {kind:?} tokenizer; gpt-oss has BPE"));
        }
        let mut slots: Vec<Option<(String, TokenType)>> = vec![None; rows as usize];
        let ordinary = file.model.vocab.0.into_iter();
        let ordinary = ordinary.map(|(text, id)| (text, id, TokenType::Normal));
        let added = file.added_tokens.into_iter().map(|token| {
            let control = token.special || looks_special(&token.content);
            let kind = if control {
                TokenType::Control
            } else {
                TokenType::UserDefined
            };
            (token.content, token.id, kind)
        });
        for (text, id, kind) in ordinary.chain(added) {
            let Some(slot) = slots.get_mut(id as usize) else {
                return refuse(format!(
                    "gives the token {text:?} the id {id}, but the model has only {rows} rows (`vocab_size`)"
                ));
            };
            match slot {
                Some((other, _)) if *other != text => {
                    return refuse(format!(
                        "gives two tokens the id {id}: {other:?} and {text:?}"
                    ));
                }
                // An added token may stand in the vocabulary too; its own record says what it is.
                _ => *slot = Some((text, kind)),
            }
        }
        let mut vocab = Self::default();
        for (id, slot) in slots.into_iter().enumerate() {
            let (text, kind) = slot.unwrap_or_else(|| (format!("[PAD{id}]"), TokenType::Unused));
            vocab.tokens.push(text);
            vocab.types.push(kind as i32);
        }
        vocab.merges = file.model.merges.into_iter().map(|merge| merge.0).collect();
        vocab.check_spelling(path)?;
        vocab.check_strings(path)?;
        vocab
            .notes
            .extend(o200k::verify(&vocab.tokens, &vocab.merges));
        if vocab.merges.is_empty() {
            vocab.notes.push("tokenizer.json has no merges, so that text becomes one token for each byte; llama.cpp does not load such a file".into());
        }
        if file
            .pre_tokenizer
            .is_none_or(|value| !o200k::splits_as_o200k(&value))
        {
            vocab.notes.push("tokenizer.json splits text by another regular expression than o200k's, which GGUF's `gpt-4o` stands for: text will become other tokens than in training".into());
        }
        if file.normalizer.is_some() {
            vocab.notes.push("tokenizer.json normalizes text before it is split, which GGUF cannot say: text will become other tokens than in training".into());
        }
        Ok(vocab)
    }

    /// Ordinary tokens are spelled as the tokenizer asks for: it would refuse the converted file.
    fn check_spelling(&self, path: &Path) -> Result<()> {
        let tokens = self.tokens.iter().zip(&self.types).enumerate();
        for (id, (text, &kind)) in tokens {
            let foreign = text.chars().find(|&character| byte_of(character).is_none());
            let message = match foreign.filter(|_| kind == TokenType::Normal as i32) {
                Some(character) => format!(
                    "is not byte-level: token {id} contains {character:?}, which is not in the alphabet"
                ),
                None if text.is_empty() => format!("gives token {id} no text"),
                None if text.len() > MAX_TOKEN_BYTES => format!(
                    "gives token {id} a text of {} bytes, more than the {MAX_TOKEN_BYTES} that are accepted",
                    text.len()
                ),
                None => continue,
            };
            return Err(Error::file(path, message));
        }
        Ok(())
    }

    /// Token texts are unique, and every merge joins two tokens to a third.
    fn check_strings(&self, path: &Path) -> Result<()> {
        let mut known = HashSet::with_capacity(self.tokens.len());
        if let Some(text) = self.tokens.iter().find(|text| !known.insert(text.as_str())) {
            return Err(Error::file(path, format!("has the token {text:?} twice")));
        }
        let mut joined = String::new();
        for merge in &self.merges {
            let parts = merge
                .split_once(' ')
                .filter(|(_, right)| !right.contains(' '));
            let fits = parts.is_some_and(|(left, right)| {
                joined.clear();
                joined.push_str(left);
                joined.push_str(right);
                known.contains(left) && known.contains(right) && known.contains(joined.as_str())
            });
            if !fits {
                let message =
                    format!("has the merge {merge:?}, which does not join two tokens to a third");
                return Err(Error::file(path, message));
            }
        }
        Ok(())
    }

    /// Special ids by name from tokenizer_config.json, else by number from generation_config.json or config.json.
    fn set_special(
        &mut self,
        config: &Config,
        tokenizer_config: &Value,
        (path, generation_config): &(PathBuf, Value),
    ) -> Result<()> {
        let by_text: HashMap<&str, usize> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(id, text)| (text.as_str(), id))
            .collect();
        let mut notes = Vec::new();
        let mut listed = |name: &str| -> Result<Vec<u32>> {
            let key = format!("{name}_token_id");
            let found = ids(generation_config.get(&key)).ok_or_else(|| {
                let message = format!("`{key}` is neither a token id nor a list of them");
                Error::file(path, message)
            })?;
            let found = rows(path, &key, found, config.vocab_size, &mut notes)?;
            let in_config = match name {
                "bos" => &config.bos_token_ids,
                "eos" => &config.eos_token_ids,
                "pad" => &config.pad_token_ids,
                _ => return Ok(found),
            };
            if !found.is_empty() {
                return Ok(found);
            }
            let path = path.with_file_name("config.json");
            rows(
                &path,
                &key,
                in_config.clone(),
                config.vocab_size,
                &mut notes,
            )
        };
        for (gguf, name) in SPECIAL {
            // A token is given as its text, or as an object with the text as `content`.
            let value = &tokenizer_config[format!("{name}_token")];
            let text = value.as_str().or_else(|| value["content"].as_str());
            let id = match text.and_then(|text| by_text.get(text)) {
                Some(&id) => Some(id as u32),
                None => listed(name)?.first().copied(),
            };
            self.special.extend(id.map(|id| (gguf, id)));
        }
        self.stop = listed("eos")?;
        self.notes.extend(notes);
        self.add_bos = tokenizer_config["add_bos_token"].as_bool().unwrap_or(false);
        self.add_eos = tokenizer_config["add_eos_token"].as_bool().unwrap_or(false);
        Ok(())
    }

    /// tokenizer_config.json first, then chat_template.jinja, then chat_template.json: llama.cpp's order.
    fn set_template(&mut self, checkpoint: &Checkpoint, tokenizer_config: &Value) -> Result<()> {
        let mut template = tokenizer_config["chat_template"].clone();
        if template.is_null()
            && let Some(path) = checkpoint.companion("chat_template.jinja")
        {
            template = Value::String(read_text(&path)?);
        }
        if template.is_null()
            && let Some(path) = checkpoint.companion("chat_template.json")
        {
            template = read_json::<Value>(&path)?["chat_template"].clone();
        }
        match template {
            Value::String(text) => self.chat_template = Some(text),
            Value::Array(named) => {
                for entry in named {
                    let (Some(name), Some(text)) =
                        (entry["name"].as_str(), entry["template"].as_str())
                    else {
                        continue;
                    };
                    match name {
                        "default" => self.chat_template = Some(text.to_owned()),
                        _ => self
                            .named_templates
                            .push((name.to_owned(), text.to_owned())),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Those of a file's ids that are tokens of the model. Of another the note tells, unless it is to end the text: then
/// nothing would.
fn rows(
    path: &Path,
    key: &str,
    ids: Vec<i64>,
    rows: u32,
    notes: &mut Vec<String>,
) -> Result<Vec<u32>> {
    let known = |id: i64| u32::try_from(id).ok().filter(|&id| id < rows);
    if let Some(id) = ids.iter().find(|&&id| known(id).is_none()) {
        let message = format!("`{key}` is {id}, but the tokens are 0 to {}", rows - 1);
        if key == "eos_token_id" {
            return Err(Error::file(path, message));
        }
        let file = path.file_name().unwrap_or_default().display();
        notes.push(format!("{file}: {message}; it is left out"));
    }
    Ok(ids.into_iter().filter_map(known).collect())
}

/// Added tokens that some tokenizers forget to mark as special, but that no text should produce.
fn looks_special(text: &str) -> bool {
    (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<｜") && text.ends_with("｜>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(merges: &str, added: &str) -> Result<Vocab> {
        let text = format!(
            r#"{{"added_tokens":[{added}],"model":{{"type":"BPE","vocab":{{"a":0,"b":1,"ab":2}},"merges":{merges}}}}}"#
        );
        let file = serde_json::from_str(&text).map_err(Error::json(Path::new("tokenizer.json")))?;
        Vocab::from_file(Path::new("tokenizer.json"), file, 6)
    }

    const SPECIAL: &str =
        r#"{"id":3,"content":"<|end|>","special":true},{"id":4,"content":"mine"}"#;

    #[test]
    fn both_spellings_of_merges_and_rows_without_a_token() {
        let vocab = parse(r#"["a b"]"#, SPECIAL).unwrap();
        assert_eq!(
            vocab.merges,
            parse(r#"[["a","b"]]"#, SPECIAL).unwrap().merges
        );
        assert_eq!(vocab.tokens, ["a", "b", "ab", "<|end|>", "mine", "[PAD5]"]);
        assert_eq!(vocab.types, [1, 1, 1, 3, 4, 5]);
        assert_eq!(vocab.merges, ["a b"]);
        // Not the published vocabulary, which is said but not refused.
        assert!(vocab.notes[0].contains("not o200k's"), "{:?}", vocab.notes);
        assert!(vocab.notes[1].contains("splits text by another"));
        assert_eq!(vocab.notes.len(), 2);
        let notes = parse("[]", SPECIAL).unwrap().notes;
        assert!(
            notes[1].contains("no merges") && notes[1].contains("llama.cpp"),
            "{notes:?}"
        );
    }

    #[test]
    fn impossible_vocabularies_are_refused() {
        let cases = [
            (r#"["a c"]"#, SPECIAL, "does not join two tokens"),
            (r#"["ab"]"#, SPECIAL, "does not join two tokens"),
            (r#"[["a"]]"#, SPECIAL, "not of two parts"),
            (
                r#"[]"#,
                r#"{"id":6,"content":"x"}"#,
                "the model has only 6 rows",
            ),
            (
                r#"[]"#,
                r#"{"id":1,"content":"x"}"#,
                "gives two tokens the id 1",
            ),
            (
                r#"[]"#,
                r#"{"id":5,"content":"a"}"#,
                "has the token \"a\" twice",
            ),
            (r#"[]"#, r#"{"id":5,"content":""}"#, "token 5 no text"),
        ];
        for (merges, added, expected) in cases {
            let message = parse(merges, added).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn ordinary_tokens_are_spelled_in_bytes() {
        let read = |token: &str, kind: &str| {
            let text = format!(
                r#"{{"added_tokens":[{kind}],"model":{{"vocab":{{"{token}":0}},"merges":[]}}}}"#
            );
            let file = serde_json::from_str(&text).unwrap();
            Vocab::from_file(Path::new("tokenizer.json"), file, 2).map_err(|e| e.to_string())
        };
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        for (token, expected) in [
            ("▁the", "token 0 contains '▁'"),
            ("a b", "token 0 contains ' '"),
            (&long, "1025 bytes"),
        ] {
            let message = read(token, "").unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
        assert!(read("Ġthe", r#"{"id":1,"content":"a b"}"#).is_ok());
    }

    #[test]
    fn ids_without_a_token_are_left_out_unless_they_end_the_text() {
        let mut config = crate::config::tests::tiny();
        (config.bos_token_ids, config.pad_token_ids) = (vec![1], vec![-1]);
        let path = PathBuf::from("generation_config.json");
        let generation =
            serde_json::json!({"bos_token_id": 64, "eos_token_id": 2, "pad_token_id": -1});
        let mut vocab = parse("[]", SPECIAL).unwrap();
        let before = vocab.notes.len();
        vocab
            .set_special(&config, &Value::Null, &(path.clone(), generation))
            .unwrap();
        assert_eq!(vocab.special, [("bos", 1), ("eos", 2)]);
        assert_eq!(
            vocab.notes[before..],
            [
                "generation_config.json: `bos_token_id` is 64, but the tokens are 0 to 63; it is left out",
                "generation_config.json: `pad_token_id` is -1, but the tokens are 0 to 63; it is left out",
                "config.json: `pad_token_id` is -1, but the tokens are 0 to 63; it is left out",
            ]
        );
        config.eos_token_ids = vec![200_002];
        let message = parse("[]", SPECIAL)
            .unwrap()
            .set_special(&config, &Value::Null, &(path, Value::Null))
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("config.json: `eos_token_id` is 200002"),
            "{message}"
        );
    }

    #[test]
    fn special_ids_come_from_the_tokenizers_configuration_first() {
        let config = crate::config::tests::tiny();
        let path = PathBuf::from("generation_config.json");
        let tokenizer = serde_json::json!({"eos_token": {"content": "<|end|>"}, "pad_token": "mine", "add_bos_token": true});
        let generation = serde_json::json!({"bos_token_id": 1, "eos_token_id": [3, 4]});
        let mut vocab = parse("[]", SPECIAL).unwrap();
        vocab
            .set_special(&config, &tokenizer, &(path.clone(), generation))
            .unwrap();
        assert_eq!(vocab.special, [("bos", 1), ("eos", 3), ("padding", 4)]);
        assert_eq!(
            (vocab.stop, vocab.add_bos, vocab.add_eos),
            (vec![3, 4], true, false)
        );

        let mut vocab = parse("[]", SPECIAL).unwrap();
        let wrong = serde_json::json!({"eos_token_id": 64});
        let message = vocab
            .set_special(&config, &Value::Null, &(path, wrong))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("`eos_token_id` is 64, but the tokens are 0 to 63"),
            "{message}"
        );
    }
}
