//! What a recipe chose, in plain words.

use super::{Choice, layer_of};

impl Choice {
    /// Why a tensor with rows of so many columns does not get the type that was wanted for it.
    pub fn fallback_note(&self, columns: u64) -> Option<String> {
        let wanted = self.fallback_from?;
        Some(format!(
            "{} needs rows of {}, {columns} is not a multiple; using {}",
            wanted.name(),
            wanted.block_len(),
            self.dtype.name(),
        ))
    }
}

/// Sentences about tensors, each once and with the names of all that it is about: `attn_q, attn_k (48 tensors): ...`.
pub fn sentences<'a>(notes: impl Iterator<Item = (String, &'a str)>) -> Vec<String> {
    let mut about: Vec<(String, Vec<&str>)> = Vec::new();
    for (note, name) in notes {
        match about.iter_mut().find(|other| other.0 == note) {
            Some((_, names)) => names.push(name),
            None => about.push((note, vec![name])),
        }
    }
    about
        .into_iter()
        .map(|(note, names)| format!("{}: {note}", listed(&names)))
        .collect()
}

/// Tensor names without layer numbers.
fn listed(names: &[&str]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for name in names {
        let kind = layer_of(name).map_or(*name, |(_, part)| part);
        let kind = kind.strip_suffix(".weight").unwrap_or(kind);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let kinds = kinds.join(", ");
    match names.len() {
        1 => kinds,
        count => format!("{kinds} ({count} tensors)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_each_kind_of_tensor_once() {
        let note = |text: &str, name| (text.to_owned(), name);
        let notes = [
            note("small", "blk.0.attn_q.weight"),
            note("large", "output.weight"),
            note("small", "blk.1.attn_q.weight"),
            note("small", "blk.1.attn_k.weight"),
        ];
        assert_eq!(
            sentences(notes.into_iter()),
            ["attn_q, attn_k (3 tensors): small", "output: large"]
        );
    }
}
