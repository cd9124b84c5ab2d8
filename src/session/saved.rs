//! Sessions into files and back.

use super::file::{Error as FileError, Image, Known, Saved};
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
    settings: Settings,
}

/// Which of a file's saves a session goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Loaded {
    /// The last.
    Newest,
    /// The last whole one: what follows it was cut off or changed.
    Older,
}

impl Session {
    /// Writes everything that the next turn depends on, behind what the file holds if this session wrote or read that. A
    /// file that another program has changed since is left as it is.
    pub fn save(&mut self, path: &Path) -> Result<(), FileError> {
        let mut known = self.known.iter_mut().find(|known| known.is_of(path));
        if known.as_ref().is_some_and(|known| !known.is_current()) {
            let path = path.to_path_buf();
            return Err(FileError::Changed { path });
        }
        let context = self.generator.context();
        let content = Content {
            conversation: self.conversation.clone(),
            random_state: self.sampler.random_state(),
            settings: self.settings.clone(),
        };
        let content = serde_json::to_value(content).map_err(|error| Saved::damaged(path, error))?;
        let image = Image {
            fingerprint: &fingerprint(context.model()),
            content: &content,
            tokens: context.tokens(),
            cache: &|put, table| context.save(put, table),
        };
        let known = image.save(path, known.take())?;
        self.know(known);
        Ok(())
    }

    /// This file as it is now, which may be not at all, is this session's.
    pub fn claim(&mut self, path: &Path) {
        self.know(Known::new(path));
    }

    fn know(&mut self, file: Known) {
        self.known.retain(|known| !known.is_same(&file));
        self.known.push(file);
    }

    /// Whether this session was read from, or written to, this file.
    pub fn knows(&self, path: &Path) -> bool {
        self.known.iter().any(|known| known.is_of(path))
    }

    /// Continues from a file: with its cache, or `from_text` alone, which reads everything again. If that fails, the session
    /// stays as it was.
    pub fn load(&mut self, path: &Path, from_text: bool) -> Result<Loaded, FileError> {
        let damaged = |error: &dyn std::fmt::Display| Saved::damaged(path, error);
        let mut known = Known::new(path);
        let mut saved = Saved::open(path)?;
        let loaded = match saved.is_older() {
            true => Loaded::Older,
            false => Loaded::Newest,
        };
        let content: Content =
            serde_json::from_value(saved.content().clone()).map_err(|error| damaged(&error))?;
        let mut conversation = content.conversation;
        let settings = as_saved(content.settings, &self.settings, from_text);
        let sampler = Sampler::new(settings.clone(), content.random_state)
            .map_err(|error| damaged(&error))?;
        let answer = self
            .schema_of(&conversation)
            .map_err(|error| damaged(&error))?;
        if from_text {
            forget_tokens(&mut conversation);
            self.generator.context_mut().clear();
        } else {
            let tokens = saved.tokens(&fingerprint(self.generator.context().model()))?;
            let context = self.generator.context_mut();
            if tokens.len() > context.limit() {
                return Err(FileError::TooLong {
                    path: path.to_path_buf(),
                    tokens: tokens.len(),
                    limit: context.limit(),
                });
            }
            let (table, mut get) = saved.cache();
            context
                .load(tokens, &mut &table[..], &mut get)
                .map_err(|reason| FileError::Cache {
                    path: path.to_path_buf(),
                    reason,
                })?;
            drop(get);
            known = known.read(saved.into_extent());
        }
        self.conversation = conversation;
        self.settings = settings;
        self.sampler = sampler;
        self.options.answer = answer;
        self.known = vec![known];
        Ok(loaded)
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
