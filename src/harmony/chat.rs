//! Reads a conversation from the JSON of OpenAI's chat API.

use super::{Assistant, Channel, Conversation, Developer, Effort, Kind, Message, Opening, System};
use super::{choice, options};
use serde_json::{Map, Value};
use std::collections::HashMap;
use thiserror::Error;

/// A chat request that cannot be understood. `at` says where, as in `messages[2].content`.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum Error {
    #[error("the request is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("{at} is {found}: {expected} is expected")]
    Wrong {
        at: String,
        found: String,
        expected: &'static str,
    },
    #[error("{at} is missing: {expected} is expected")]
    Missing { at: String, expected: &'static str },
    #[error(
        "{at} answers the call {id:?}, which no earlier message makes: a tool message needs the id of a call, or a name"
    )]
    UnknownCall { at: String, id: String },
    #[error("{at} is named {name:?}, as an earlier tool is: names must differ")]
    DuplicateTool { at: String, name: String },
}

/// What a chat request asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The messages, tools and response format; the system message that the API does not show is not among them.
    pub conversation: Conversation,
    /// How much to think, if the request says.
    pub effort: Option<Effort>,
    /// JSON schema that the answer must fit, if the request asks for one.
    pub response_schema: Option<Value>,
    /// How the turn begins: with a call, if the request demands one.
    pub opening: Opening,
}

impl Request {
    /// Reads a request, or a bare array of messages.
    pub fn parse(json: &str) -> Result<Request, Error> {
        Self::from_value(&serde_json::from_str(json).map_err(Error::NotJson)?)
    }

    /// As [`Request::parse`], from parsed JSON.
    pub fn from_value(value: &Value) -> Result<Request, Error> {
        let empty = Map::new();
        let (messages, wishes) = match value {
            Value::Array(messages) => (messages, &empty),
            Value::Object(options) => match options.get("messages") {
                Some(Value::Array(messages)) => (messages, options),
                other => return Err(mismatch("messages", other, "an array of messages")),
            },
            other => {
                let expected = "an object with messages, or an array of them";
                return Err(mismatch("the request", Some(other), expected));
            }
        };
        let mut reader = Reader::default();
        for (index, message) in messages.iter().enumerate() {
            reader.message(&format!("messages[{index}]"), message)?;
        }
        let mut request = Request {
            conversation: Conversation {
                messages: reader.messages,
            },
            effort: options::effort(wishes)?,
            response_schema: None,
            opening: Opening::Free,
        };
        let mut functions = options::tools(wishes.get("tools"))?;
        request.opening = choice::opening(wishes, &mut functions)?;
        let format = options::response_format(wishes.get("response_format"))?;
        request.response_schema = format.as_ref().map(|format| format.schema.clone());
        if !functions.is_empty() || format.is_some() {
            let developer = request.developer();
            developer.functions = functions;
            developer.response_formats.extend(format);
        }
        Ok(request)
    }

    /// The developer message in front, made if there is none.
    fn developer(&mut self) -> &mut Developer {
        let messages = &mut self.conversation.messages;
        if !matches!(messages.first(), Some(Message::Developer(_))) {
            messages.insert(0, Message::Developer(Developer::default()));
        }
        match &mut messages[0] {
            Message::Developer(developer) => developer,
            _ => unreachable!("it was put there above"),
        }
    }

    /// The conversation as the model sees it: behind a system message with this date and, unless the request says another, this
    /// effort.
    pub fn conversation(&self, date: Option<String>, effort: Effort) -> Conversation {
        let system = System {
            date,
            effort: self.effort.unwrap_or(effort),
            ..System::default()
        };
        let system = [Message::System(system)].into_iter();
        Conversation {
            messages: system.chain(self.conversation.messages.clone()).collect(),
        }
    }
}

#[derive(Default)]
struct Reader {
    messages: Vec<Message>,
    /// Tool by call id.
    calls: HashMap<String, String>,
}

impl Reader {
    fn message(&mut self, at: &str, value: &Value) -> Result<(), Error> {
        let Value::Object(message) = value else {
            return Err(mismatch(at, Some(value), "a message object"));
        };
        match required(message, at, "role", "a role")? {
            "system" | "developer" => {
                let instructions = Some(content(message, at)?);
                self.messages.push(Message::Developer(Developer {
                    instructions,
                    ..Developer::default()
                }));
            }
            "user" => self.messages.push(Message::User {
                name: user_name(message, at)?,
                text: content(message, at)?,
            }),
            "assistant" => self.assistant(message, at)?,
            "tool" | "function" => self.tool_result(message, at)?,
            _ => {
                let expected = "\"system\", \"developer\", \"user\", \"assistant\" or \"tool\"";
                return Err(mismatch(
                    &format!("{at}.role"),
                    message.get("role"),
                    expected,
                ));
            }
        }
        Ok(())
    }

    fn assistant(&mut self, message: &Map<String, Value>, at: &str) -> Result<(), Error> {
        for key in ["reasoning_content", "reasoning", "thinking"] {
            if let Some(text) = optional(message, at, key)? {
                self.say(Kind::Reasoning, text);
                break;
            }
        }
        let calls = match message.get("tool_calls") {
            None | Some(Value::Null) => &Vec::new(),
            Some(Value::Array(calls)) => calls,
            other => return Err(mismatch(&format!("{at}.tool_calls"), other, "an array")),
        };
        let text = match message.get("content") {
            None | Some(Value::Null) => String::new(),
            Some(_) => content(message, at)?,
        };
        if !calls.is_empty() {
            if !text.is_empty() {
                self.say(Kind::Preamble, &text);
            }
            for (index, call) in calls.iter().enumerate() {
                self.call(&format!("{at}.tool_calls[{index}]"), call)?;
            }
        } else if message.contains_key("content") && message["content"] != Value::Null {
            self.say(Kind::Final, &text);
        }
        Ok(())
    }

    fn say(&mut self, kind: Kind, text: &str) {
        self.messages.push(Message::Assistant(Assistant {
            kind,
            text: text.to_owned(),
            sampled: None,
        }));
    }

    fn call(&mut self, at: &str, call: &Value) -> Result<(), Error> {
        let at = format!("{at}.function");
        let Some(Value::Object(function)) = call.get("function") else {
            return Err(mismatch(&at, call.get("function"), "an object"));
        };
        let tool = required(function, &at, "name", "the function's name")?.to_owned();
        let arguments = match function.get("arguments") {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            // The API wants a string with JSON in it; many clients send the JSON itself.
            Some(value) => value.to_string(),
        };
        if let Some(Value::String(id)) = call.get("id") {
            self.calls.insert(id.clone(), tool.clone());
        }
        let channel = Channel::Commentary;
        self.say(Kind::Call { tool, channel }, &arguments);
        Ok(())
    }

    fn tool_result(&mut self, message: &Map<String, Value>, at: &str) -> Result<(), Error> {
        let id = optional(message, at, "tool_call_id")?;
        let known = id.and_then(|id| self.calls.get(id).map(String::as_str));
        let tool = match (known, optional(message, at, "name")?, id) {
            (Some(tool), ..) | (None, Some(tool), _) => tool.to_owned(),
            (None, None, Some(id)) => {
                let (at, id) = (at.to_owned(), id.to_owned());
                return Err(Error::UnknownCall { at, id });
            }
            (None, None, None) => {
                let at = format!("{at}.tool_call_id");
                let expected = "the id of the call that this answers";
                return Err(Error::Missing { at, expected });
            }
        };
        self.messages.push(Message::ToolResult {
            tool,
            channel: Channel::Commentary,
            text: content(message, at)?,
        });
        Ok(())
    }
}

/// The text of a message: a string, or the text parts of an array.
fn content(message: &Map<String, Value>, at: &str) -> Result<String, Error> {
    let at = format!("{at}.content");
    let expected = "a string or an array of text parts";
    let parts = match message.get("content") {
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        other => return Err(mismatch(&at, other, expected)),
    };
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        match part.get("text") {
            Some(Value::String(part)) => text += part,
            _ => {
                let expected = "a part of type \"text\" (the model reads nothing else)";
                return Err(mismatch(&format!("{at}[{index}]"), Some(part), expected));
            }
        }
    }
    Ok(text)
}

/// A user's name stands in the header, so it must not be able to say more than a name.
fn user_name(message: &Map<String, Value>, at: &str) -> Result<Option<String>, Error> {
    let Some(name) = optional(message, at, "name")? else {
        return Ok(None);
    };
    let is_plain = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        let expected = "up to 64 letters, digits, _ and -";
        return Err(mismatch(
            &format!("{at}.name"),
            message.get("name"),
            expected,
        ));
    }
    Ok(Some(name.to_owned()))
}

pub(super) fn required<'a>(
    map: &'a Map<String, Value>,
    at: &str,
    key: &str,
    expected: &'static str,
) -> Result<&'a str, Error> {
    match map.get(key) {
        Some(Value::String(text)) => Ok(text),
        other => Err(mismatch(&format!("{at}.{key}"), other, expected)),
    }
}

pub(super) fn optional<'a>(
    map: &'a Map<String, Value>,
    at: &str,
    key: &str,
) -> Result<Option<&'a str>, Error> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        other => Err(mismatch(&format!("{at}.{key}"), other, "a string")),
    }
}

pub(super) fn mismatch(at: &str, found: Option<&Value>, expected: &'static str) -> Error {
    let at = at.to_owned();
    let Some(found) = found else {
        return Error::Missing { at, expected };
    };
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Number(it) => it.to_string(),
        Value::String(it) if it.len() <= 40 => format!("{it:?}"),
        Value::String(_) => "a long string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(it) => match it.get("type") {
            Some(Value::String(kind)) if kind.len() <= 40 => format!("an object of type {kind:?}"),
            _ => "an object".to_owned(),
        },
    };
    Error::Wrong {
        at,
        found,
        expected,
    }
}
