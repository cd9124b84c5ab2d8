//! One turn in the making.

mod harmony;

use super::decode::Decoder;
use super::{Error, Generator, Prefill, Request};
use crate::harmony::{Event, Message, Parser, Position, Reason};
use crate::model::Logits;
use crate::sample::StopStrings;
use crate::tokenizer::StreamDecoder;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or a stop text came.
    Stop,
    /// The model called a tool and waits for the result.
    ToolCalls,
    /// The limit on new tokens was reached.
    Length,
    /// The context is full.
    ContextFull,
    /// Nobody asked for more.
    Interrupted,
}

/// What a turn came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why it ended.
    pub finish: Finish,
    /// Its messages, to be put behind the conversation; none of a raw prompt.
    pub messages: Vec<Message>,
    /// The new tokens, the one that ended it included.
    pub tokens: Vec<u32>,
    /// How many of them were thinking.
    pub reasoning_tokens: usize,
    /// The prompt: cached and computed tokens.
    pub prefill: Prefill,
    /// Reading the prompt.
    pub prefill_time: Duration,
    /// Everything after.
    pub decode_time: Duration,
}

/// An iterator of events that runs the model as far as the next event needs.
///
/// It can be left at any token: [`Generation::finish`] ends the turn there. The text of a raw prompt
/// comes as pieces of an answer.
pub struct Generation<'g> {
    generator: &'g mut Generator,
    request: Request<'g>,
    /// None once the turn is over.
    decoder: Option<Decoder>,
    ends: Vec<u32>,
    /// Of a raw prompt.
    text: StreamDecoder,
    stop: StopStrings,
    events: VecDeque<Event>,
    /// Reads a turn from its beginning, should the model end one that owes an answer.
    fresh_parser: Option<Parser<'g>>,
    has_answered: bool,
    /// Thrown away whenever a token was looked at; kept for its memory.
    scratch: Vec<Event>,
    outcome: Outcome,
    start: Instant,
    stop_when: &'g dyn Fn() -> bool,
}

impl<'g> Generation<'g> {
    pub(super) fn new(
        generator: &'g mut Generator,
        mut request: Request<'g>,
        logits: Logits,
        prefill: Prefill,
        prefill_time: Duration,
    ) -> Self {
        let pace = request
            .speculate
            .then(|| std::mem::take(&mut generator.pace));
        let mut generation = Self {
            decoder: Some(Decoder::new(&generator.context, logits, pace)),
            ends: generator.ends(),
            text: StreamDecoder::default(),
            stop: StopStrings::new(std::mem::take(&mut request.stop)),
            events: VecDeque::new(),
            fresh_parser: request.parser.clone(),
            has_answered: false,
            scratch: Vec::new(),
            outcome: Outcome {
                finish: Finish::Interrupted,
                messages: Vec::new(),
                tokens: Vec::new(),
                reasoning_tokens: 0,
                prefill,
                prefill_time,
                decode_time: Duration::ZERO,
            },
            start: Instant::now(),
            stop_when: &|| false,
            generator,
            request,
        };
        generation.begin();
        generation
    }

    /// What holds before the first token.
    fn begin(&mut self) {
        let owes_answer = self.owes_answer();
        let Some(decoder) = &mut self.decoder else {
            return;
        };
        match &self.request.parser {
            None => {
                if let (Some(answer), Some(&end)) = (&self.request.answer, self.ends.first()) {
                    decoder.constrain(answer.clone(), end);
                }
            }
            Some(_) => {
                if owes_answer {
                    // A turn that owes an answer of some form cannot end before it.
                    decoder.forbid(self.ends.clone());
                }
                // The prompt may have opened the answer, or a call, already.
                if let Some(Position::Call(tool)) =
                    self.request.parser.as_ref().map(Parser::position)
                {
                    let tool = tool.to_owned();
                    self.events.push_back(Event::CallStart { tool });
                }
                self.arm(true);
                self.force_channel();
            }
        }
    }

    /// Asks before every token whether the turn should end there. The tokens of headers and of unfinished characters give no
    /// event, so whoever asks between events only may wait for long.
    pub fn stop_when(mut self, asked: &'g dyn Fn() -> bool) -> Self {
        self.stop_when = asked;
        self
    }

    /// Ends the turn, wherever it is, and says what it came to.
    pub fn finish(mut self) -> Result<Outcome, Error> {
        self.end(Finish::Interrupted)?;
        Ok(self.outcome.clone())
    }

    /// Ends the turn once; later calls change nothing.
    fn end(&mut self, finish: Finish) -> Result<(), Error> {
        let Some(decoder) = self.decoder.take() else {
            return Ok(());
        };
        self.outcome.finish = finish;
        self.outcome.decode_time = self.start.elapsed();
        self.end_text(finish);
        if let Some(parser) = &self.request.parser {
            self.outcome.messages.extend_from_slice(parser.messages());
            if self.request.answer.is_some() {
                harmony::keep_last_answer(&mut self.outcome.messages);
            }
        }
        if let Some(pace) = decoder.finish(&mut self.generator.context)? {
            self.generator.pace = pace;
        }
        Ok(())
    }

    /// Gives out what was held back, and the end of the turn.
    fn end_text(&mut self, finish: Finish) {
        let reason = match finish {
            Finish::Stop => Reason::Stop,
            Finish::ToolCalls => Reason::ToolCalls,
            Finish::Length | Finish::ContextFull | Finish::Interrupted => Reason::Length,
        };
        let mut last = Vec::new();
        if let Some(parser) = &mut self.request.parser {
            parser.finish(reason, &mut last);
        } else {
            let mut text = String::new();
            self.text.finish(&mut text);
            last.extend([
                Event::Final(text),
                Event::MessageEnd,
                Event::TurnEnd(reason),
            ]);
        }
        for event in last {
            self.give(event);
        }
    }

    /// Why the turn must end before the next token.
    fn exhausted(&self) -> Option<Finish> {
        if (self.stop_when)() {
            return Some(Finish::Interrupted);
        }
        let made = self.outcome.tokens.len();
        if self.request.max_tokens.is_some_and(|most| made >= most) {
            return Some(Finish::Length);
        }
        let used = self.request.prompt.len() + made;
        (used >= self.generator.context.limit()).then_some(Finish::ContextFull)
    }

    /// Chooses one token and gives out what it means.
    fn step(&mut self) -> Result<(), Error> {
        if let Some(finish) = self.exhausted() {
            return self.end(finish);
        }
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        let token = decoder.next(&mut self.generator.context, self.request.sampler)?;
        self.outcome.tokens.push(token);
        match self.request.parser {
            Some(_) => self.read_harmony(token)?,
            None => self.read_raw(token)?,
        }
        if self.stop.found() {
            self.end(Finish::Stop)?;
        }
        Ok(())
    }

    fn read_raw(&mut self, token: u32) -> Result<(), Error> {
        if self.ends.contains(&token) {
            return self.end(Finish::Stop);
        }
        let mut text = String::new();
        let bytes = self.generator.tokenizer.token_bytes(token);
        self.text.push(bytes, &mut text);
        self.give(Event::Final(text));
        Ok(())
    }

    /// Hands an event on; the answer's text passes the stop strings.
    fn give(&mut self, event: Event) {
        match event {
            Event::Final(text) => {
                let shown = self.stop.push(&text);
                if !shown.is_empty() {
                    self.events.push_back(Event::Final(shown));
                }
            }
            Event::MessageEnd => {
                let held = self.stop.finish();
                if !held.is_empty() {
                    self.events.push_back(Event::Final(held));
                }
                self.events.push_back(Event::MessageEnd);
            }
            other => self.events.push_back(other),
        }
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.events.is_empty() && self.decoder.is_some() {
            if let Err(error) = self.step() {
                // The error counts; that the cache could not be tidied up after it does not.
                let _ = self.end(Finish::Interrupted);
                return Some(Err(error));
            }
        }
        self.events.pop_front().map(Ok)
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // Dropping cannot report; the next prefill finds a cache that is consistent all the same.
        let _ = self.end(Finish::Interrupted);
    }
}
