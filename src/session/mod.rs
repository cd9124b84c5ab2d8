//! A conversation with a model: what was said, the cache behind it, and how it goes on.
//!
//! A [`Session`] can be written to a file and continued from there as if nothing had happened: the
//! cache, the marks that it can return to, the sampling settings and the random numbers come back
//! bit for bit, so the next tokens are those that would have come without a break.

mod file;
mod fingerprint;

pub use file::{Error as FileError, Fingerprint, Saved, check_place};
pub use fingerprint::fingerprint;

use crate::generate::{Error, Finish, Generation, Generator, Outcome, Prefill, Request};
use crate::harmony::{
    Assistant, Channel, Conversation, Developer, Effort, Encoder, Kind, Message, MissingMarkup,
    Opening, Parser, ResponseFormat, System, Tool, ToolNames,
};
use crate::sample::{self, Constraint, ConstraintError, Sampler, Settings};
use crate::tokenizer::Tokenizer;
use file::Known;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
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

/// What a file holds beside the cache.
#[derive(Serialize, Deserialize)]
struct Content {
    conversation: Conversation,
    random_state: u64,
    /// Sessions had none before 2026-11-22.
    settings: Option<Settings>,
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

    /// The system message.
    pub fn system(&mut self) -> &mut System {
        let messages = &mut self.conversation.messages;
        if !matches!(messages.first(), Some(Message::System(_))) {
            messages.insert(0, Message::System(System::default()));
        }
        match &mut messages[0] {
            Message::System(system) => system,
            _ => unreachable!("it was put there above"),
        }
    }

    /// Changes how much the model thinks.
    pub fn set_effort(&mut self, effort: Effort) {
        self.system().effort = effort;
    }

    /// The developer message, made if there is none; [`Session::tidy`] removes an empty one.
    pub fn developer(&mut self) -> &mut Developer {
        self.system();
        let messages = &mut self.conversation.messages;
        if !matches!(messages.get(1), Some(Message::Developer(_))) {
            messages.insert(1, Message::Developer(Developer::default()));
        }
        match &mut messages[1] {
            Message::Developer(developer) => developer,
            _ => unreachable!("it was put there above"),
        }
    }

    /// Removes a developer message that says nothing.
    pub fn tidy(&mut self) {
        let messages = &mut self.conversation.messages;
        let is_empty =
            matches!(messages.get(1), Some(Message::Developer(it)) if *it == Developer::default());
        if is_empty {
            messages.remove(1);
        }
    }

    /// Answers are JSON of this schema from now on. The model is told so too, as it was trained.
    pub fn set_schema(&mut self, name: &str, schema: Value) -> Result<(), ConstraintError> {
        self.options.answer = Some(self.generator.grammars()?.json_schema(&schema)?);
        self.developer().response_formats = vec![ResponseFormat {
            name: name.to_string(),
            description: None,
            schema,
        }];
        Ok(())
    }

    /// The arguments of calls fit the schemas of the functions declared by now. Which function is called, if any, stays free.
    pub fn constrain_calls(&mut self) -> Result<(), ConstraintError> {
        let functions = self.developer().functions.clone();
        let grammars = self.generator.grammars()?;
        let mut constraints = Vec::new();
        for Tool {
            name, parameters, ..
        } in functions
        {
            let Some(schema) = parameters else { continue };
            match grammars.json_schema(&schema) {
                Ok(constraint) => constraints.push((name, constraint)),
                Err(error) => {
                    let (function, error) = (name, Box::new(error));
                    return Err(ConstraintError::Arguments { function, error });
                }
            }
        }
        self.options.tools = constraints;
        self.tidy();
        Ok(())
    }

    /// Answers are free again.
    pub fn clear_schema(&mut self) {
        self.options.answer = None;
        self.developer().response_formats.clear();
        self.tidy();
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

    /// Writes everything that the next turn depends on. A file that this session was read from or written to before is not
    /// replaced if another program has changed it since.
    pub fn save(&mut self, path: &Path) -> Result<(), FileError> {
        let mut known = self.known.iter();
        if known.any(|known| known.is_of(path) && !known.is_current()) {
            let path = path.to_path_buf();
            return Err(FileError::Changed { path });
        }
        let context = self.generator.context();
        let content = Content {
            conversation: self.conversation.clone(),
            random_state: self.sampler.random_state(),
            settings: Some(self.settings.clone()),
        };
        let content = serde_json::to_value(content).map_err(|error| Saved::damaged(path, error))?;
        let fingerprint = fingerprint(context.model());
        file::save(path, &fingerprint, &content, context.tokens(), |out| {
            context.save(out)
        })?;
        self.claim(path);
        Ok(())
    }

    /// This file as it is now, which may be not at all, is this session's.
    pub fn claim(&mut self, path: &Path) {
        self.known.retain(|known| !known.is_of(path));
        self.known.push(Known::new(path));
    }

    /// Whether this session was read from, or written to, this file.
    pub fn knows(&self, path: &Path) -> bool {
        self.known.iter().any(|known| known.is_of(path))
    }

    /// Continues from a file: with its cache, or `from_text` alone, which reads everything again. If that fails, the session
    /// stays as it was.
    pub fn load(&mut self, path: &Path, from_text: bool) -> Result<(), FileError> {
        let damaged = |error: &dyn std::fmt::Display| Saved::damaged(path, error);
        let known = Known::new(path);
        let saved = Saved::open(path)?;
        let content: Content =
            serde_json::from_value(saved.content().clone()).map_err(|error| damaged(&error))?;
        let mut conversation = content.conversation;
        let settings = match content.settings {
            Some(saved) => as_saved(saved, &self.settings, from_text),
            None => self.settings.clone(),
        };
        let sampler = Sampler::new(settings.clone(), content.random_state)
            .map_err(|error| damaged(&error))?;
        let answer = self
            .schema_of(&conversation)
            .map_err(|error| damaged(&error))?;
        if from_text {
            forget_tokens(&mut conversation);
            self.generator.context_mut().clear();
        } else {
            let current = fingerprint(self.generator.context().model());
            let (tokens, mut cache) = saved.cache(&current)?;
            let context = self.generator.context_mut();
            if tokens.len() > context.limit() {
                return Err(FileError::TooLong {
                    path: path.to_path_buf(),
                    tokens: tokens.len(),
                    limit: context.limit(),
                });
            }
            context
                .load(tokens, &mut cache)
                .map_err(|error| damaged(&error))?;
        }
        self.conversation = conversation;
        self.settings = settings;
        self.sampler = sampler;
        self.options.answer = answer;
        self.known = vec![known];
        Ok(())
    }

    /// What answers must match, as a conversation says.
    fn schema_of(
        &self,
        conversation: &Conversation,
    ) -> Result<Option<Constraint>, ConstraintError> {
        let formats = match conversation.messages.get(1) {
            Some(Message::Developer(developer)) => &developer.response_formats[..],
            _ => &[],
        };
        Ok(match formats.first() {
            Some(format) => Some(self.generator.grammars()?.json_schema(&format.schema)?),
            None => None,
        })
    }
}

fn encoder(tokenizer: &Tokenizer) -> Encoder<'_> {
    Encoder::new(tokenizer).expect("`Session::new` refused vocabularies without the markup")
}

/// Settings from a file. Tokens stay the `current` ones if the file's are another vocabulary's.
fn as_saved(saved: Settings, current: &Settings, is_other_model: bool) -> Settings {
    let mut settings = saved;
    settings.exempt.clone_from(&current.exempt);
    if is_other_model {
        settings.logit_bias.clone_from(&current.logit_bias);
        settings.dry.breakers.clone_from(&current.dry.breakers);
    }
    settings
}

/// Another vocabulary has other tokens: the text is all that can be kept.
fn forget_tokens(conversation: &mut Conversation) {
    for message in &mut conversation.messages {
        if let Message::Assistant(assistant) = message {
            assistant.sampled = None;
        }
    }
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
