//! Reading what a person types: history, multi-line input, completion.

use super::commands::{self, Choices};
use crate::cli::input_file::MOST_BYTES;
use crate::cli::interrupt;
use anyhow::{Context as _, anyhow, bail};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Behavior, Cmd, CompletionType, Config, Context, Editor, Helper, KeyCode, KeyEvent, Modifiers,
};
use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;

/// What came from the keyboard, or from a pipe in its place.
pub enum Typed {
    /// A message or a command.
    Text(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-D, or the pipe's end.
    End,
}

const MOST_HISTORY: u64 = 16 << 20;

/// The line editor with its history file.
pub struct Input {
    editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
    /// Lines that a pipe has given.
    lines: usize,
}

impl Input {
    /// Opens the history; without one (a read-only home) everything else still works.
    pub fn new(color: bool) -> Result<Self, ReadlineError> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .auto_add_history(false)
            .bracketed_paste(true)
            .max_history_size(5000)?;
        // What is piped on must not hold the editor's drawing.
        let config = match io::stdin().is_terminal() && !io::stdout().is_terminal() {
            true => config.behavior(Behavior::PreferTerm),
            false => config,
        };
        let config = config.build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Assistant {
            files: FilenameCompleter::new(),
            color,
        }));
        // Alt-Enter starts a new line without a backslash.
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        // Typed by hand it is never as long; a pipe would be waited for without end.
        let is_sound = |file: &PathBuf| match file.metadata() {
            Ok(about) => about.is_file() && about.len() < MOST_HISTORY,
            Err(_) => true,
        };
        let history = history_file().filter(is_sound);
        if let Some(file) = &history {
            // The first run has none yet.
            let _ = editor.load_history(file);
        }
        Ok(Self {
            editor,
            history,
            lines: 0,
        })
    }

    /// Waits for a line, or for several when the first asks for more; `initial` is there to be edited.
    pub fn read(&mut self, prompt: &str, initial: &str) -> anyhow::Result<Typed> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            let text = read_message(&mut stdin.lock(), &mut self.lines)?;
            return Ok(text.map_or(Typed::End, |text| Typed::Text(joined(&text))));
        }
        match self.editor.readline_with_initial(prompt, (initial, "")) {
            Ok(text) => {
                if !text.trim().is_empty() {
                    let _ = self.editor.add_history_entry(&text);
                    self.remember();
                }
                Ok(Typed::Text(joined(&text)))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            // The window was resized or the process continued: ask again.
            Err(ReadlineError::Signal(_)) => self.read(prompt, initial),
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                eprintln!("what was typed is no UTF-8 text: set the terminal to UTF-8");
                Ok(Typed::Text(String::new()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a text can be put there to be edited.
    pub fn can_edit(&self) -> bool {
        let terminal = std::env::var("TERM").unwrap_or_default();
        // Those that the editor only reads lines from.
        !["dumb", "cons25", "emacs"].contains(&&*terminal)
    }

    /// Asks a question whose answer is no part of the history; empty when there is none. Ctrl-C is remembered.
    pub fn ask(&mut self, question: &str) -> Result<String, ReadlineError> {
        match self.editor.readline(question) {
            Ok(line) => Ok(line),
            Err(ReadlineError::Interrupted) => {
                interrupt::request();
                Ok(String::new())
            }
            Err(ReadlineError::Eof) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// Appends to the history file at once: a crash or kill must not lose what was typed.
    fn remember(&mut self) {
        if let Some(file) = &self.history {
            if let Some(folder) = file.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            if self.editor.append_history(file).is_err() {
                self.history = None;
            }
        }
    }
}

/// The next message of a pipe, of as many lines as it asks for; `lines` counts them. The editor would do the same, but its error
/// for bytes that are no text names no place.
fn read_message(pipe: &mut impl BufRead, lines: &mut usize) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    loop {
        let mut line = Vec::new();
        let most = (MOST_BYTES + 1).saturating_sub(text.len() as u64);
        let length = pipe.by_ref().take(most).read_until(b'\n', &mut line);
        if length.context("cannot read standard input")? == 0 {
            return Ok((!text.is_empty()).then_some(text));
        }
        *lines += 1;
        if line.len() as u64 == most {
            bail!(
                "a message on standard input is longer than {} MiB: give a part of it",
                MOST_BYTES >> 20
            );
        }
        let line = std::str::from_utf8(&line).map_err(|error| {
            let byte = error.valid_up_to();
            anyhow!(
                "standard input is no UTF-8 text: byte {byte} of line {lines} starts no character"
            )
        })?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        text += line.strip_suffix('\r').unwrap_or(line);
        if !is_unfinished(&text) {
            return Ok(Some(text));
        }
        text.push('\n');
    }
}

/// `$XDG_STATE_HOME/fourfold/history`, usually under ~/.local/state.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .or_else(|| absolute("LOCALAPPDATA"))?;
    Some(state.join("fourfold").join("history"))
}

const BLOCK: &str = "\"\"\"";

/// Whether the text so far asks for another line.
fn is_unfinished(text: &str) -> bool {
    let text = text.trim_end_matches([' ', '\t']);
    match text.trim_start().strip_prefix(BLOCK) {
        Some(rest) => !rest.trim_end().ends_with(BLOCK),
        None => text.ends_with('\\'),
    }
}

/// The message without the marks that joined its lines.
fn joined(text: &str) -> String {
    if let Some(block) = text.trim().strip_prefix(BLOCK) {
        let block = block.strip_suffix(BLOCK).unwrap_or(block);
        return block.trim_matches('\n').to_string();
    }
    text.replace("\\\n", "\n")
}

/// Answers the editor's questions while a line is typed.
struct Assistant {
    files: FilenameCompleter,
    color: bool,
}

impl Helper for Assistant {}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if is_unfinished(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..position];
        let Some(command) = typed.strip_prefix('/') else {
            return Ok((position, Vec::new()));
        };
        let Some((name, argument)) = command.split_once(' ') else {
            let names = commands::COMMANDS.iter().map(|command| command.name);
            return Ok((1, matching(names, command)));
        };
        match commands::find(name).map(|command| &command.choices) {
            Some(Choices::Files) => self.files.complete(line, position, context),
            Some(Choices::Words(words)) if !argument.contains(' ') => {
                let start = position - argument.len();
                Ok((start, matching(words.iter().copied(), argument)))
            }
            _ => Ok((position, Vec::new())),
        }
    }
}

fn matching(words: impl Iterator<Item = &'static str>, start: &str) -> Vec<Pair> {
    words
        .filter(|word| word.starts_with(start))
        .map(|word| Pair {
            display: word.to_string(),
            replacement: format!("{word} "),
        })
        .collect()
}

impl Hinter for Assistant {
    type Hint = String;

    /// After a complete command name: the argument that it takes.
    fn hint(&self, line: &str, position: usize, _context: &Context<'_>) -> Option<String> {
        let name = line.strip_prefix('/')?;
        let command = commands::find(name.trim_end())?;
        let at_end = position == line.len() && self.color;
        let space = if name.ends_with(' ') { "" } else { " " };
        (at_end && !command.argument.is_empty()).then(|| format!("{space}{}", command.argument))
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.color {
            Cow::Owned(format!("\x1b[1;32m{prompt}\x1b[0m"))
        } else {
            Cow::Borrowed(prompt)
        }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }

    fn highlight_char(&self, _line: &str, _position: usize, _kind: CmdKind) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustyline::history::DefaultHistory;

    fn completions(line: &str) -> Vec<String> {
        let assistant = Assistant {
            files: FilenameCompleter::new(),
            color: true,
        };
        let history = DefaultHistory::new();
        let (_, pairs) = assistant
            .complete(line, line.len(), &Context::new(&history))
            .unwrap();
        pairs.into_iter().map(|pair| pair.replacement).collect()
    }

    #[test]
    fn commands_and_their_arguments_complete() {
        assert_eq!(completions("/re"), ["regen "]);
        assert_eq!(completions("/effort m"), ["medium "]);
        assert_eq!(completions("/set top-"), ["top-k ", "top-p "]);
        assert!(completions("hello /re").is_empty());
        assert!(completions("/set temp 0").is_empty());
    }

    #[test]
    fn file_names_complete_where_a_file_is_wanted() {
        let folder = std::env::temp_dir().join(format!("fourfold-complete-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("notes.txt"), "").unwrap();
        let found = completions(&format!("/file {}/no", folder.display()));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [format!("{}/notes.txt", folder.display())]);
    }

    #[test]
    fn a_pipe_gives_messages_and_says_where_it_is_no_text() {
        let mut pipe = &b"one\r\ntwo \\\nthree\n\xFFfour\nfive \\\n"[..];
        let mut lines = 0;
        let mut next = || read_message(&mut pipe, &mut lines);
        assert_eq!(next().unwrap().as_deref(), Some("one"));
        assert_eq!(next().unwrap().as_deref(), Some("two \\\nthree"));
        let error = format!("{:#}", next().unwrap_err());
        assert!(error.contains("byte 0 of line 4 "), "{error}");
        // What ends within a message is one all the same.
        assert_eq!(next().unwrap().as_deref(), Some("five \\\n"));
        assert_eq!(next().unwrap(), None);
    }

    #[test]
    fn lines_join_when_asked() {
        assert!(is_unfinished("one \\"));
        assert!(!is_unfinished("one"));
        assert!(is_unfinished("\"\"\"\nlet a = 1;\n"));
        assert!(!is_unfinished("\"\"\"\nlet a = 1;\n\"\"\""));
        assert_eq!(joined("one\\\ntwo"), "one\ntwo");
        assert_eq!(joined("\"\"\"\n  a\n\nb\n\"\"\""), "  a\n\nb");
    }
}
