//! The loop: read a line, do what it says, show what comes of it.

use super::background::Held;
use super::commands::{self, Action, Thinking};
use super::input::{Input, Typed};
use super::statistics::Statistics;
use super::toolbox::Toolbox;
use crate::cli::talking::TalkingArgs;
use crate::cli::terminal::{self, Style};
use anyhow::{Result, anyhow};
use fourfold::harmony::Conversation;
use fourfold::session::Session;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

/// The state of a conversation in the terminal.
pub struct Repl {
    pub(super) held: Held,
    pub(super) input: Input,
    pub(super) toolbox: Toolbox,
    pub(super) thinking: Thinking,
    /// The thinking of the last turn.
    pub(super) thought: String,
    pub(super) statistics: Statistics,
    /// Files for the next message: name and text.
    pub(super) attached: Vec<(String, String)>,
    /// What the command line asked of the conversation, and of every other that is loaded.
    pub(super) talking: TalkingArgs,
    /// Where the conversation is kept after every turn, and as it was last sent there; none if that went wrong.
    pub(super) file: Option<PathBuf>,
    pub(super) kept: Option<Conversation>,
    /// Whether anything that was asked for went wrong.
    failed: bool,
}

/// Whether the loop goes on.
#[derive(PartialEq)]
pub(super) enum Next {
    Read,
    Leave,
}

impl Repl {
    /// A REPL over a session, which is kept in a file if there is one.
    pub fn new(
        session: Session,
        file: Option<PathBuf>,
        talking: TalkingArgs,
        toolbox: Toolbox,
        thinking: Thinking,
    ) -> Result<Self> {
        Ok(Self {
            talking,
            file,
            kept: Some(session.conversation().clone()),
            held: Held::Here(Box::new(session), Ok(())),
            input: Input::new(terminal::stdout_has_color())?,
            toolbox,
            thinking,
            thought: String::new(),
            statistics: Statistics::default(),
            attached: Vec::new(),
            failed: false,
        })
    }

    /// Whether anything that was asked for went wrong.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The session, called back if it is being saved or prepared.
    pub fn session(&mut self) -> &mut Session {
        let (session, saved) = self.held.get();
        if let Err(error) = saved {
            complain(Err(error.into()));
            self.kept = None;
        }
        session
    }

    /// Lets the session be saved, if something was said, and prepared while the person reads.
    fn let_go(&mut self) {
        let Held::Here(session, _) = &self.held else {
            return;
        };
        let is_new = Some(session.conversation()) != self.kept.as_ref();
        if is_new {
            self.kept = Some(session.conversation().clone());
        }
        self.held.send_away(self.file.clone().filter(|_| is_new));
    }

    /// Saves what is not saved yet, before leaving.
    pub fn keep(&mut self) -> Result<()> {
        let is_kept = Some(self.session().conversation().clone()) == self.kept;
        match self.file.clone() {
            Some(file) if !is_kept => Ok(self.session().save(&file)?),
            _ => Ok(()),
        }
    }

    /// Reads and does until the person leaves.
    pub fn run(&mut self) -> Result<()> {
        self.greet()?;
        loop {
            match self.input.read("> ", "")? {
                Typed::End => return Ok(()),
                Typed::Interrupted => self.say("Ctrl-D leaves, /help lists the commands")?,
                Typed::Text(line) => {
                    if self.handle(&line)? == Next::Leave {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn greet(&mut self) -> Result<()> {
        if !io::stdin().is_terminal() {
            return Ok(());
        }
        let context = self.session().generator().context();
        let (model, limit) = (context.model(), context.limit());
        let name = model
            .metadata()
            .string("general.name")
            .unwrap_or("a model without a name");
        let greeting = format!(
            "{} · context {} tokens · /help lists the commands",
            terminal::harmless(name),
            terminal::grouped(limit as u64)
        );
        self.say(&greeting)?;
        self.say_where()
    }

    /// Does what a line says. Whatever goes wrong is said, and the prompt comes back.
    fn handle(&mut self, line: &str) -> Result<Next> {
        if line.trim().is_empty() && self.attached.is_empty() {
            return Ok(Next::Read);
        }
        let done = if line.starts_with('/') {
            match commands::parse(line) {
                Ok(Action::Exit) => return Ok(Next::Leave),
                Ok(action) => self.act(action),
                Err(explanation) => Err(anyhow!(explanation)),
            }
        } else {
            self.send(line)
        };
        if let Err(error) = done {
            // Nobody sees what is printed any more. Other errors of this type are of files that were asked for.
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if kind == Some(io::ErrorKind::BrokenPipe) {
                return Err(error);
            }
            complain(Err(error));
            self.failed = true;
        }
        self.let_go();
        Ok(Next::Read)
    }

    /// Sends a message with what is attached to it. One that cannot be read (too long, say) is
    /// taken back, so that the conversation stays as it was.
    pub(super) fn send(&mut self, text: &str) -> Result<()> {
        let mut message = text.to_string();
        for (name, content) in &self.attached {
            let fence = fence(content);
            let content = content.trim_end_matches('\n');
            message += &format!("\n\n{name}:\n{fence}\n{content}\n{fence}");
        }
        let before = self.session().conversation().messages.len();
        self.session().say(message.trim_start().to_string());
        let answered = self.answer();
        let said = self.session().conversation().messages.len();
        if answered.is_err() && said == before + 1 {
            self.session().take_back_message();
        } else {
            self.attached.clear();
        }
        answered
    }

    /// Prints a quiet line, or several.
    pub(super) fn say(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        let text = terminal::harmless(text);
        writeln!(out, "{}", terminal::paint(Style::Dim, &text))?;
        Ok(out.flush()?)
    }

    /// Asks a yes-or-no question. Without a person to ask the answer is no, and `instead` says what a script can do.
    pub(super) fn confirm(&mut self, question: &str, instead: &str) -> Result<bool> {
        let question = terminal::harmless(question);
        if !io::stdin().is_terminal() {
            eprintln!("{question} nobody is there to ask: {instead}");
            return Ok(false);
        }
        let answer = self.input.ask(&format!("{question} [y/N] "))?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// Says what went wrong, if anything.
pub(super) fn complain(result: Result<()>) {
    if let Err(error) = result {
        let label = terminal::paint_stderr(Style::Red, "error:");
        let error = terminal::harmless(&format!("{error:#}"));
        eprintln!("{label} {error}");
    }
}

/// Backticks around a text, one more than it has in a row.
fn fence(text: &str) -> String {
    let runs = text.split(|character| character != '`').map(str::len);
    "`".repeat(runs.max().unwrap_or(0).max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_fence() {
        assert_eq!(fence("plain"), "```");
        assert_eq!(fence("a `b` c"), "```");
        assert_eq!(fence("```rust\n```` \n```"), "`````");
    }
}
