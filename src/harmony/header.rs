//! What the model writes before `<|message|>`, read for what it means rather than for how it is spelled.
//!
//! Models put the recipient in either half of a header, repeat the channel, add content types with and without
//! `<|constrain|>`, and leave parts out. Nothing of that is an error here: known words are taken, others are passed over.

use super::names::{ToolNames, is_identifier};
use super::{Channel, Kind};

/// A header goes on for no more than this; beyond it the model has forgotten `<|message|>` and is writing its text.
const MAX_LEN: usize = 512;

/// What comes before a stretch of header text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: the turn began, or the model left `<|start|>` out.
    Nothing,
    /// `<|start|>`.
    Start,
    /// `<|channel|>`.
    Channel,
    /// `<|constrain|>`.
    Constrain,
}

/// A header as far as it has come.
#[derive(Clone, Debug)]
pub struct Header {
    /// Stretches of text and what stood before each.
    stretches: Vec<(Before, Vec<u8>)>,
}

/// What a message is for, by its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A message of the model.
    Kind(Kind),
    /// A call to something that was not declared.
    Undeclared(String),
    /// The model speaks for somebody else.
    Foreign,
}

impl Header {
    /// A header of which nothing but its beginning is known.
    pub fn new(before: Before) -> Self {
        Header {
            stretches: vec![(before, Vec::new())],
        }
    }

    /// Adds text.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some((_, text)) = self.stretches.last_mut() {
            text.extend_from_slice(bytes);
        }
    }

    /// Adds `<|channel|>` or `<|constrain|>`.
    pub fn mark(&mut self, before: Before) {
        self.stretches.push((before, Vec::new()));
    }

    /// Whether nothing has come yet that would make it a message.
    pub fn is_bare(&self, names: &ToolNames) -> bool {
        self.stretches.len() == 1 && self.text(names).is_empty()
    }

    /// Whether this is text whose header was forgotten.
    pub fn is_text(&self, names: &ToolNames) -> bool {
        let last = self.last();
        // Looking at the words again for every token of a long header would take quadratic time.
        last.len() > MAX_LEN || last.ends_with(b"\n") && !self.text(names).is_empty()
    }

    fn last(&self) -> &[u8] {
        self.stretches.last().map_or(&[], |(_, text)| text)
    }

    /// What follows the known words at the end of the header: the text of a message without `<|message|>`.
    pub fn text(&self, names: &ToolNames) -> &[u8] {
        let Some((before, text)) = self.stretches.last() else {
            return &[];
        };
        let mut reading = Reading::default();
        let mut rest = text.trim_ascii_start();
        let mut is_first = true;
        loop {
            let end = rest.iter().position(u8::is_ascii_whitespace);
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            let place = if is_first { *before } else { Before::Nothing };
            if word.is_empty() || !reading.take(place, &String::from_utf8_lossy(word), names) {
                return rest;
            }
            rest = after.trim_ascii_start();
            is_first = false;
        }
    }

    /// What the message is for.
    pub fn meaning(&self, names: &ToolNames) -> Meaning {
        let mut reading = Reading::default();
        for (before, text) in &self.stretches {
            let text = String::from_utf8_lossy(text);
            let mut place = *before;
            for word in text.split_whitespace() {
                reading.take(place, word, names);
                place = Before::Nothing;
            }
        }
        reading.meaning(names)
    }
}

/// The known words of a header, later ones replacing earlier ones.
#[derive(Default)]
struct Reading {
    channel: Option<Channel>,
    recipient: Option<String>,
    /// A tool's name where the role should be.
    tool_role: Option<String>,
    /// The role is somebody else's.
    is_foreign: bool,
    /// The message is addressed to the model.
    to_assistant: bool,
}

impl Reading {
    /// Takes one word; says whether it is one that headers have.
    fn take(&mut self, place: Before, word: &str, names: &ToolNames) -> bool {
        if let Some(recipient) = word.strip_prefix("to=") {
            if recipient == "assistant" {
                self.to_assistant = true;
            } else if !recipient.is_empty() {
                self.recipient = Some(recipient.to_owned());
            }
            return true;
        }
        match place {
            Before::Constrain => return true,
            Before::Start => return self.take_role(word, names),
            Before::Channel => {
                let mut channels = Channel::ALL.into_iter();
                if let Some(channel) = channels.find(|it| word.starts_with(it.name())) {
                    self.channel = Some(channel);
                    let rest = &word[channel.name().len()..];
                    return rest.is_empty() || self.take(Before::Nothing, rest, names);
                }
            }
            Before::Nothing => {}
        }
        let in_header = self.channel.is_some() || self.recipient.is_some();
        if in_header && ["json", "code", "text"].contains(&word) {
            return true;
        }
        let is_tool = word.starts_with("functions.") || names.resolve(word).is_some();
        if is_tool {
            self.recipient = Some(word.to_owned());
        }
        is_tool
    }

    fn take_role(&mut self, word: &str, names: &ToolNames) -> bool {
        let is_path = word.contains('.') && word.split('.').all(is_identifier);
        let role = word.split(':').next().unwrap_or_default();
        if is_path || names.resolve(word).is_some() {
            self.tool_role = Some(word.to_owned());
        } else if ["user", "system", "developer", "tool"].contains(&role) {
            self.is_foreign = true;
        } else {
            return role == "assistant";
        }
        true
    }

    fn meaning(self, names: &ToolNames) -> Meaning {
        // A tool in the role's place is a call whose `to=` was left out, or, addressed to the model, a made-up result.
        if self.is_foreign || self.tool_role.is_some() && self.to_assistant {
            return Meaning::Foreign;
        }
        let Some(recipient) = self.recipient.or(self.tool_role) else {
            return Meaning::Kind(match self.channel {
                Some(Channel::Analysis) => Kind::Reasoning,
                Some(Channel::Commentary) => Kind::Preamble,
                Some(Channel::Final) | None => Kind::Final,
            });
        };
        match names.resolve(&recipient) {
            Some(tool) => Meaning::Kind(Kind::Call {
                tool: tool.to_owned(),
                channel: match self.channel {
                    Some(Channel::Analysis) => Channel::Analysis,
                    _ => Channel::Commentary,
                },
            }),
            // An answer is not lost over a recipient that does not exist.
            None if self.channel == Some(Channel::Final) => Meaning::Kind(Kind::Final),
            None => Meaning::Undeclared(recipient),
        }
    }
}
