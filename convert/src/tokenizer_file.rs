//! tokenizer.json, as far as it is used.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// What of it goes into a GGUF file.
#[derive(serde::Deserialize)]
pub struct TokenizerFile {
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub model: Model,
}

/// A token that stands beside the vocabulary.
#[derive(serde::Deserialize)]
pub struct AddedToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub special: bool,
}

/// The vocabulary.
#[derive(serde::Deserialize)]
pub struct Model {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub vocab: Pairs,
    pub merges: Vec<Merge>,
}

/// Token -> id, in file order. A hash map would take longer and lose doubled names.
pub struct Pairs(pub Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a map of tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// `"left right"` or `["left", "right"]`, kept as the former.
pub struct Merge(pub String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a merge as \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_str<E>(self, text: &str) -> Result<Merge, E> {
                Ok(Merge(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Merge, A::Error> {
                let mut next = || parts.next_element::<std::borrow::Cow<'de, str>>();
                let (Some(left), Some(right), None) = (next()?, next()?, next()?) else {
                    return Err(A::Error::custom("a merge that is not of two parts"));
                };
                Ok(Merge(format!("{left} {right}")))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
