//! Reads the model's turn token by token and says what each token means. It never fails.
//!
//! Where the model departs from the format the nearest meaning is taken: a missing `<|end|>` or `<|start|>` is added, odd
//! headers are read by their known words (see [`super::header`]), and text without a header is an answer.

use super::header::{Before, Header, Meaning};
use super::markup::{Mark, Markup};
use super::names::ToolNames;
use super::render::Encoder;
use super::{Assistant, Kind, Message};
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// Something that happened in the model's turn.
///
/// A turn is any number of messages and one [`Event::TurnEnd`]. A message is pieces of one kind, none if it is empty, and one
/// [`Event::MessageEnd`]; a call starts with [`Event::CallStart`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A piece of thinking.
    Reasoning(String),
    /// A piece of what the model tells the person before it calls a tool.
    Preamble(String),
    /// A piece of the answer.
    Final(String),
    /// A call of a declared tool begins.
    CallStart {
        /// The tool, as it was declared.
        tool: String,
    },
    /// A piece of a call's arguments.
    CallArguments(String),
    /// A whole call of something that was not declared. It is not part of the answer.
    UndeclaredCall {
        /// What was called.
        recipient: String,
        /// With what.
        arguments: String,
    },
    /// The message is over.
    MessageEnd,
    /// The turn is over; nothing follows.
    TurnEnd(Reason),
}

/// Why a turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The model was done.
    Stop,
    /// A declared tool was called, and its arguments are whole.
    ToolCalls,
    /// Something was cut off.
    Length,
}

/// Where in the turn the next token will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position<'a> {
    /// In a header, or before one.
    Header,
    /// In the thinking.
    Reasoning,
    /// In words before a call.
    Preamble,
    /// In the answer: the body of a final message.
    Final,
    /// In the arguments of a call of this tool.
    Call(&'a str),
    /// In a message that is not shown.
    Hidden,
    /// After the turn.
    Done,
}

/// The state of one turn.
#[derive(Clone)]
pub struct Parser<'a> {
    tokenizer: &'a Tokenizer,
    markup: Markup,
    names: ToolNames,
    state: State,
    /// Tokens of the message under way.
    sampled: Vec<u32>,
    messages: Vec<Message>,
    /// How `<|start|>assistant` is encoded.
    start: Vec<u32>,
}

#[derive(Clone)]
enum State {
    Header(Header),
    Body(Body),
    Done,
}

#[derive(Clone)]
struct Body {
    meaning: Meaning,
    decoder: StreamDecoder,
    text: String,
}

impl<'a> Parser<'a> {
    /// A parser for the turn that follows `<|start|>assistant`, with the tools that were declared.
    pub fn new(encoder: &Encoder<'a>, names: ToolNames) -> Self {
        let tokenizer = encoder.tokenizer();
        let mut start = vec![encoder.markup().id(Mark::Start)];
        tokenizer.encode_into("assistant", &mut start);
        Parser {
            tokenizer,
            markup: encoder.markup().clone(),
            names,
            state: State::Header(Header::new(Before::Nothing)),
            sampled: Vec::new(),
            messages: Vec::new(),
            start,
        }
    }

    /// The format's special tokens.
    pub fn markup(&self) -> &Markup {
        &self.markup
    }

    /// Whether there are tools that could be called.
    pub fn may_call(&self) -> bool {
        !self.names.is_empty()
    }

    /// Where the next token will be.
    pub fn position(&self) -> Position<'_> {
        match &self.state {
            State::Header(_) => Position::Header,
            State::Done => Position::Done,
            State::Body(body) => match &body.meaning {
                Meaning::Kind(Kind::Reasoning) => Position::Reasoning,
                Meaning::Kind(Kind::Preamble) => Position::Preamble,
                Meaning::Kind(Kind::Final) => Position::Final,
                Meaning::Kind(Kind::Call { tool, .. }) => Position::Call(tool),
                Meaning::Undeclared(_) | Meaning::Foreign => Position::Hidden,
            },
        }
    }

    /// The whole messages so far, with their tokens, ready to be put behind the conversation.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Gives the messages away.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    /// Takes the next token, and appends what it means.
    pub fn push(&mut self, id: u32, events: &mut Vec<Event>) {
        if matches!(self.state, State::Done) {
            return;
        }
        let mark = self.markup.mark(id);
        let begins_message = match (&self.state, mark) {
            (State::Body(_), Some(Mark::Start | Mark::Channel)) => true,
            (State::Header(header), Some(Mark::Start)) => !header.is_bare(&self.names),
            _ => false,
        };
        if begins_message {
            self.close(None, events);
            if matches!(self.state, State::Done) {
                return;
            }
        }
        self.sampled.push(id);
        match mark {
            None if self.tokenizer.is_special(id) => {}
            None => self.text(id, events),
            Some(Mark::Start) => self.state = State::Header(Header::new(Before::Start)),
            Some(Mark::Channel) => self.header_mark(Before::Channel),
            Some(Mark::Constrain) => self.header_mark(Before::Constrain),
            Some(Mark::Message) => {
                if let State::Header(header) = &self.state {
                    let meaning = header.meaning(&self.names);
                    self.open(meaning, events);
                }
            }
            Some(mark @ (Mark::End | Mark::Return | Mark::Call)) => self.close(Some(mark), events),
        }
    }

    /// Ends the turn from outside: at a limit, at a stop string, or because somebody said so.
    pub fn finish(&mut self, reason: Reason, events: &mut Vec<Event>) {
        if matches!(self.state, State::Done) {
            return;
        }
        self.close(None, events);
        self.end_turn(reason, events);
    }

    fn end_turn(&mut self, reason: Reason, events: &mut Vec<Event>) {
        if !matches!(self.state, State::Done) {
            self.state = State::Done;
            events.push(Event::TurnEnd(reason));
        }
    }

    fn header_mark(&mut self, before: Before) {
        if let State::Header(header) = &mut self.state {
            header.mark(before);
        }
    }

    fn text(&mut self, id: u32, events: &mut Vec<Event>) {
        let bytes = self.tokenizer.token_bytes(id);
        match &mut self.state {
            State::Header(header) => {
                header.push(bytes);
                if header.is_text(&self.names) {
                    self.open_without_message(events);
                }
            }
            State::Body(body) => body.push(bytes, events),
            State::Done => {}
        }
    }

    fn open(&mut self, meaning: Meaning, events: &mut Vec<Event>) {
        if let Meaning::Kind(Kind::Call { tool, .. }) = &meaning {
            events.push(Event::CallStart { tool: tool.clone() });
        }
        self.state = State::Body(Body {
            meaning,
            decoder: StreamDecoder::default(),
            text: String::new(),
        });
    }

    /// Makes a body of a header that turned out to hold a message's text.
    fn open_without_message(&mut self, events: &mut Vec<Event>) {
        let State::Header(header) = &self.state else {
            return;
        };
        let text = header.text(&self.names).to_vec();
        let meaning = header.meaning(&self.names);
        self.open(meaning, events);
        if let State::Body(body) = &mut self.state {
            body.push(&text, events);
        }
    }

    /// Ends the message under way, by a token or, without one, where another message begins.
    fn close(&mut self, mark: Option<Mark>, events: &mut Vec<Event>) {
        if let State::Header(header) = &self.state {
            // Cut off in its header, a message was not said; ended there, it is an empty one.
            let was_ended = mark.is_some() && !header.is_bare(&self.names);
            if was_ended || !header.text(&self.names).is_empty() {
                self.open_without_message(events);
            }
        }
        let next = State::Header(Header::new(Before::Nothing));
        let sampled = std::mem::take(&mut self.sampled);
        let reason = match std::mem::replace(&mut self.state, next) {
            State::Body(body) => self.close_body(body, sampled, mark, events),
            State::Header(_) | State::Done => None,
        };
        let reason = reason.or(match mark {
            Some(Mark::Return | Mark::Call) => Some(Reason::Stop),
            _ => None,
        });
        if let Some(reason) = reason {
            self.end_turn(reason, events);
        }
    }

    /// Says why the turn is over, if the message ends it.
    fn close_body(
        &mut self,
        mut body: Body,
        sampled: Vec<u32>,
        mark: Option<Mark>,
        events: &mut Vec<Event>,
    ) -> Option<Reason> {
        body.push_end(events);
        let is_whole = is_whole_call(&body.text, mark);
        let (kind, reason) = match body.meaning {
            Meaning::Foreign => return None,
            Meaning::Undeclared(recipient) => {
                events.push(Event::UndeclaredCall {
                    recipient: recipient.clone(),
                    arguments: body.text.clone(),
                });
                (self.call(recipient), Some(Reason::Stop))
            }
            Meaning::Kind(kind @ Kind::Call { .. }) => (kind, Some(Reason::ToolCalls)),
            Meaning::Kind(kind) => (kind, None),
        };
        events.push(Event::MessageEnd);
        if reason.is_some() && !is_whole {
            return Some(Reason::Length);
        }
        self.keep(kind, body.text, sampled, mark);
        reason
    }

    fn call(&self, tool: String) -> Kind {
        let channel = self.names.channel(&tool);
        Kind::Call { tool, channel }
    }

    /// Keeps a whole message, with the tokens that a prompt will have for it.
    fn keep(&mut self, kind: Kind, text: String, mut sampled: Vec<u32>, mark: Option<Mark>) {
        if mark.is_some() {
            sampled.pop();
        }
        let end = match kind {
            Kind::Call { .. } => Mark::Call,
            _ => Mark::End,
        };
        sampled.push(self.markup.id(end));
        if sampled.starts_with(&self.start) {
            sampled.drain(..self.start.len());
        }
        let sampled = Some(sampled);
        self.messages.push(Message::Assistant(Assistant {
            kind,
            text,
            sampled,
        }));
    }
}

impl Body {
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let before = self.text.len();
        self.decoder.push(bytes, &mut self.text);
        self.report(before, events);
    }

    /// Gives out what was held back of a character that did not become whole.
    fn push_end(&mut self, events: &mut Vec<Event>) {
        let before = self.text.len();
        self.decoder.finish(&mut self.text);
        self.report(before, events);
    }

    fn report(&self, before: usize, events: &mut Vec<Event>) {
        let piece = self.text[before..].to_owned();
        if piece.is_empty() {
            return;
        }
        match &self.meaning {
            Meaning::Kind(Kind::Reasoning) => events.push(Event::Reasoning(piece)),
            Meaning::Kind(Kind::Preamble) => events.push(Event::Preamble(piece)),
            Meaning::Kind(Kind::Final) => events.push(Event::Final(piece)),
            Meaning::Kind(Kind::Call { .. }) => events.push(Event::CallArguments(piece)),
            Meaning::Undeclared(_) | Meaning::Foreign => {}
        }
    }
}

/// Whether a call's arguments are all there. The model says so with `<|call|>`; otherwise they are when they are JSON, or
/// when there are none and the message ended properly, as calls without parameters do.
fn is_whole_call(arguments: &str, mark: Option<Mark>) -> bool {
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(arguments).is_ok();
    let is_empty = arguments.trim().is_empty();
    mark == Some(Mark::Call) || is_empty && mark.is_some() || !is_empty && is_json()
}
