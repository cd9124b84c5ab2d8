//! A conversation as the tokens that the model was trained on.

use super::markup::{Mark, Markup, MissingMarkup};
use super::names::ToolNames;
use super::{
    Assistant, Channel, Conversation, Developer, Kind, Message, ResponseFormat, System, typescript,
};
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// How the model's turn begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// Nothing is added: the conversation alone.
    None,
    /// The model decides whether to think.
    #[default]
    Free,
    /// It starts to think.
    Reasoning,
    /// It answers without thinking.
    Final,
    /// It calls this tool.
    Call(String),
}

/// A conversation in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// All tokens.
    pub ids: Vec<u32>,
    /// Where each message is; dropped thinking has no span.
    pub spans: Vec<Span>,
}

/// The tokens of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Place of the message in the conversation.
    pub message: usize,
    /// Its tokens.
    pub ids: Range<usize>,
}

/// Renders conversations with one vocabulary.
#[derive(Clone)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    markup: Markup,
}

impl<'a> Encoder<'a> {
    /// Finds the format's special tokens in a vocabulary.
    pub fn new(tokenizer: &'a Tokenizer) -> Result<Self, MissingMarkup> {
        let markup = Markup::find(tokenizer)?;
        Ok(Encoder { tokenizer, markup })
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// The format's special tokens.
    pub fn markup(&self) -> &Markup {
        &self.markup
    }

    /// The tokens of a conversation, with the beginning of the model's turn.
    pub fn render(&self, conversation: &Conversation, opening: &Opening) -> Rendered {
        let mut sink = Ids {
            encoder: self,
            rendered: Rendered::default(),
        };
        render(conversation, opening, &mut sink);
        sink.rendered
    }

    /// The tokens of an opening after `<|start|>assistant`. Feed them to the parser before what the model samples.
    pub fn opening(&self, opening: &Opening, names: &ToolNames) -> Vec<u32> {
        let mut sink = Ids {
            encoder: self,
            rendered: Rendered::default(),
        };
        open(opening, names, &mut sink);
        sink.rendered.ids
    }

    /// Tokens that end the thinking under way and begin the answer.
    pub fn stop_thinking(&self) -> Vec<u32> {
        let mut sink = Ids {
            encoder: self,
            rendered: Rendered::default(),
        };
        sink.mark(Mark::End);
        sink.mark(Mark::Start);
        sink.text("assistant");
        open(&Opening::Final, &ToolNames::default(), &mut sink);
        sink.rendered.ids
    }
}

/// The conversation as text, with special tokens by name.
pub fn to_text(conversation: &Conversation, opening: &Opening) -> String {
    let mut sink = Text::default();
    render(conversation, opening, &mut sink);
    sink.0
}

/// Where the parts of a rendering go.
trait Sink {
    fn mark(&mut self, mark: Mark);
    fn text(&mut self, text: &str);
    /// Takes tokens that the model gave, or says no.
    fn sampled(&mut self, ids: &[u32]) -> bool;
    fn message(&mut self, index: usize);
}

struct Ids<'a> {
    encoder: &'a Encoder<'a>,
    rendered: Rendered,
}

impl Sink for Ids<'_> {
    fn mark(&mut self, mark: Mark) {
        self.rendered.ids.push(self.encoder.markup.id(mark));
    }

    fn text(&mut self, text: &str) {
        self.encoder
            .tokenizer
            .encode_into(text, &mut self.rendered.ids);
    }

    fn sampled(&mut self, ids: &[u32]) -> bool {
        self.rendered.ids.extend_from_slice(ids);
        true
    }

    fn message(&mut self, message: usize) {
        let start = self.rendered.spans.last().map_or(0, |span| span.ids.end);
        let ids = start..self.rendered.ids.len();
        self.rendered.spans.push(Span { message, ids });
    }
}

#[derive(Default)]
struct Text(String);

impl Sink for Text {
    fn mark(&mut self, mark: Mark) {
        self.0 += mark.text();
    }

    fn text(&mut self, text: &str) {
        self.0 += text;
    }

    fn sampled(&mut self, _ids: &[u32]) -> bool {
        false
    }

    fn message(&mut self, _message: usize) {}
}

fn render(conversation: &Conversation, opening: &Opening, sink: &mut impl Sink) {
    let names = ToolNames::of(conversation);
    let has_functions = conversation.messages.iter().any(|message| {
        matches!(message, Message::Developer(developer) if !developer.functions.is_empty())
    });
    // The last answer ends the thinking before it: the model was trained without it. Thinking after it belongs to a turn that
    // is still going on, such as a tool call and its result, and stays.
    let last_final = conversation.messages.iter().rposition(
        |message| matches!(message, Message::Assistant(assistant) if assistant.kind == Kind::Final),
    );
    for (index, message) in conversation.messages.iter().enumerate() {
        let is_reasoning =
            matches!(message, Message::Assistant(assistant) if assistant.kind == Kind::Reasoning);
        if is_reasoning && last_final.is_some_and(|last| index < last) {
            continue;
        }
        sink.mark(Mark::Start);
        match message {
            Message::System(system) => {
                body("system", &system_text(system, has_functions), sink);
            }
            Message::Developer(developer) => {
                body("developer", &developer_text(developer, &names), sink);
            }
            Message::User { name: None, text } => body("user", text, sink),
            Message::User {
                name: Some(name),
                text,
            } => body(&format!("user:{name}"), text, sink),
            Message::Assistant(assistant) => assistant_message(assistant, &names, sink),
            Message::ToolResult {
                tool,
                channel,
                text,
            } => {
                sink.text(&format!("{} to=assistant", names.recipient(tool)));
                sink.mark(Mark::Channel);
                body(channel.name(), text, sink);
            }
        }
        sink.message(index);
    }
    if *opening != Opening::None {
        sink.mark(Mark::Start);
        sink.text("assistant");
        open(opening, &names, sink);
    }
}

/// The rest of a header, a body, and `<|end|>`.
fn body(header: &str, text: &str, sink: &mut impl Sink) {
    sink.text(header);
    sink.mark(Mark::Message);
    sink.text(text);
    sink.mark(Mark::End);
}

fn assistant_message(message: &Assistant, names: &ToolNames, sink: &mut impl Sink) {
    sink.text("assistant");
    if let Some(ids) = &message.sampled
        && sink.sampled(ids)
    {
        return;
    }
    header(&message.kind, names, sink);
    sink.text(&message.text);
    sink.mark(match message.kind {
        Kind::Call { .. } => Mark::Call,
        _ => Mark::End,
    });
}

/// A header from the channel on. Recipients stand after the channel, where the model itself puts them.
fn header(kind: &Kind, names: &ToolNames, sink: &mut impl Sink) {
    sink.mark(Mark::Channel);
    match kind {
        Kind::Reasoning => sink.text(Channel::Analysis.name()),
        Kind::Preamble => sink.text(Channel::Commentary.name()),
        Kind::Final => sink.text(Channel::Final.name()),
        Kind::Call { tool, channel } => {
            let recipient = names.recipient(tool);
            sink.text(&format!("{} to={recipient} ", channel.name()));
            if recipient.contains('.') {
                sink.mark(Mark::Constrain);
                sink.text("json");
            } else {
                sink.text("code");
            }
        }
    }
    sink.mark(Mark::Message);
}

fn open(opening: &Opening, names: &ToolNames, sink: &mut impl Sink) {
    match opening {
        Opening::None | Opening::Free => {}
        Opening::Reasoning => header(&Kind::Reasoning, names, sink),
        Opening::Final => header(&Kind::Final, names, sink),
        Opening::Call(tool) => {
            let channel = names.channel(tool);
            let tool = tool.clone();
            header(&Kind::Call { tool, channel }, names, sink);
        }
    }
}

fn system_text(system: &System, has_functions: bool) -> String {
    let mut top = system.identity.clone();
    if let Some(cutoff) = &system.knowledge_cutoff {
        top += &format!("\nKnowledge cutoff: {cutoff}");
    }
    if let Some(date) = &system.date {
        top += &format!("\nCurrent date: {date}");
    }
    let mut sections = vec![top, format!("Reasoning: {}", system.effort.name())];
    if !system.built_in.is_empty() {
        sections.push("# Tools".to_owned());
        let mut tools: Vec<_> = system.built_in.iter().collect();
        tools.sort_by(|left, right| left.name.cmp(&right.name));
        sections.extend(tools.into_iter().map(typescript::built_in));
    }
    let channels = Channel::ALL.map(Channel::name).join(", ");
    let mut last =
        format!("# Valid channels: {channels}. Channel must be included for every message.");
    if has_functions {
        last += "\nCalls to these tools must go to the commentary channel: 'functions'.";
    }
    sections.push(last);
    sections.join("\n\n")
}

fn developer_text(developer: &Developer, names: &ToolNames) -> String {
    let mut sections = Vec::new();
    if let Some(instructions) = &developer.instructions {
        sections.push(format!("# Instructions\n\n{instructions}"));
    }
    if !developer.functions.is_empty() {
        let functions = typescript::functions(&developer.functions, names);
        sections.push(format!("# Tools\n\n{functions}"));
    }
    if !developer.response_formats.is_empty() {
        sections.push("# Response Formats".to_owned());
        sections.extend(developer.response_formats.iter().map(response_format));
    }
    sections.join("\n\n")
}

fn response_format(format: &ResponseFormat) -> String {
    let mut section = format!("## {}\n\n", format.name);
    for line in format.description.iter().flat_map(|text| text.lines()) {
        section += &format!("// {line}\n");
    }
    section + &format.schema.to_string()
}
