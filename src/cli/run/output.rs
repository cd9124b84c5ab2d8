//! What `run` prints: the answer on standard output, everything else on standard error.

use crate::cli::interrupt;
use crate::cli::markdown::Markdown;
use crate::cli::terminal::{self, Style};
use anyhow::Result;
use fourfold::generate::{Event, Finish, Outcome};
use fourfold::harmony::Answer;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Where the pieces go.
pub struct Output {
    json: bool,
    shows_reasoning: bool,
    /// On a terminal, answers are Markdown, and nothing that the model wrote drives the terminal.
    markdown: Option<Markdown>,
    is_terminal: bool,
    answer: Answer,
    /// Whether something stands on the current line of standard output, or of standard error.
    open_line: bool,
    open_thinking: bool,
    status: bool,
}

impl Output {
    /// Ready for the first piece.
    pub fn new(json: bool, show_reasoning: bool, raw: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let markdown = !json && !raw && terminal::stdout_has_color() && is_terminal;
        Self {
            json,
            shows_reasoning: show_reasoning || io::stderr().is_terminal() && !json,
            markdown: markdown.then(Markdown::new),
            is_terminal,
            answer: Answer::default(),
            open_line: false,
            open_thinking: false,
            status: false,
        }
    }

    /// The prompt is being read; false stops it.
    pub fn reading(&mut self, done: usize, of: usize) -> bool {
        let go_on = !interrupt::requested();
        // Short prompts are read before anyone could read this.
        if go_on && done < of && terminal::stderr_has_color() && io::stderr().is_terminal() {
            let text = format!("reading {done} of {of} tokens");
            eprint!("\r\x1b[2K{}", terminal::status(&text));
            self.status = true;
        } else {
            self.clear_status();
        }
        go_on
    }

    /// Takes back the line of [`Output::reading`].
    fn clear_status(&mut self) {
        if std::mem::take(&mut self.status) {
            eprint!("\r\x1b[2K");
        }
    }

    /// Shows a piece, and keeps it for the end.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        self.answer.add(event);
        match event {
            Event::Reasoning(piece) if self.shows_reasoning => {
                let piece = terminal::harmless(piece);
                eprint!("{}", terminal::paint_stderr(Style::Dim, &piece));
                self.open_thinking = true;
            }
            Event::Final(piece) | Event::Preamble(piece) if !self.json => self.show(piece)?,
            Event::MessageEnd => self.end_thinking(),
            Event::UndeclaredCall { recipient, .. } => {
                self.end_thinking();
                let recipient = terminal::harmless(recipient);
                eprintln!("the model called {recipient}, which it was not given");
            }
            _ => {}
        }
        Ok(())
    }

    fn end_thinking(&mut self) {
        if std::mem::take(&mut self.open_thinking) {
            eprintln!();
        }
    }

    fn show(&mut self, piece: &str) -> Result<()> {
        self.end_thinking();
        let mut out = io::stdout().lock();
        let piece = &*match self.is_terminal {
            true => terminal::harmless(piece).into(),
            false => Cow::Borrowed(piece),
        };
        match &mut self.markdown {
            Some(markdown) => out.write_all(markdown.push(piece).as_bytes())?,
            None => {
                out.write_all(piece.as_bytes())?;
                self.open_line = !piece.ends_with('\n');
            }
        }
        Ok(out.flush()?)
    }

    /// Ends whatever is unfinished on the screen.
    pub fn end_line(&mut self) -> Result<()> {
        self.clear_status();
        self.end_thinking();
        let mut out = io::stdout().lock();
        if let Some(mut markdown) = self.markdown.take() {
            out.write_all(markdown.finish().as_bytes())?;
        }
        if std::mem::take(&mut self.open_line) {
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }

    /// Whether some of the answer came.
    pub fn has_answer(&self) -> bool {
        !self.answer.content.is_empty()
    }

    /// Prints what comes last: a call, or the whole as JSON.
    pub fn finish(
        &mut self,
        outcome: &Outcome,
        call: Option<(&str, &str)>,
        load: Duration,
    ) -> Result<()> {
        self.end_line()?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", self.object(outcome, call, load))?;
        } else if let Some((tool, arguments)) = call {
            writeln!(out, "{}", call_object(tool, arguments))?;
        }
        Ok(out.flush()?)
    }

    fn object(&self, outcome: &Outcome, call: Option<(&str, &str)>, load: Duration) -> Value {
        let calls: Vec<Value> = call
            .iter()
            .map(|(tool, arguments)| call_object(tool, arguments))
            .collect();
        let finish = match outcome.finish {
            Finish::Stop => "stop",
            Finish::ToolCalls => "tool_calls",
            Finish::Length | Finish::ContextFull | Finish::Interrupted => "length",
        };
        let prefill = outcome.prefill;
        json!({
            "content": self.answer.content,
            "reasoning": self.answer.reasoning,
            "tool_calls": calls,
            "finish_reason": finish,
            "usage": {
                "prompt_tokens": prefill.cached + prefill.computed,
                "completion_tokens": outcome.tokens.len(),
                "reasoning_tokens": outcome.reasoning_tokens,
                "cached_tokens": prefill.cached,
            },
            "timings": {
                "load_s": load.as_secs_f64(),
                "prefill_tokens_per_second": rate(prefill.computed, outcome.prefill_time),
                "decode_tokens_per_second": rate(outcome.tokens.len(), outcome.decode_time),
            },
        })
    }
}

/// Tokens per second; 0 where nothing was done.
pub fn rate(tokens: usize, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => tokens as f64 / seconds,
    }
}

/// A call as JSON. Arguments that are no JSON themselves stay text.
fn call_object(tool: &str, arguments: &str) -> Value {
    let parsed = serde_json::from_str(arguments);
    let arguments = parsed.unwrap_or_else(|_| Value::String(arguments.to_string()));
    json!({"name": tool, "arguments": arguments})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_no_json_stay_text() {
        assert_eq!(
            call_object("f", "{\"a\":1}"),
            json!({"name": "f", "arguments": {"a": 1}})
        );
        assert_eq!(
            call_object("python", "print(1)"),
            json!({"name": "python", "arguments": "print(1)"})
        );
    }

    #[test]
    fn nothing_has_no_speed() {
        assert_eq!(rate(0, Duration::ZERO), 0.0);
        assert_eq!(rate(10, Duration::from_secs(2)), 5.0);
    }
}
