//! The special tokens of the format, found by name in whatever vocabulary the model brings.

use crate::tokenizer::Tokenizer;
use thiserror::Error;

/// A special token of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the tokens' own")]
pub enum Mark {
    Start,
    End,
    Message,
    Channel,
    Constrain,
    Call,
    Return,
}

impl Mark {
    /// All of them.
    pub const ALL: [Mark; 7] = [
        Mark::Start,
        Mark::End,
        Mark::Message,
        Mark::Channel,
        Mark::Constrain,
        Mark::Call,
        Mark::Return,
    ];

    /// The token's text.
    pub fn text(self) -> &'static str {
        match self {
            Mark::Start => "<|start|>",
            Mark::End => "<|end|>",
            Mark::Message => "<|message|>",
            Mark::Channel => "<|channel|>",
            Mark::Constrain => "<|constrain|>",
            Mark::Call => "<|call|>",
            Mark::Return => "<|return|>",
        }
    }
}

/// A vocabulary that does not speak harmony.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the vocabulary has no {0} token, so the model does not speak harmony: only raw prompts (--raw) are possible"
)]
pub struct MissingMarkup(&'static str);

/// The ids of the special tokens in one vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markup {
    ids: [u32; Mark::ALL.len()],
    end_of_text: Option<u32>,
}

impl Markup {
    /// Looks the tokens up by name.
    pub fn find(tokenizer: &Tokenizer) -> Result<Markup, MissingMarkup> {
        let mut ids = [0; Mark::ALL.len()];
        for mark in Mark::ALL {
            let id = tokenizer.special(mark.text());
            ids[mark as usize] = id.ok_or(MissingMarkup(mark.text()))?;
        }
        Ok(Markup {
            ids,
            end_of_text: tokenizer.special("<|endoftext|>"),
        })
    }

    /// The id of a token.
    pub fn id(&self, mark: Mark) -> u32 {
        self.ids[mark as usize]
    }

    /// Which token an id is. `<|endoftext|>` ends a turn as `<|return|>` does.
    pub fn mark(&self, id: u32) -> Option<Mark> {
        if self.end_of_text == Some(id) {
            return Some(Mark::Return);
        }
        Mark::ALL.into_iter().find(|&mark| self.id(mark) == id)
    }
}
