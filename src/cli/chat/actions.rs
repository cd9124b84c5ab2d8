//! What the commands do.

use super::commands::{Action, help};
use super::input::Typed;
use super::repl::{Repl, complain};
use crate::cli::input_file::read_text_file;
use crate::cli::terminal;
use crate::cli::{sampling, talking};
use anyhow::{Result, anyhow, bail};
use fourfold::harmony::{Effort, Message};
use fourfold::session::FileError;
use std::path::{Path, PathBuf};

impl Repl {
    /// Does what a command says.
    pub(super) fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Help => self.say(help().trim_end()),
            Action::New => self.start_over(),
            Action::Regenerate => self.regenerate(),
            Action::Undo => self.undo(),
            Action::Edit => self.edit(),
            Action::Save(file) => {
                let file = expanded(&file);
                self.session().save(&file)?;
                self.say(&format!("saved to {}", file.display()))
            }
            Action::Load(file) => self.load(&expanded(&file)),
            Action::System(text) => self.set_system(text),
            Action::Effort(effort) => self.set_effort(effort),
            Action::Think(None) => self.show_thought(),
            Action::Think(Some(thinking)) => {
                self.thinking = thinking;
                Ok(())
            }
            Action::Parameters => self.show_parameters(),
            Action::Set(name, value) => self.set(&name, &value),
            Action::File(path) => self.attach(&path),
            Action::Tools => self.show_tools(),
            Action::Schema(file) => self.set_schema(file),
            Action::Statistics => {
                let (session, saved) = self.held.get();
                complain(saved.map_err(Into::into));
                let report = self.statistics.report(session);
                self.say(report.trim_end())
            }
            // The loop has left before it came here.
            Action::Exit => Ok(()),
        }
    }

    fn start_over(&mut self) -> Result<()> {
        let session = self.session();
        let mut conversation = session.conversation().clone();
        let is_setting =
            |message: &Message| matches!(message, Message::System(_) | Message::Developer(_));
        conversation.messages.retain(is_setting);
        session.set_conversation(conversation);
        self.attached.clear();
        self.say("a new conversation; instructions, tools and settings stay")
    }

    fn regenerate(&mut self) -> Result<()> {
        if !self.session().take_back_answer() {
            bail!("there is no message to answer yet");
        }
        self.answer()
    }

    fn undo(&mut self) -> Result<()> {
        match self.session().take_back_message() {
            Some(text) => {
                let line = text.lines().next().unwrap_or_default();
                let line = terminal::harmless(line);
                self.say(&format!("took back: {line}"))
            }
            None => bail!("there is nothing to take back"),
        }
    }

    fn edit(&mut self) -> Result<()> {
        let before = self.session().conversation().clone();
        let Some(text) = self.session().take_back_message() else {
            bail!("there is no message to edit yet");
        };
        match self.input.read("> ", &text)? {
            Typed::Text(text) if !text.trim().is_empty() => self.send(&text),
            _ => {
                self.session().set_conversation(before);
                self.say("left as it was")
            }
        }
    }

    fn load(&mut self, file: &Path) -> Result<()> {
        let loaded = self.session().load(file, false);
        if let Err(error @ FileError::OtherModel { .. }) = loaded {
            self.say(&error.to_string())?;
            if !self.confirm("read its text again with this model?")? {
                return Ok(());
            }
            self.session().load(file, true)?;
        } else {
            loaded?;
        }
        self.say_where()
    }

    /// How long the conversation is already, if it is.
    pub(super) fn say_where(&mut self) -> Result<()> {
        let messages = &self.session().conversation().messages;
        let said = messages
            .iter()
            .filter(|message| matches!(message, Message::User { .. }))
            .count();
        match said {
            0 => Ok(()),
            1 => self.say("continuing after 1 message"),
            _ => self.say(&format!("continuing after {said} messages")),
        }
    }

    fn set_system(&mut self, text: Option<String>) -> Result<()> {
        let Some(text) = text else {
            let instructions = self.session().developer().instructions.clone();
            self.session().tidy();
            return self.say(instructions.as_deref().unwrap_or("no instructions"));
        };
        let text = match text.strip_prefix('@') {
            Some(file) => read_text_file(&expanded(file))?,
            None => text,
        };
        self.session().developer().instructions = Some(text);
        self.say("the instructions hold from the next message on")
    }

    fn set_effort(&mut self, effort: Option<Effort>) -> Result<()> {
        let Some(effort) = effort else {
            let effort = self.session().system().effort.name();
            return self.say(&format!("effort is {effort}"));
        };
        self.session().set_effort(effort);
        Ok(())
    }

    fn show_thought(&self) -> Result<()> {
        match self.thought.trim() {
            "" => self.say("there was no thinking in the last turn"),
            thought => self.say(thought),
        }
    }

    fn show_parameters(&mut self) -> Result<()> {
        let session = self.session();
        let mut lines = sampling::list(session.settings());
        let most = session.options.max_tokens;
        lines.push((
            "max-tokens",
            most.map_or("no limit".into(), |most| most.to_string()),
        ));
        let lines: Vec<String> = lines
            .iter()
            .map(|(name, value)| format!("  {name:<18} {value}"))
            .collect();
        self.say(&lines.join("\n"))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let session = self.session();
        let whole = || {
            value
                .parse::<u64>()
                .map_err(|_| anyhow!("{name} takes a whole number, not {value:?}"))
        };
        match name {
            "seed" => session.set_seed(whole()?)?,
            "max-tokens" => {
                let most = whole()? as usize;
                session.options.max_tokens = (most > 0).then_some(most);
            }
            _ => {
                let mut settings = session.settings().clone();
                sampling::set(&mut settings, name, value)?;
                session.set_settings(settings)?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, path: &str) -> Result<()> {
        let file = expanded(path);
        let text = read_text_file(&file)?;
        let tokens = self.session().generator().tokenizer().encode(&text).len();
        let name = file.display().to_string();
        self.attached.push((name.clone(), text));
        self.say(&format!(
            "{name}: {tokens} tokens, sent with the next message"
        ))
    }

    fn show_tools(&mut self) -> Result<()> {
        let functions = self.session().developer().functions.clone();
        self.session().tidy();
        if functions.is_empty() {
            return self.say("no tools: start with --tools FILE and --tool NAME=COMMAND");
        }
        let mut text = String::new();
        for function in functions {
            let command = self.toolbox.command(&function.name);
            let command = command.unwrap_or("(no command)");
            let description = function.description.lines().next().unwrap_or_default();
            let name = &function.name;
            text += &format!("  {name:<20} {command:<30} {description}\n");
        }
        self.say(terminal::harmless(&text).trim_end())
    }

    fn set_schema(&mut self, file: Option<String>) -> Result<()> {
        match file {
            None => {
                self.session().clear_schema();
                self.say("answers are free again")
            }
            Some(file) => {
                talking::set_schema(self.session(), &expanded(&file))?;
                self.say("answers follow the schema from the next message on")
            }
        }
    }
}

/// A path as shells understand it: `~/` is the home folder.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}
