//! The vocabulary inside a GGUF file.

use super::merges::Merges;
use super::{Error, LoadError, Tokenizer, Unmerged, Vocabulary, check_lengths};
use fourfold_quantize::gguf::{self, Gguf, Metadata, Value};

/// `tokenizer.ggml.pre` of vocabularies whose text is split by the o200k pattern.
const O200K: [&str; 2] = ["gpt-4o", "llama4"];

impl Tokenizer {
    /// A tokenizer from the vocabulary in a model file.
    pub fn from_gguf(file: &Gguf) -> Result<Tokenizer, LoadError> {
        let metadata = file.metadata();
        let model = metadata.string("tokenizer.ggml.model")?;
        let result = if model == "gpt2" {
            from_metadata(metadata)?
        } else {
            let found = model.to_owned();
            Err(Error::UnsupportedModel { found })
        };
        result.map_err(|error| {
            let path = file.parts().next().map(|part| part.0.to_owned());
            LoadError::Vocabulary {
                path: path.unwrap_or_default(),
                error,
            }
        })
    }
}

fn from_metadata(metadata: &Metadata) -> Result<Result<Tokenizer, Error>, gguf::Error> {
    let split = metadata.string("tokenizer.ggml.pre")?;
    if !O200K.contains(&split) {
        let found = split.to_owned();
        return Ok(Err(Error::UnsupportedSplit { found }));
    }
    // Before anything is collected: a quarter of a billion empty strings take no room in a file with holes.
    if let Err(error) = check_arrays(metadata) {
        return Ok(Err(error));
    }
    let tokens: Vec<&str> = metadata.strings("tokenizer.ggml.tokens")?.collect();
    let kinds = metadata.i32s("tokenizer.ggml.token_type")?;
    let mut named = Vec::new();
    for (key, _) in metadata.iter() {
        let name = key.strip_prefix("tokenizer.ggml.");
        if let Some(name) = name.and_then(|name| name.strip_suffix("_token_id")) {
            // Some programs write an impossible number for a token that there is not. Without an end, answers would have none.
            match metadata.u32(key) {
                Ok(id) if name == "eos" || (id as usize) < tokens.len() => named.push((name, id)),
                Err(error) if name == "eos" => return Err(error),
                _ => {}
            }
        }
    }
    let vocabulary = Vocabulary {
        tokens: &tokens,
        kinds: &kinds,
        merges: None,
        named: &named,
    };
    let merges = || -> Result<Option<Vec<&str>>, gguf::Error> {
        match metadata.get("tokenizer.ggml.merges") {
            Some(_) => Ok(Some(metadata.strings("tokenizer.ggml.merges")?.collect())),
            None => Ok(None),
        }
    };
    let (unmerged, merges) = rayon::join(|| Unmerged::new(&vocabulary), merges);
    let merges = merges?;
    Ok(unmerged.and_then(|unmerged| unmerged.with_merges(merges.as_deref())))
}

/// Whether the arrays have lengths that a vocabulary can have. What is missing or something else is left to the getters.
fn check_arrays(metadata: &Metadata) -> Result<(), Error> {
    let length = |key: &str| match metadata.get(key) {
        Some(Value::Array(array)) => Some(array.len()),
        _ => None,
    };
    if let Some(tokens) = length("tokenizer.ggml.tokens") {
        let kinds = length("tokenizer.ggml.token_type");
        check_lengths(tokens, kinds.unwrap_or(tokens))?;
    }
    Merges::check_count(length("tokenizer.ggml.merges").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::tokens::MAX_TOKENS;
    use super::*;
    use fourfold_quantize::gguf::Array;

    fn error(tokens: usize, merges: usize) -> Error {
        let mut metadata = Metadata::new();
        metadata.set("tokenizer.ggml.pre", "gpt-4o");
        let empty = |count| Array::of_strings(std::iter::repeat_n("", count));
        metadata.set("tokenizer.ggml.tokens", empty(tokens));
        metadata.set("tokenizer.ggml.merges", empty(merges));
        // Without types: they are looked for after the lengths.
        from_metadata(&metadata).unwrap().err().unwrap()
    }

    #[test]
    fn lengths_are_checked_before_anything_is_collected() {
        assert!(matches!(
            error(MAX_TOKENS + 1, 0),
            Error::TooManyTokens { .. }
        ));
        assert!(matches!(error(1, 1 << 22), Error::TooManyMerges { .. }));
    }
}
