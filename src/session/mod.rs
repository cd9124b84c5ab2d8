//! A conversation with a model: what was said, the cache behind it, and how it goes on.
//!
//! A [`Session`] can be written to a file and continued from there as if nothing had happened: the
//! cache, the marks that it can return to, the sampling settings and the random numbers come back
//! bit for bit, so the next tokens are those that would have come without a break.

mod file;
mod fingerprint;
mod instructions;
mod saved;

pub use file::{Error as FileError, Fingerprint, Saved, check_place};
pub use fingerprint::fingerprint;
pub use saved::Loaded;

use crate::generate::{Error, Finish, Generation, Generator, Outcome, Prefill, Request};
use crate::harmony::{
    Assistant, Channel, Conversation, Encoder, Kind, Message, MissingMarkup, Opening, Parser,
    System, ToolNames,
};
use crate::sample::{self, Constraint, Sampler, Settings};
use crate::tokenizer::Tokenizer;
use file::Known;
use std::sync::Arc;

/// What holds for every turn until it is changed.
#[derive(Default)]
pub struct Options {
    /// At most this many tokens per turn.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// What answers must match.
    pub answer: Option<Constraint>,
    /// What the arguments of tools must match, by the tool's name.
    pub tools: Vec<(String, Constraint)>,
    /// Whether to look for passages to copy.
    pub speculate: bool,
    /// How turns begin.
    pub opening: Opening,
}

/// A conversation, its cache and its random numbers.
pub struct Session {
    generator: Generator,
    tokenizer: Arc<Tokenizer>,
    conversation: Conversation,
    settings: Settings,
    sampler: Sampler,
    /// The files that hold it, as they were when they were last read or written.
    known: Vec<Known>,
    /// Changed freely between turns.
    pub options: Options,
}

impl Session {
    /// A conversation without a word said; refused if the vocabulary does not speak harmony.
    pub fn new(generator: Generator, settings: Settings, seed: u64) -> Result<Self, NewError> {
        let tokenizer = Arc::clone(generator.tokenizer());
        Encoder::new(&tokenizer)?;
        let sampler = Sampler::new(settings.clone(), seed)?;
        Ok(Self {
            generator,
            tokenizer,
            conversation: Conversation {
                messages: vec![Message::System(System::default())],
            },
            settings,
            sampler,
            known: Vec::new(),
            options: Options {
                speculate: true,
                ..Options::default()
            },
        })
    }

    /// What was said.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Replaces what was said. The cache keeps whatever still agrees.
    pub fn set_conversation(&mut self, conversation: Conversation) {
        self.conversation = conversation;
    }

    /// The cache and its model.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// How tokens are chosen.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Chooses tokens differently from now on.
    pub fn set_settings(&mut self, settings: Settings) -> Result<(), sample::Error> {
        self.sampler = Sampler::new(settings.clone(), self.sampler.random_state())?;
        self.settings = settings;
        Ok(())
    }

    /// Begins the random numbers anew.
    pub fn set_seed(&mut self, seed: u64) -> Result<(), sample::Error> {
        self.sampler = Sampler::new(self.settings.clone(), seed)?;
        Ok(())
    }

    /// The person says something.
    pub fn say(&mut self, text: impl Into<String>) {
        let (name, text) = (None, text.into());
        self.conversation
            .messages
            .push(Message::User { name, text });
    }

    /// A tool answers.
    pub fn add_result(&mut self, tool: &str, text: impl Into<String>) {
        let called_on = self.conversation.messages.iter().rev().find_map(|message| {
            let Message::Assistant(Assistant { kind, .. }) = message else {
                return None;
            };
            match kind {
                Kind::Call {
                    tool: called,
                    channel,
                } if called == tool => Some(*channel),
                _ => None,
            }
        });
        self.conversation.messages.push(Message::ToolResult {
            tool: tool.to_string(),
            channel: called_on.unwrap_or(Channel::Commentary),
            text: text.into(),
        });
    }

    /// The next turn of the model. Give its outcome to [`Session::accept`].
    pub fn turn(&mut self, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Generation<'_>, Error> {
        let prompt = self.prompt();
        let encoder = encoder(&self.tokenizer);
        let names = ToolNames::of(&self.conversation);
        let mut parser = Parser::new(&encoder, names.clone());
        for id in encoder.opening(&self.options.opening, &names) {
            parser.push(id, &mut Vec::new());
        }
        let request = Request {
            prompt: prompt.into(),
            sampler: &mut self.sampler,
            max_tokens: self.options.max_tokens,
            stop: self.options.stop.clone(),
            parser: Some(parser),
            answer: self.options.answer.clone(),
            tools: self.options.tools.clone(),
            speculate: self.options.speculate,
        };
        self.generator.generate(request, go_on)
    }

    /// The tokens that the next turn begins with.
    pub fn prompt(&self) -> Vec<u32> {
        let opening = &self.options.opening;
        encoder(&self.tokenizer)
            .render(&self.conversation, opening)
            .ids
    }

    /// The tokens that every later prompt begins with.
    fn settled_prompt(&self) -> Vec<u32> {
        let encoder = encoder(&self.tokenizer);
        encoder.render(&self.conversation, &Opening::None).ids
    }

    /// Puts what a turn came to behind the conversation.
    pub fn accept(&mut self, outcome: &Outcome) {
        let messages = outcome.messages.iter().cloned();
        self.conversation.messages.extend(messages);
    }

    /// Whether thinking will be dropped from the next prompt, so that [`Session::prepare`] pays.
    pub fn can_prepare(&self) -> bool {
        let next = self.settled_prompt();
        !self.generator.context().tokens().starts_with(&next)
    }

    /// Reads the conversation so far as the next prompt will have it, while nobody waits.
    pub fn prepare(&mut self, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Prefill, Error> {
        let next = self.settled_prompt();
        self.generator.prepare(&next, go_on)
    }

    /// Whether the model has not answered the last message yet, be it the person's or a tool's.
    pub fn owes_turn(&self) -> bool {
        matches!(
            self.conversation.messages.last(),
            Some(Message::User { .. } | Message::ToolResult { .. })
        )
    }

    /// Takes back the model's messages since the person last spoke; false if there are none.
    pub fn take_back_answer(&mut self) -> bool {
        let messages = &mut self.conversation.messages;
        let last = messages
            .iter()
            .rposition(|message| matches!(message, Message::User { .. }));
        let Some(last) = last else { return false };
        messages.truncate(last + 1);
        true
    }

    /// Takes back the person's last message and all that followed; gives back their words.
    pub fn take_back_message(&mut self) -> Option<String> {
        if !self.take_back_answer() {
            return None;
        }
        match self.conversation.messages.pop() {
            Some(Message::User { text, .. }) => Some(text),
            _ => None,
        }
    }
}

fn encoder(tokenizer: &Tokenizer) -> Encoder<'_> {
    Encoder::new(tokenizer).expect("`Session::new` refused vocabularies without the markup")
}

/// Whether a turn asks for a tool's result.
pub fn call(outcome: &Outcome) -> Option<(&str, &str)> {
    if outcome.finish != Finish::ToolCalls {
        return None;
    }
    match outcome.messages.last() {
        Some(Message::Assistant(Assistant {
            kind: Kind::Call { tool, .. },
            text,
            ..
        })) => Some((tool, text)),
        _ => None,
    }
}

/// Why a conversation cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The vocabulary lacks the format's tokens.
    #[error(transparent)]
    Markup(#[from] MissingMarkup),
    /// A sampling setting is out of range.
    #[error(transparent)]
    Sample(#[from] sample::Error),
}
