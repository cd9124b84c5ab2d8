//! How a turn looks: progress while reading, thinking dimmed or folded, the answer as Markdown.

use super::commands::Thinking;
use crate::cli::markdown::{Markdown, Wrap, code};
use crate::cli::terminal;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Clears the line and returns to its start.
const CLEAR_LINE: &str = "\r\x1b[2K";

/// Status lines change at most this often.
const REFRESH: Duration = Duration::from_millis(100);

/// What is on the screen now.
enum Part {
    /// A status line that will be cleared, or nothing.
    Nothing,
    Thinking(Wrap),
    Answer(Box<Markdown>),
    /// Text that is shown as it is: no terminal, or no colour.
    Plain {
        ends_line: bool,
    },
}

/// Shows one turn.
pub struct Display {
    is_terminal: bool,
    color: bool,
    thinking: Thinking,
    part: Part,
    thought: Thought,
    refreshed: Option<Instant>,
}

/// The thinking of this turn.
#[derive(Default)]
struct Thought {
    text: String,
    tokens: usize,
    began: Option<Instant>,
}

impl Display {
    /// Shows a turn on standard output.
    pub fn new(thinking: Thinking) -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            color: terminal::stdout_has_color(),
            thinking,
            part: Part::Nothing,
            thought: Thought::default(),
            refreshed: None,
        }
    }

    /// The prompt is being read.
    pub fn reading(&mut self, done: usize, of: usize) -> io::Result<()> {
        let text = format!("reading {done} of {of} tokens");
        self.status(&text)
    }

    /// A piece of the thinking, from one token.
    pub fn thinking(&mut self, piece: &str) -> io::Result<()> {
        let piece = &terminal::harmless(piece);
        self.thought.text += piece;
        self.thought.tokens += 1;
        let began = *self.thought.began.get_or_insert_with(Instant::now);
        match self.thinking {
            Thinking::Fold => {
                let seconds = began.elapsed().as_secs();
                let tokens = self.thought.tokens;
                self.status(&format!("thinking: {seconds} s, {tokens} tokens"))
            }
            // Scripts that read a pipe want answers.
            Thinking::Show if self.is_terminal => self.show_thinking(piece),
            Thinking::Show | Thinking::Hide => Ok(()),
        }
    }

    fn show_thinking(&mut self, piece: &str) -> io::Result<()> {
        if !matches!(self.part, Part::Thinking(_)) {
            self.end_part()?;
            self.part = Part::Thinking(Wrap::new());
            if self.color {
                self.write(code::DIM)?;
            }
        }
        if let Part::Thinking(wrap) = &mut self.part {
            piece.chars().for_each(|character| wrap.push(character));
            let shown = wrap.take();
            self.write(&shown)?;
        }
        Ok(())
    }

    /// A piece of what the model says: the answer, or a word before a call.
    pub fn answer(&mut self, piece: &str) -> io::Result<()> {
        let piece = terminal::harmless(piece);
        if !matches!(self.part, Part::Answer(_) | Part::Plain { .. }) {
            self.end_part()?;
            self.part = if self.color {
                Part::Answer(Box::new(Markdown::new()))
            } else {
                Part::Plain { ends_line: true }
            };
        }
        let shown = match &mut self.part {
            Part::Answer(markdown) => markdown.push(&piece),
            Part::Plain { ends_line } if !piece.is_empty() => {
                *ends_line = piece.ends_with('\n');
                piece
            }
            _ => return Ok(()),
        };
        self.write(&shown)
    }

    /// A line of ours between the model's parts.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        self.end_part()?;
        let text = terminal::harmless(text);
        if self.color {
            self.write(&format!("{}{text}{}\n", code::DIM, code::RESET))
        } else if self.is_terminal {
            self.write(&format!("{text}\n"))
        } else {
            eprintln!("{text}");
            Ok(())
        }
    }

    /// The message is over: what follows is another part.
    pub fn end_part(&mut self) -> io::Result<()> {
        self.clear_status()?;
        match std::mem::replace(&mut self.part, Part::Nothing) {
            Part::Nothing => self.summarize_folded(),
            Part::Thinking(mut wrap) => {
                let open = wrap.is_mid_line();
                let rest = wrap.finish();
                let reset = if self.color { code::RESET } else { "" };
                let end = if open { "\n" } else { "" };
                self.write(&format!("{rest}{reset}{end}\n"))
            }
            Part::Answer(mut markdown) => {
                let rest = markdown.finish();
                self.write(&rest)
            }
            Part::Plain { ends_line: true } => Ok(()),
            Part::Plain { ends_line: false } => self.write("\n"),
        }
    }

    /// The thinking so far, for /think.
    pub fn take_thought(&mut self) -> String {
        std::mem::take(&mut self.thought.text)
    }

    /// Leaves one line of folded thinking behind.
    fn summarize_folded(&mut self) -> io::Result<()> {
        let Some(began) = self.thought.began.take() else {
            return Ok(());
        };
        if self.thinking != Thinking::Fold || !self.is_terminal {
            return Ok(());
        }
        let (tokens, seconds) = (self.thought.tokens, began.elapsed().as_secs_f64());
        let text = format!("thought for {seconds:.1} s, {tokens} tokens (/think shows them)");
        if self.color {
            self.write(&format!("{}{text}{}\n", code::DIM, code::RESET))
        } else {
            self.write(&format!("{text}\n"))
        }
    }

    /// Shows a line that the next part replaces.
    fn status(&mut self, text: &str) -> io::Result<()> {
        let due = self.refreshed.is_none_or(|last| last.elapsed() >= REFRESH);
        if !self.is_terminal || !self.color || !due {
            return Ok(());
        }
        if !matches!(self.part, Part::Nothing) {
            self.end_part()?;
        }
        self.refreshed = Some(Instant::now());
        let text = terminal::status(text);
        self.write(&format!("{CLEAR_LINE}{}{text}{}", code::DIM, code::RESET))
    }

    fn clear_status(&mut self) -> io::Result<()> {
        match self.refreshed.take() {
            Some(_) => self.write(CLEAR_LINE),
            None => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}
