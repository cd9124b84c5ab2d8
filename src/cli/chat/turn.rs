//! One turn: the answer, and the calls of tools on the way to it.

use super::display::Display;
use super::repl::Repl;
use super::statistics;
use super::toolbox::Answer;
use crate::cli::interrupt;
use anyhow::{Result, bail};
use fourfold::generate::{Error, Event, Finish, Outcome};
use fourfold::session::{self, Session};

/// Calls in a row before the model is taken to be going in circles.
const MOST_CALLS: usize = 32;

/// Of a call or a result, this much is shown.
const SHOWN: usize = 200;

impl Repl {
    /// Lets the model answer, running the tools that it calls.
    pub(super) fn answer(&mut self) -> Result<()> {
        interrupt::clear();
        let mut display = Display::new(self.thinking);
        let ended = self.answer_with(&mut display);
        display.end_part()?;
        self.thought = display.take_thought();
        interrupt::clear();
        ended
    }

    fn answer_with(&mut self, display: &mut Display) -> Result<()> {
        for _ in 0..MOST_CALLS {
            let Some((outcome, undeclared)) = self.generate(display)? else {
                return Ok(());
            };
            let call = session::call(&outcome)
                .map(|(tool, arguments)| (tool.to_string(), arguments.to_string()));
            let goes_on = match (call, undeclared) {
                (Some((tool, arguments)), _) => self.call_tool(&tool, &arguments, display)?,
                (None, Some(name)) if outcome.finish == Finish::Stop => {
                    display.note(&format!("the model called {name}, which does not exist"))?;
                    let text = format!("error: there is no tool {name}");
                    self.session().add_result(&name, text);
                    true
                }
                _ => false,
            };
            if !goes_on {
                self.close(&outcome, display)?;
                return Ok(());
            }
        }
        display
            .note(&format!("stopped after {MOST_CALLS} calls in a row"))
            .map_err(Into::into)
    }

    /// One generation; None when the prompt was not even read. Also the name of a tool that does
    /// not exist but was called.
    fn generate(&mut self, display: &mut Display) -> Result<Option<(Outcome, Option<String>)>> {
        self.session();
        let (session, _) = self.held.get();
        let mut undeclared = None;
        let outcome = follow(session, display, &mut undeclared)?;
        if let Some(outcome) = &outcome {
            session.accept(outcome);
            self.statistics.add(outcome);
        } else {
            display.note("stopped while reading; /regen goes on")?;
        }
        Ok(outcome.map(|outcome| (outcome, undeclared)))
    }

    /// Runs a tool; false when the person would rather not.
    fn call_tool(&mut self, tool: &str, arguments: &str, display: &mut Display) -> Result<bool> {
        display.note(&format!("→ {tool} {}", shortened(arguments)))?;
        if let Some(command) = self.toolbox.command(tool)
            && !self.toolbox.allowed
        {
            display.note(&format!("its command here: {command}"))?;
            let question = "run the tools' commands in this session?";
            let agreed = self.confirm(question, "--yes-tools allows them")?;
            if !agreed && !interrupt::requested() {
                self.session()
                    .add_result(tool, "error: the person does not want this tool to run");
                return Ok(true);
            }
            self.toolbox.allowed = agreed;
        }
        let answer = match interrupt::requested() {
            true => Answer::Interrupted,
            false => self.toolbox.call(tool, arguments),
        };
        match answer {
            Answer::Interrupted => {
                self.session()
                    .add_result(tool, "error: the person stopped the tool");
                display.note("stopped the tool; /regen lets the model go on")?;
                Ok(false)
            }
            Answer::Text { text, failed } => {
                let (text, failed) = match self.too_long(&text) {
                    Some(report) => (report, true),
                    None => (text, failed),
                };
                let mark = if failed { "✗" } else { "←" };
                display.note(&format!("{mark} {}", shortened(&text)))?;
                self.session().add_result(tool, text);
                Ok(true)
            }
        }
    }

    /// What the model is told instead of a result that does not fit into the context with an answer to it.
    fn too_long(&mut self, text: &str) -> Option<String> {
        let session = self.session();
        let context = session.generator().context();
        let tokens = session.generator().tokenizer().encode(text).len();
        let room = context.limit().saturating_sub(session.prompt().len());
        let room = room.saturating_sub(room / 4);
        (tokens > room).then(|| {
            format!("error: the result has {tokens} tokens, but there is room for {room} only")
        })
    }

    /// What is said after a turn.
    fn close(&mut self, outcome: &Outcome, display: &mut Display) -> Result<()> {
        display.end_part()?;
        let limit = self.session().generator().context().limit();
        match outcome.finish {
            Finish::ContextFull => display.note(&format!(
                "the context of {limit} tokens is full and the answer was cut off: /undo takes the last message back, /new starts over, a larger --ctx holds more"
            ))?,
            Finish::Length => display.note("cut off at the limit on tokens (/set max-tokens)")?,
            Finish::Interrupted => display.note("stopped")?,
            Finish::Stop | Finish::ToolCalls => {}
        }
        let line = statistics::line(outcome, self.session());
        display.note(&line)?;
        let used = outcome.prefill.cached + outcome.prefill.computed + outcome.tokens.len();
        // Another turn like this one may be the last that fits.
        let turn = outcome.prefill.computed + outcome.tokens.len();
        let is_short = used * 10 > limit * 9 || used + 2 * turn > limit;
        if outcome.finish != Finish::ContextFull && is_short {
            display.note(&format!(
                "the context is {} % full: /save keeps the conversation, /new starts over, a larger --ctx holds more",
                used * 100 / limit
            ))?;
        }
        Ok(())
    }
}

/// Shows a generation as it comes; None if it was stopped before it began.
fn follow(
    session: &mut Session,
    display: &mut Display,
    undeclared: &mut Option<String>,
) -> Result<Option<Outcome>> {
    let total = session.prompt().len();
    let mut shown = Ok(());
    let mut reading = |done| {
        if done < total {
            shown = display.reading(done, total);
        }
        !interrupt::requested()
    };
    let mut generation = match session.turn(&mut reading) {
        Ok(generation) => generation.stop_when(&interrupt::requested),
        Err(Error::Interrupted) => return Ok(None),
        Err(error @ Error::TooLong { .. }) => {
            bail!("{error}; /undo takes the last message back, /new starts over")
        }
        Err(error) => return Err(error.into()),
    };
    shown?;
    for event in generation.by_ref() {
        match event? {
            Event::Reasoning(piece) => display.thinking(&piece)?,
            Event::Preamble(piece) | Event::Final(piece) => display.answer(&piece)?,
            Event::UndeclaredCall { recipient, .. } => *undeclared = Some(recipient),
            Event::MessageEnd => display.end_part()?,
            Event::CallStart { .. } | Event::CallArguments(_) | Event::TurnEnd(_) => {}
        }
        if interrupt::requested() {
            break;
        }
    }
    Ok(Some(generation.finish()?))
}

/// The beginning of a text, on one line.
fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_results_are_shown_in_part() {
        assert_eq!(shortened("a\n  b"), "a b");
        assert_eq!(shortened(&"ü".repeat(300)).chars().count(), SHOWN + 2);
    }
}
