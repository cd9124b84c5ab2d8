//! What the commands do.

use super::commands::{Action, Thinking, help};
use super::input::Typed;
use super::repl::Repl;
use crate::cli::input_file::read_text_file;
use crate::cli::terminal;
use crate::cli::{sampling, talking};
use anyhow::{Result, anyhow, bail};
use fourfold::harmony::{Effort, Message};
use std::io::IsTerminal;
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
            Action::Save(file) => self.save(&expanded(&file)),
            Action::Load(file) => self.load(&expanded(&file)),
            Action::System(text) => self.set_system(text),
            Action::Effort(effort) => self.set_effort(effort),
            Action::Think(None) => self.show_thought(),
            Action::Think(Some(thinking)) => {
                self.thinking = thinking;
                let how = match thinking {
                    Thinking::Show => "shown",
                    Thinking::Hide => "hidden",
                    Thinking::Fold => "folded into a line",
                };
                self.say(&format!("thinking is {how} from the next message on"))
            }
            Action::Parameters => self.show_parameters(),
            Action::Set(name, value) => self.set(&name, &value),
            Action::File(path) => self.attach(&path),
            Action::Tools => self.show_tools(),
            Action::Schema(file) => self.set_schema(file),
            Action::Statistics => {
                self.session();
                let (session, _) = self.held.get();
                let report = self.statistics.report(session);
                self.say(report.trim_end())
            }
            // The loop has left before it came here.
            Action::Exit => Ok(()),
        }
    }

    fn start_over(&mut self) -> Result<()> {
        // What was said stays in the session's file, which a new conversation would replace. Whatever fails below, it is let go first.
        let said = self.messages_said() > 0;
        if said {
            self.keep()?;
        }
        let kept = self.file.take_if(|_| said);
        let session = self.session();
        let mut conversation = session.conversation().clone();
        let is_setting =
            |message: &Message| matches!(message, Message::System(_) | Message::Developer(_));
        conversation.messages.retain(is_setting);
        session.set_conversation(conversation);
        self.attached.clear();
        self.say("a new conversation; instructions, tools and settings stay")?;
        match kept {
            Some(file) => self.say(&format!(
                "{} keeps the old one; the new one is kept where /save FILE puts it",
                file.display()
            )),
            None => Ok(()),
        }
    }

    /// Answers again, or goes on where the model was stopped before it said anything.
    fn regenerate(&mut self) -> Result<()> {
        if !self.session().owes_turn() && !self.session().take_back_answer() {
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
        if !self.input.can_edit() {
            self.say(&text)?;
        }
        match self.input.read("> ", &text)? {
            Typed::Text(text) if !text.trim().is_empty() => self.send(&text),
            _ => {
                self.session().set_conversation(before);
                self.say("left as it was")
            }
        }
    }

    fn save(&mut self, file: &Path) -> Result<()> {
        let is_ours = self.session().knows(file);
        if file.exists() && !is_ours {
            let question = format!("{} is there already: replace it?", file.display());
            if !self.confirm(&question, "choose another name")? {
                return self.decline("not saved");
            }
        }
        self.session().save(file)?;
        self.say(&format!("saved to {}", file.display()))
    }

    fn load(&mut self, file: &Path) -> Result<()> {
        let mut loaded = self.session().load(file, false);
        if let Err(error) = &loaded
            && error.leaves_text()
        {
            self.say(&error.to_string())?;
            let instead = "`chat --session FILE --rebuild-session` does it";
            if !self.confirm("read its text again with this model?", instead)? {
                return self.decline("not loaded");
            }
            loaded = self.session().load(file, true);
        }
        talking::warn_if_older(loaded?, file);
        // What was kept in the other file stays there as it is, also if something below fails.
        if let Some(kept) = &mut self.file {
            *kept = file.to_path_buf();
        }
        let (session, _) = self.held.get();
        let applied = self.talking.apply(session);
        let declared = self.toolbox.declare(session, self.talking.strict_tools);
        self.kept = Some(session.conversation().clone());
        applied.and(declared)?;
        self.say_where()?;
        match self.file {
            Some(_) => self.say(&format!("from now on kept in {}", file.display())),
            None => Ok(()),
        }
    }

    /// Says that something was left undone, which fails a script that asked for it.
    fn decline(&self, what: &str) -> Result<()> {
        if !std::io::stdin().is_terminal() {
            bail!("{what}");
        }
        self.say(what)
    }

    fn messages_said(&mut self) -> usize {
        let messages = &self.session().conversation().messages;
        let of_person = |message: &&Message| matches!(message, Message::User { .. });
        messages.iter().filter(of_person).count()
    }

    /// How long the conversation is already, if it is.
    pub(super) fn say_where(&mut self) -> Result<()> {
        let said = self.messages_said();
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
        if text == "off" {
            self.session().developer().instructions = None;
            self.session().tidy();
            return self.say("no instructions from the next message on");
        }
        let text = match text.strip_prefix('@') {
            Some(file) => read_text_file(&file_at(file)?)?,
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
        self.say(&format!(
            "effort is {} from the next message on",
            effort.name()
        ))
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
        self.say(&format!("{name} is {value} from the next message on"))
    }

    fn attach(&mut self, path: &str) -> Result<()> {
        if path == "off" {
            self.attached.clear();
            return self.say("nothing is attached");
        }
        let file = file_at(path)?;
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
        self.say(text.trim_end())
    }

    fn set_schema(&mut self, file: Option<String>) -> Result<()> {
        match file {
            None => {
                self.session().clear_schema();
                self.say("answers are free again")
            }
            Some(file) => {
                talking::set_schema(self.session(), &file_at(&file)?)?;
                self.say("answers follow the schema from the next message on")
            }
        }
    }
}

/// The file of a path. Nothing ends the wait for a pipe's other end, not even Ctrl-C.
fn file_at(path: &str) -> Result<PathBuf> {
    let path = expanded(path);
    match path.metadata() {
        Ok(about) if !about.is_file() => bail!("cannot read {path:?}: it is not a regular file"),
        _ => Ok(path),
    }
}

/// A path as shells understand it: `~/` is the home folder, quotes go around it, and completion writes a backslash before a space.
fn expanded(path: &str) -> PathBuf {
    let path = path.trim();
    let quoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| path.strip_prefix(quote)?.strip_suffix(quote));
    let path = match quoted {
        Some(inside) => inside.to_string(),
        None if cfg!(windows) => path.to_string(),
        None => unescaped(path),
    };
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn unescaped(path: &str) -> String {
    let mut characters = path.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        let escaped = (character == '\\').then(|| characters.next()).flatten();
        plain.push(escaped.unwrap_or(character));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_shells_write_them() {
        for (typed, path) in [
            ("notes.txt", "notes.txt"),
            ("\"my notes.txt\"", "my notes.txt"),
            ("'my notes.txt'", "my notes.txt"),
        ] {
            assert_eq!(expanded(typed), PathBuf::from(path), "{typed}");
        }
        assert_eq!(unescaped(r"my\ notes\(1\).txt"), "my notes(1).txt");
        assert_eq!(unescaped(r"end\"), r"end\");
    }
}
