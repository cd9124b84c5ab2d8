//! A turn put together from its events.

use super::parse::{Event, Reason};

/// What a turn came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The thinking; messages are separated by a line end.
    pub reasoning: String,
    /// What the person sees: words before calls, and the answer.
    pub content: String,
    /// The calls of declared tools whose arguments are whole.
    pub calls: Vec<ToolCall>,
    /// Why the turn ended; none while it goes on.
    pub reason: Option<Reason>,
    /// The arguments of a call that is not over.
    open: Option<ToolCall>,
    /// Whether the next piece of thinking, or of content, begins another message.
    breaks: [bool; 2],
}

/// A call of a declared tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool, as it was declared.
    pub tool: String,
    /// Its arguments, as the model wrote them.
    pub arguments: String,
}

impl Answer {
    /// Adds an event.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Reasoning(piece) => {
                append(&mut self.reasoning, &mut self.breaks[0], piece);
            }
            Event::Preamble(piece) | Event::Final(piece) => {
                append(&mut self.content, &mut self.breaks[1], piece);
            }
            Event::CallStart { tool } => {
                let (tool, arguments) = (tool.clone(), String::new());
                self.open = Some(ToolCall { tool, arguments });
            }
            Event::CallArguments(piece) => {
                if let Some(call) = &mut self.open {
                    call.arguments += piece;
                }
            }
            Event::UndeclaredCall { .. } => {}
            Event::MessageEnd => {
                self.breaks = [!self.reasoning.is_empty(), !self.content.is_empty()];
            }
            Event::TurnEnd(reason) => {
                self.reason = Some(*reason);
                let call = self.open.take();
                if *reason == Reason::ToolCalls {
                    self.calls.extend(call);
                }
            }
        }
    }
}

impl<'a> FromIterator<&'a Event> for Answer {
    fn from_iter<I: IntoIterator<Item = &'a Event>>(events: I) -> Self {
        let mut answer = Answer::default();
        events.into_iter().for_each(|event| answer.add(event));
        answer
    }
}

fn append(text: &mut String, breaks: &mut bool, piece: &str) {
    if std::mem::take(breaks) {
        text.push('\n');
    }
    *text += piece;
}
