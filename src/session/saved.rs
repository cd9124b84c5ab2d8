//! Sessions into files and back.

use super::file::{self, Error as FileError, Known, Saved};
use super::{Session, fingerprint};
use crate::harmony::{Conversation, Message};
use crate::sample::{Constraint, ConstraintError, Sampler, Settings};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a file holds beside the cache.
#[derive(Serialize, Deserialize)]
struct Content {
    conversation: Conversation,
    random_state: u64,
    /// Sessions had none before 2026-11-22.
    settings: Option<Settings>,
}

impl Session {
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
