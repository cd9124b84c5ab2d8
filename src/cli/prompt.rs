//! `fourfold prompt`: what the model will see.

use super::{input_file, model_file, terminal};
use anyhow::Context;
use fourfold::harmony::{self, Effort, Encoder, chat};
use fourfold::tokenizer::Tokenizer;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// Show a conversation exactly as the model will see it
///
/// The file holds what an OpenAI chat request holds, {"messages":[..],"tools":[..],"reasoning_effort":"low",
/// "response_format":{..},"tool_choice":..}, or a bare array of messages. Markup in the messages is text, though it looks alike
/// when printed:
/// --ids tells them apart.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold prompt --messages request.json
  fourfold prompt model.gguf --messages request.json --ids --date 2025-06-28")]
pub struct Args {
    /// The model whose vocabulary to use [default: the built-in one]
    model: Option<PathBuf>,
    /// The conversation; - is standard input
    #[arg(short, long, value_name = "FILE")]
    messages: PathBuf,
    /// Print the token ids, as a JSON array
    #[arg(long)]
    ids: bool,
    /// The date that the model is told, as 2025-06-28, or none [default: today]
    #[arg(long, value_parser = date)]
    date: Option<Date>,
    /// How much to think, unless the file says
    #[arg(long, value_name = "EFFORT", default_value = "medium")]
    reasoning_effort: ReasoningEffort,
}

/// What `--date` can say.
#[derive(Clone, Debug)]
pub enum Date {
    /// No date is given.
    None,
    /// This one is.
    Given(String),
}

impl Date {
    /// What the model is told.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Given(date) => Some(date.clone()),
        }
    }
}

/// How much to think, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReasoningEffort {
    /// A little
    Low,
    /// Some
    Medium,
    /// A lot
    High,
}

impl From<ReasoningEffort> for Effort {
    fn from(effort: ReasoningEffort) -> Effort {
        match effort {
            ReasoningEffort::Low => Effort::Low,
            ReasoningEffort::Medium => Effort::Medium,
            ReasoningEffort::High => Effort::High,
        }
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let json = input_file::read_text(&args.messages)?;
    let request = chat::Request::parse(&json).with_context(|| input_file::name(&args.messages))?;
    let date = match &args.date {
        Some(date) => date.text(),
        None => Some(harmony::today()),
    };
    let conversation = request.conversation(date, args.reasoning_effort.into());

    let mut out = terminal::stdout();
    if args.ids || args.model.is_some() {
        // A model that was named is opened even when only text is wanted, so that a wrong name does not go unnoticed.
        let tokenizer = Tokenizer::from_gguf(&model_file::open(args.model.as_deref())?)?;
        let encoder = Encoder::new(&tokenizer)?;
        if args.ids {
            let ids = encoder.render(&conversation, &request.opening).ids;
            writeln!(out, "{}", serde_json::to_string(&ids)?)?;
            out.flush()?;
            return Ok(());
        }
    }
    let text = harmony::to_text(&conversation, &request.opening);
    match std::io::stdout().is_terminal() {
        true => writeln!(out, "{}", terminal::harmless(&text))?,
        false => write!(out, "{text}")?,
    }
    out.flush()?;
    Ok(())
}

/// Reads a `--date`.
pub fn date(text: &str) -> Result<Date, String> {
    if text == "none" {
        return Ok(Date::None);
    }
    let form = text
        .chars()
        .map(|it| if it.is_ascii_digit() { '0' } else { it });
    match form.eq("0000-00-00".chars()) {
        true if is_day(text) => Ok(Date::Given(text.to_owned())),
        true => Err("there is no such day".to_owned()),
        false => Err("a date as 2025-06-28 or none is expected".to_owned()),
    }
}

/// Whether a date of the right form is in the calendar.
fn is_day(text: &str) -> bool {
    let mut numbers = text.split('-').filter_map(|part| part.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap),
        _ => 0,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_of_the_calendar() {
        for day in ["2025-06-28", "2024-02-29", "2000-02-29", "2025-12-31"] {
            assert!(matches!(date(day), Ok(Date::Given(given)) if given == day));
        }
        assert!(matches!(date("none"), Ok(Date::None)));
        for wrong in [
            "2025-02-30",
            "2025-02-29",
            "1900-02-29",
            "2025-13-01",
            "2025-04-31",
            "2025-06-00",
            "0000-00-00",
            "2025-6-28",
            "tomorrow",
        ] {
            assert!(date(wrong).is_err(), "{wrong}");
        }
    }
}
