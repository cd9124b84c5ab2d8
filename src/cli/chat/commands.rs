//! The REPL's commands: one table that parsing, completion and /help all read.

use fourfold::harmony::Effort;

/// One row of the table.
pub struct Command {
    /// What is typed after the slash.
    pub name: &'static str,
    /// Its argument as /help shows it; empty without one.
    pub argument: &'static str,
    /// What it does, one line.
    pub help: &'static str,
    /// What may be typed there, for completion.
    pub choices: Choices,
    /// What it means; the argument may be empty.
    parse: fn(&str) -> Result<Action, String>,
}

/// How an argument completes.
pub enum Choices {
    /// Not at all.
    None,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A file name.
    Files,
}

/// What a person asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Show the table.
    Help,
    /// Forget the conversation.
    New,
    /// Answer the last message again.
    Regenerate,
    /// Take back the last message and its answer.
    Undo,
    /// Change the last message and send it again.
    Edit,
    /// Write the session to a file.
    Save(String),
    /// Read a session from a file.
    Load(String),
    /// Set the instructions, or show them.
    System(Option<String>),
    /// Set the reasoning effort, or show it.
    Effort(Option<Effort>),
    /// Change what is shown of the thinking; None prints the last one.
    Think(Option<Thinking>),
    /// Show the sampling settings.
    Parameters,
    /// Change one.
    Set(String, String),
    /// Attach a text file to the next message.
    File(String),
    /// List the tools.
    Tools,
    /// Constrain answers to a schema, or stop doing so.
    Schema(Option<String>),
    /// Show what the session has cost so far.
    Statistics,
    /// Leave.
    Exit,
}

/// What is shown of the model's thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Thinking {
    /// All of it, dimmed, as it comes.
    #[default]
    Show,
    /// Nothing.
    Hide,
    /// One line that says how long it takes.
    Fold,
}

/// The settings that /set knows; the rest of their rules is in `sample::Settings`.
pub const SETTINGS: &[&str] = &[
    "temp",
    "top-k",
    "top-p",
    "min-p",
    "typical",
    "seed",
    "repeat-penalty",
    "repeat-last-n",
    "presence-penalty",
    "frequency-penalty",
    "dry-multiplier",
    "dry-base",
    "dry-allowed-length",
    "max-tokens",
];

/// Every command.
pub const COMMANDS: &[Command] = &[
    plain("help", "this list", |_| Ok(Action::Help)),
    plain("new", "forget the conversation and start over", |_| {
        Ok(Action::New)
    }),
    plain("regen", "answer the last message again", |_| {
        Ok(Action::Regenerate)
    }),
    plain("undo", "take back the last message and its answer", |_| {
        Ok(Action::Undo)
    }),
    plain("edit", "change the last message and send it again", |_| {
        Ok(Action::Edit)
    }),
    with(
        "save",
        "FILE",
        "write the conversation and its cache to a file",
        Choices::Files,
        |file| Ok(Action::Save(needed(file, "/save FILE")?)),
    ),
    with(
        "load",
        "FILE",
        "continue a saved session",
        Choices::Files,
        |file| Ok(Action::Load(needed(file, "/load FILE")?)),
    ),
    with(
        "system",
        "[TEXT]",
        "set the instructions, show them, or off; @FILE reads a file",
        Choices::None,
        |text| Ok(Action::System(optional(text))),
    ),
    with(
        "effort",
        "low|medium|high",
        "how much to think before answering",
        Choices::Words(&["low", "medium", "high"]),
        |effort| match effort {
            "" => Ok(Action::Effort(None)),
            "low" => Ok(Action::Effort(Some(Effort::Low))),
            "medium" => Ok(Action::Effort(Some(Effort::Medium))),
            "high" => Ok(Action::Effort(Some(Effort::High))),
            other => Err(format!("effort is low, medium or high, not {other:?}")),
        },
    ),
    with(
        "think",
        "show|hide|fold",
        "what to show of the thinking; alone: print the last one",
        Choices::Words(&["show", "hide", "fold"]),
        |mode| {
            Ok(Action::Think(match mode {
                "" => None,
                "show" => Some(Thinking::Show),
                "hide" => Some(Thinking::Hide),
                "fold" => Some(Thinking::Fold),
                other => return Err(format!("thinking is show, hide or fold, not {other:?}")),
            }))
        },
    ),
    plain("params", "the sampling settings", |_| {
        Ok(Action::Parameters)
    }),
    with(
        "set",
        "NAME VALUE",
        "change a sampling setting: /set temp 0.7",
        Choices::Words(SETTINGS),
        |text| match text.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(Action::Set(name.into(), value.trim().into())),
            None => Err("/set takes a name and a value, as in /set temp 0.7".into()),
        },
    ),
    with(
        "file",
        "PATH|off",
        "attach a text file to the next message",
        Choices::Files,
        |path| Ok(Action::File(needed(path, "/file PATH")?)),
    ),
    plain("tools", "the tools and their commands", |_| {
        Ok(Action::Tools)
    }),
    with(
        "schema",
        "FILE|off",
        "constrain answers to a JSON schema",
        Choices::Files,
        |file| match file {
            "off" => Ok(Action::Schema(None)),
            _ => Ok(Action::Schema(Some(needed(file, "/schema FILE")?))),
        },
    ),
    plain("stats", "tokens, speeds and memory so far", |_| {
        Ok(Action::Statistics)
    }),
    plain("exit", "leave (Ctrl-D does too)", |_| Ok(Action::Exit)),
];

const fn plain(
    name: &'static str,
    help: &'static str,
    parse: fn(&str) -> Result<Action, String>,
) -> Command {
    with(name, "", help, Choices::None, parse)
}

const fn with(
    name: &'static str,
    argument: &'static str,
    help: &'static str,
    choices: Choices,
    parse: fn(&str) -> Result<Action, String>,
) -> Command {
    Command {
        name,
        argument,
        help,
        choices,
        parse,
    }
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

fn needed(text: &str, usage: &str) -> Result<String, String> {
    optional(text).ok_or_else(|| format!("a name is missing: {usage}"))
}

/// What other programs call some of them.
const ALIASES: [(&str, &str); 6] = [
    ("quit", "exit"),
    ("q", "exit"),
    ("bye", "exit"),
    ("?", "help"),
    ("clear", "new"),
    ("retry", "regen"),
];

/// The row of a command.
pub fn find(name: &str) -> Option<&'static Command> {
    let name = name.to_lowercase();
    let alias = ALIASES.iter().find(|alias| alias.0 == name);
    let name = alias.map_or(&*name, |alias| alias.1);
    COMMANDS.iter().find(|command| command.name == name)
}

/// Reads a line that begins with a slash; the error says in one sentence what to type instead.
pub fn parse(line: &str) -> Result<Action, String> {
    let line = line.trim().trim_start_matches('/');
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if let Some(command) = find(name) {
        if command.argument.is_empty() && !argument.trim().is_empty() {
            return Err(format!("/{name} takes no argument"));
        }
        return (command.parse)(argument.trim());
    }
    let similar = COMMANDS
        .iter()
        .map(|command| (distance(name, command.name), command.name))
        .min()
        .filter(|&(distance, _)| distance <= 2);
    Err(match similar {
        Some((_, similar)) => format!("there is no command /{name}: did you mean /{similar}?"),
        None => format!(
            "there is no command /{name}: /help lists them; to send a message that begins with a slash, put a space before it"
        ),
    })
}

/// Letters to insert, delete or replace to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The text of /help.
pub fn help() -> String {
    let mut text = String::new();
    for command in COMMANDS {
        let usage = format!("/{} {}", command.name, command.argument);
        text += &format!("  {usage:<26} {}\n", command.help);
    }
    text += "\n  A line that ends with \\ goes on in the next one; \"\"\" begins and ends longer text.\n  \
             Ctrl-C stops an answer, Ctrl-D leaves.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_those_that_are_listed() {
        let listed = crate::cli::sampling::list(&fourfold::sample::Settings::default());
        let mut listed: Vec<_> = listed.into_iter().map(|(name, _)| name).collect();
        // These two belong to the session and not to the sampler.
        listed.extend(["seed", "max-tokens"]);
        let mut known = SETTINGS.to_vec();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(known, listed);
    }

    #[test]
    fn every_command_is_found_by_its_name_and_explained() {
        let help = help();
        for command in COMMANDS {
            assert_eq!(find(command.name).unwrap().help, command.help);
            assert!(help.contains(&format!("/{}", command.name)) && help.contains(command.help));
        }
    }

    #[test]
    fn arguments_are_read() {
        assert_eq!(
            parse("/set temp  0.7 "),
            Ok(Action::Set("temp".into(), "0.7".into()))
        );
        assert_eq!(
            parse("/save a b.session"),
            Ok(Action::Save("a b.session".into()))
        );
        assert_eq!(parse("/think"), Ok(Action::Think(None)));
        assert_eq!(
            parse("/think fold"),
            Ok(Action::Think(Some(Thinking::Fold)))
        );
        assert_eq!(parse("/schema off"), Ok(Action::Schema(None)));
        assert_eq!(parse("/effort"), Ok(Action::Effort(None)));
    }

    #[test]
    fn wrong_ones_are_explained() {
        let explain = |line| parse(line).unwrap_err();
        assert!(explain("/hlep").contains("did you mean /help"));
        assert!(explain("/frobnicate").contains("/help lists them"));
        assert!(explain("/effort extreme").contains("low, medium or high"));
        assert!(explain("/set temp").contains("/set temp 0.7"));
        assert!(explain("/save").contains("/save FILE"));
        assert!(explain("/new now").contains("no argument"));
        assert!(explain("/").contains("/help lists them"));
    }
}
