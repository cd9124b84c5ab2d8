//! Reading a turn in the harmony format, and keeping it to the form that was asked for.

use super::{Finish, Generation};
use crate::generate::Error;
use crate::harmony::{Assistant, Event, Kind, Mark, Message, Parser, Position, Reason};

impl Generation<'_> {
    /// Hands on what a token means, and ends the turn or forces what comes next where the format leaves no choice.
    pub(super) fn read_harmony(&mut self, token: u32) -> Result<(), Error> {
        let Some(parser) = &mut self.request.parser else {
            return Ok(());
        };
        if parser.position() == Position::Reasoning {
            self.outcome.reasoning_tokens += 1;
        }
        let was_answer = parser.position() == Position::Final;
        let was_header = parser.position() == Position::Header;
        let mut events = std::mem::take(&mut self.scratch);
        let is_end_of_turn = self.ends.contains(&token);
        // A fine-tune's own end is none that harmony knows, and no part of what was said.
        if !is_end_of_turn || parser.markup().mark(token).is_some() {
            parser.push(token, &mut events);
        }
        let is_end = token == self.request.mark(Mark::End);
        let is_done = self
            .turn_end(&events)
            .or(is_end_of_turn.then_some(Finish::Stop));
        let is_stray = self.is_stray_answer(was_header, token);
        self.has_answered |= was_answer && !is_stray;
        let misses_answer =
            is_done == Some(Finish::Stop) && self.request.answer.is_some() && !self.has_answered;
        for event in events.drain(..) {
            // Text outside the format cannot be part of an answer that a schema describes.
            let ends_turn = matches!(event, Event::TurnEnd(_));
            if !(is_stray || misses_answer && ends_turn) {
                self.give(event);
            }
        }
        self.scratch = events;
        if misses_answer && let Some(fresh) = self.fresh_parser.take() {
            if let Some(parser) = self.request.parser.replace(fresh) {
                self.outcome.messages.extend(parser.into_messages());
            }
            self.reopen_answer();
        } else if is_stray {
            self.reopen_answer();
        } else if let Some(finish) = is_done {
            self.end(finish)?;
        } else if was_answer && is_end {
            // Some fine-tunes end their turns like any message.
            self.end(Finish::Stop)?;
        } else if is_end {
            self.begin_message();
        } else {
            self.arm(was_header);
        }
        Ok(())
    }

    fn turn_end(&self, events: &[Event]) -> Option<Finish> {
        events.iter().find_map(|event| match event {
            Event::TurnEnd(Reason::Stop) => Some(Finish::Stop),
            Event::TurnEnd(Reason::ToolCalls) => Some(Finish::ToolCalls),
            Event::TurnEnd(Reason::Length) => Some(Finish::Length),
            _ => None,
        })
    }

    /// After a message's end the format allows one thing only, so nobody is asked.
    fn begin_message(&mut self) {
        let start = self.request.mark(Mark::Start);
        let role = self.generator.tokenizer.encode("assistant");
        if let Some(decoder) = &mut self.decoder {
            decoder.release();
            decoder.force(&[start]);
            decoder.force(&role);
        }
        self.force_channel();
    }

    /// Whether the turn must have an answer of some form: with tools it may end in a call instead.
    pub(super) fn owes_answer(&self) -> bool {
        let may_call = self.request.parser.as_ref().is_some_and(Parser::may_call);
        self.request.answer.is_some() && !may_call
    }

    /// With a schema to keep, every message must name its channel.
    pub(super) fn force_channel(&mut self) {
        let is_header = |parser: &Parser| parser.position() == Position::Header;
        let at_header = self.request.parser.as_ref().is_some_and(is_header);
        if self.owes_answer() && at_header {
            let channel = self.request.mark(Mark::Channel);
            if let Some(decoder) = &mut self.decoder {
                decoder.force(&[channel]);
            }
        }
    }

    /// Puts a constraint to work where the text begins that it is for.
    pub(super) fn arm(&mut self, was_header: bool) {
        let (Some(parser), Some(decoder)) = (&self.request.parser, &mut self.decoder) else {
            return;
        };
        if decoder.is_constrained() {
            return;
        }
        let (constraint, end) = match parser.position() {
            Position::Final if was_header => (self.request.answer.as_ref(), Mark::Return),
            Position::Call(tool) if was_header => {
                let mut tools = self.request.tools.iter();
                let found = tools.find(|(name, _)| name == tool);
                (found.map(|(_, constraint)| constraint), Mark::Call)
            }
            _ => return,
        };
        if let Some(constraint) = constraint {
            decoder.constrain(constraint.clone(), self.request.mark(end));
        }
    }

    /// Whether an answer that must match something began without the token that begins a body.
    fn is_stray_answer(&self, was_header: bool, token: u32) -> bool {
        let parser = self.request.parser.as_ref();
        let is_answer = parser.is_some_and(|parser| parser.position() == Position::Final);
        let is_body = token == self.request.mark(Mark::Message);
        self.request.answer.is_some() && was_header && is_answer && !is_body
    }

    /// Begins the answer again, within the format.
    fn reopen_answer(&mut self) {
        let tokenizer = &self.generator.tokenizer;
        let mut opening = vec![self.request.mark(Mark::Start)];
        tokenizer.encode_into("assistant", &mut opening);
        opening.push(self.request.mark(Mark::Channel));
        tokenizer.encode_into("final", &mut opening);
        opening.push(self.request.mark(Mark::Message));
        if let Some(decoder) = &mut self.decoder {
            decoder.force(&opening);
        }
    }
}

/// Of several answers only the last kept to what was asked for.
pub(super) fn keep_last_answer(messages: &mut Vec<Message>) {
    let is_answer = |message: &Message| {
        matches!(
            message,
            Message::Assistant(Assistant {
                kind: Kind::Final,
                ..
            })
        )
    };
    let last = messages.iter().rposition(is_answer);
    let mut index = 0..;
    messages.retain(|message| index.next() == last || !is_answer(message));
}
