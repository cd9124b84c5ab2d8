//! The harmony format: how gpt-oss models are spoken to, and how they answer.
//!
//! A [`Conversation`] is rendered token by token ([`Encoder::render`]), so that markup in what people write stays text. The
//! answer is read by a [`Parser`] that turns tokens into [`Event`]s as they come and never fails, whatever the model emits.
//! [`chat`] reads the same conversations from OpenAI's chat JSON.

mod answer;
pub mod chat;
mod choice;
mod date;
mod header;
mod markup;
mod names;
mod options;
mod parse;
mod render;
mod schema;
mod typescript;

pub use answer::{Answer, ToolCall};
pub use date::today;
pub use markup::{Mark, Markup, MissingMarkup};
pub use names::ToolNames;
pub use parse::{Event, Parser, Position, Reason};
pub use render::{Encoder, Opening, Rendered, Span, to_text};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Messages in the order in which they were said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The messages; a system message comes first.
    pub messages: Vec<Message>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Who the model is, and how much it shall think.
    System(System),
    /// What the application wants: its instructions and functions.
    Developer(Developer),
    /// What the person said.
    User {
        /// Tells several people apart.
        name: Option<String>,
        /// Their words.
        text: String,
    },
    /// What the model said, thought or asked for.
    Assistant(Assistant),
    /// What a tool answered.
    ToolResult {
        /// The tool's name, as it was declared.
        tool: String,
        /// The channel that the call came on.
        channel: Channel,
        /// The answer, as the tool gave it.
        text: String,
    },
}

/// One message of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assistant {
    /// What kind of message it is.
    pub kind: Kind,
    /// Its text; of a call, the arguments.
    pub text: String,
    /// The tokens that the model gave, from after `<|start|>assistant` to the end token. They are rendered as they are, so that
    /// a cache filled while they were sampled stays valid: encoding the text again may give other tokens.
    pub sampled: Option<Vec<u32>>,
}

/// What a message of the model is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Thinking, which the person may look at.
    Reasoning,
    /// Words to the person before a tool call.
    Preamble,
    /// The answer.
    Final,
    /// A tool call.
    Call {
        /// The tool's name, as it was declared.
        tool: String,
        /// Functions are called on the commentary channel, built-in tools on the analysis channel.
        channel: Channel,
    },
}

/// Which of the model's streams a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channel {
    /// Thinking.
    Analysis,
    /// Tool calls and words around them.
    Commentary,
    /// Answers.
    Final,
}

impl Channel {
    /// All channels.
    pub const ALL: [Channel; 3] = [Channel::Analysis, Channel::Commentary, Channel::Final];

    /// Its name in a header.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Analysis => "analysis",
            Channel::Commentary => "commentary",
            Channel::Final => "final",
        }
    }
}

/// How much the model shall think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effort {
    /// A little.
    Low,
    /// As the model was mostly trained to.
    #[default]
    Medium,
    /// A lot.
    High,
}

impl Effort {
    /// Its name in the system message.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
        }
    }
}

/// The system message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// The first line.
    pub identity: String,
    /// Year and month in which the training data ends.
    pub knowledge_cutoff: Option<String>,
    /// Today, as `2025-06-28`.
    pub date: Option<String>,
    /// How much to think.
    pub effort: Effort,
    /// Tools that the model was trained with, such as `python`.
    pub built_in: Vec<Namespace>,
}

impl Default for System {
    fn default() -> Self {
        System {
            identity: "You are ChatGPT, a large language model trained by OpenAI.".to_owned(),
            knowledge_cutoff: Some("2024-06".to_owned()),
            date: None,
            effort: Effort::default(),
            built_in: Vec::new(),
        }
    }
}

/// A developer message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Developer {
    /// What people call the system prompt.
    pub instructions: Option<String>,
    /// Functions that the model may call.
    pub functions: Vec<Tool>,
    /// Forms that the answer may be asked to have.
    pub response_formats: Vec<ResponseFormat>,
}

/// A function or built-in tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name. One that is no identifier is shown to the model as one, see [`ToolNames`].
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON schema of its arguments; none if it takes none.
    pub parameters: Option<Value>,
}

/// Tools under one name. Without tools it is a single tool that takes plain text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What is in it.
    pub tools: Vec<Tool>,
}

/// A form that an answer can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseFormat {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its JSON schema.
    pub schema: Value,
}
