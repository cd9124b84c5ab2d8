//! The loop: read a line, do what it says, show what comes of it.

use super::background::Held;
use super::commands::{self, Action, Thinking};
use super::input::{Input, Typed};
use super::statistics::Statistics;
use super::toolbox::Toolbox;
use crate::cli::terminal::{self, Style};
use anyhow::Result;
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
    /// The session's file, and the conversation as it was last sent to be saved.
    file: Option<PathBuf>,
    kept: Conversation,
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
        toolbox: Toolbox,
        thinking: Thinking,
    ) -> Result<Self> {
        Ok(Self {
            file,
            kept: session.conversation().clone(),
            held: Held::Here(Box::new(session)),
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
        complain(saved.map_err(Into::into));
        session
    }

    /// Lets the session be saved, if something was said, and prepared while the person reads.
    fn let_go(&mut self) {
        let Held::Here(session) = &self.held else {
            return;
        };
        let is_new = *session.conversation() != self.kept;
        if is_new {
            self.kept.clone_from(session.conversation());
        }
        self.held.send_away(self.file.clone().filter(|_| is_new));
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
        let model = self.session().generator().context().model();
        let name = model
            .metadata()
            .string("general.name")
            .unwrap_or("a model without a name");
        let greeting = format!(
            "{} · context {} tokens · /help lists the commands",
            terminal::harmless(name),
            terminal::grouped(model.config().context as u64)
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
                Err(explanation) => self.say(&explanation),
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
            message += &format!("\n\n{name}:\n```\n{}\n```", content.trim_end_matches('\n'));
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

    /// Prints a quiet line.
    pub(super) fn say(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", terminal::paint(Style::Dim, text))?;
        Ok(out.flush()?)
    }

    /// Asks a yes-or-no question; no without a person to ask.
    pub(super) fn confirm(&mut self, question: &str) -> Result<bool> {
        if !io::stdin().is_terminal() {
            eprintln!("{question} nobody is there to ask: --yes-tools allows them");
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
        eprintln!("{label} {error:#}");
    }
}
