//! What `run` and `chat` share: the options of a conversation, and opening one.

use super::input_file::read_text_file;
use super::model_file::ModelArgs;
use super::ollama::Modelfile;
use super::prompt::{self, Date, ReasoningEffort};
use super::sampling::SamplingArgs;
use super::terminal::{self, Style};
use anyhow::{Context, bail};
use fourfold::generate::Generator;
use fourfold::harmony::{self, Effort, Message, Tool, chat};
use fourfold::model::Model;
use fourfold::sample::Constraint;
use fourfold::session::{Loaded, Session};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the model is told, and what it may say
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Conversation")]
pub struct TalkingArgs {
    /// Instructions; a file's name in their place reads the file
    #[arg(long, value_name = "TEXT|FILE")]
    pub system: Option<String>,
    /// How much to think before answering [default: medium, or as the session has it]
    #[arg(long, value_name = "EFFORT")]
    pub reasoning_effort: Option<ReasoningEffort>,
    /// The date that the model is told, as 2025-06-28, or none [default: today, or as the session has it]
    #[arg(long, value_parser = prompt::date)]
    pub date: Option<Date>,
    /// Functions that the model may call: a JSON file as in OpenAI's chat API
    #[arg(long, value_name = "FILE")]
    pub tools: Option<PathBuf>,
    /// Let functions be called with arguments of their schemas only
    #[arg(long)]
    pub strict_tools: bool,
    /// Answer with JSON of the schema in this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["grammar", "regex", "stop"])]
    pub schema: Option<PathBuf>,
    /// Answer with text of the Lark grammar in this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["regex", "stop"])]
    pub grammar: Option<PathBuf>,
    /// Answer with text that matches this regular expression
    #[arg(long, value_name = "REGEX", conflicts_with = "stop")]
    pub regex: Option<String>,
    /// Most new tokens, thinking included
    #[arg(short = 'n', long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// End the answer before this text; can be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Decode one token at a time, without drafts from earlier text
    #[arg(long)]
    pub no_speculation: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Opens a model for generating. Someone at a terminal who named none is told what answers, and how to get more.
pub fn model(args: &ModelArgs) -> anyhow::Result<Model> {
    if args.model.is_none() && std::io::stderr().is_terminal() {
        let hint = "The tiny built-in model answers. For a real one download a gpt-oss .gguf file and name it, or convert a \
                    checkpoint: fourfold convert --help";
        eprintln!("{}", terminal::paint_stderr(Style::Dim, hint));
    }
    args.open()
}

/// The same, to be asked at once.
pub fn generator(args: &ModelArgs) -> anyhow::Result<Generator> {
    Ok(Generator::new(Arc::new(model(args)?))?)
}

/// Says it when a session's file lost its last save.
pub fn warn_if_older(loaded: Loaded, file: &Path) {
    if loaded == Loaded::Older {
        eprintln!(
            "the last save of {} was cut off or changed; this is the one before it",
            file.display()
        );
    }
}

impl TalkingArgs {
    /// A conversation as these options describe it, without a word said. What they leave open, the model may say.
    pub fn session(&self, generator: Generator, model: &Modelfile) -> anyhow::Result<Session> {
        let (settings, seed) = self.sampling.settings(generator.tokenizer(), model)?;
        let mut session = Session::new(generator, settings, seed)?;
        session.options.max_tokens = self.max_tokens.or(model.max_tokens());
        session.options.stop = match self.is_constrained() || !self.stop.is_empty() {
            true => self.stop.clone(),
            false => model.stop(),
        };
        session.options.speculate = !self.no_speculation;
        let system = session.system();
        system.effort = self
            .reasoning_effort
            .map_or(Effort::default(), Effort::from);
        system.date = match &self.date {
            Some(date) => date.text(),
            None => Some(harmony::today()),
        };
        if let Some(text) = &self.system {
            session.developer().instructions = Some(text_or_file(text)?);
        } else if let Some(text) = &model.system {
            session.developer().instructions = Some(text.clone());
        }
        if let Some(file) = &self.tools {
            session.developer().functions = read_tools(file)?;
        }
        self.constrain(&mut session)?;
        Ok(session)
    }

    /// Continues the conversation in a file. What is asked for now replaces what was asked for then; the rest stays.
    pub fn resume(
        &self,
        session: &mut Session,
        file: &Path,
        from_text_too: bool,
    ) -> anyhow::Result<()> {
        let loaded = match session.load(file, false) {
            Err(error) if error.leaves_text() && from_text_too => session.load(file, true)?,
            Err(error) if error.leaves_text() => {
                bail!("{error}: add --rebuild-session to read it again with this model")
            }
            other => other?,
        };
        warn_if_older(loaded, file);
        self.apply(session)
    }

    /// Replaces in a conversation that was loaded what these options ask for.
    pub fn apply(&self, session: &mut Session) -> anyhow::Result<()> {
        if let Some(text) = &self.system {
            session.developer().instructions = Some(text_or_file(text)?);
        }
        if let Some(file) = &self.tools {
            session.developer().functions = read_tools(file)?;
        }
        if let Some(effort) = self.reasoning_effort {
            session.set_effort(effort.into());
        }
        if let Some(date) = &self.date {
            session.system().date = date.text();
        }
        self.sampling.apply(session)?;
        match self.is_constrained() {
            true => self.constrain(session),
            false => Ok(()),
        }
    }

    /// Whether answers must match something.
    pub fn is_constrained(&self) -> bool {
        self.schema.is_some() || self.grammar.is_some() || self.regex.is_some()
    }

    /// Compiles what answers must match; the half second that this takes is spent only if asked for.
    pub fn constrain(&self, session: &mut Session) -> anyhow::Result<()> {
        match &self.schema {
            Some(file) => set_schema(session, file)?,
            None => session.options.answer = self.constraint(session.generator())?,
        }
        Ok(())
    }

    /// What raw text or an answer must match, if anything.
    pub fn constraint(&self, generator: &Generator) -> anyhow::Result<Option<Constraint>> {
        Ok(if let Some(file) = &self.schema {
            let constraint = generator.grammars()?.json_schema(&read_schema(file)?);
            Some(constraint.with_context(|| format!("{file:?}"))?)
        } else if let Some(file) = &self.grammar {
            let constraint = generator.grammars()?.lark(&read_text_file(file)?);
            Some(constraint.with_context(|| format!("{file:?}"))?)
        } else if let Some(regex) = &self.regex {
            Some(generator.grammars()?.regex(regex)?)
        } else {
            None
        })
    }
}

/// Answers follow the schema in a file from now on.
pub fn set_schema(session: &mut Session, file: &Path) -> anyhow::Result<()> {
    let name = file.file_stem().map(|stem| stem.to_string_lossy());
    let name = name.as_deref().unwrap_or("answer");
    let schema = read_schema(file)?;
    (session.set_schema(name, schema)).with_context(|| format!("{file:?}"))
}

/// The schema in a file, also where it is wrapped as in OpenAI's API.
fn read_schema(file: &Path) -> anyhow::Result<Value> {
    let json = read_json(file)?;
    let inside = json.get("json_schema").unwrap_or(&json);
    let schema = inside.get("schema").unwrap_or(inside);
    if let Value::Object(fields) = schema
        && !fields.is_empty()
        && fields.keys().all(|key| !KEYWORDS.contains(&key.as_str()))
    {
        bail!(
            "{file:?} is no JSON schema: it has none of its keywords (type, properties, enum, ...)"
        );
    }
    Ok(schema.clone())
}

/// What a JSON schema says something with. Others are ignored by the rules, so one with none of these would allow anything.
const KEYWORDS: [&str; 32] = [
    "$ref",
    "$defs",
    "definitions",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "items",
    "prefixItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "contains",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "multipleOf",
];

/// A file's content as JSON.
pub fn read_json(file: &Path) -> anyhow::Result<Value> {
    let text = read_text_file(file)?;
    serde_json::from_str(&text).with_context(|| format!("{file:?} is not JSON"))
}

/// The tools in a file: an array of them, or an object with `tools`.
pub fn read_tools(file: &Path) -> anyhow::Result<Vec<Tool>> {
    let json = read_json(file)?;
    let tools = match &json {
        Value::Object(fields) => fields.get("tools").unwrap_or(&json).clone(),
        _ => json,
    };
    let request = json!({"messages": [], "tools": tools});
    let request = chat::Request::from_value(&request)
        .with_context(|| format!("the tools in {file:?} cannot be used"))?;
    let tools = request
        .conversation
        .messages
        .into_iter()
        .find_map(|it| match it {
            Message::Developer(developer) => Some(developer.functions),
            _ => None,
        });
    match tools {
        Some(tools) if !tools.is_empty() => Ok(tools),
        _ => bail!("{file:?} holds no tools: an array of them is expected"),
    }
}

/// What was typed, or what the file of that name holds.
pub fn text_or_file(text: &str) -> anyhow::Result<String> {
    let path = Path::new(text);
    // A name of many words is a text, and asking for such a file would be an error of its own.
    if text.len() < 4096 && path.is_file() {
        return read_text_file(path);
    }
    let ends_as_file = [".txt", ".md"].iter().any(|end| text.ends_with(end));
    if ends_as_file && !text.contains(char::is_whitespace) {
        eprintln!("there is no file {text:?}: these are the instructions themselves");
    }
    Ok(text.to_string())
}
