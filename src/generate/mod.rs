//! Prompt to events: the one seam that the command line, the REPL and a server share.
//!
//! A [`Generator`] owns a cache. [`Generator::generate`] reads a prompt, of which it computes only
//! what the cache does not hold yet, and gives a [`Generation`]: an iterator of [`Event`]s that runs
//! the model as it is advanced, and can be dropped at any time.

mod context;
mod decode;
mod generation;

pub use crate::harmony::Event;
pub use context::{Context, Prefill};
pub use generation::{Finish, Generation, Outcome};

use crate::harmony::{Mark, Parser};
use crate::model::{self, Logits, Model};
use crate::sample::{self, Constraint, ConstraintError, Grammars, Sampler, Vocabulary};
use crate::speculate::{Pace, Statistics};
use crate::tokenizer::{LoadError, Tokenizer};
use fourfold_quantize::gguf::keys::STOP_TOKEN_IDS;
use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Why nothing, or nothing more, was generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to continue.
    #[error("the prompt is empty: there is nothing to continue")]
    EmptyPrompt,
    /// The prompt alone is longer than the context.
    #[error(
        "the prompt has {tokens} tokens, but the context holds {limit}: shorten it by {} tokens{}",
        tokens - limit,
        if limit < model { " or raise --ctx" } else { ", because the model was made for no more" }
    )]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that fit.
        limit: usize,
        /// Tokens that the model was made for.
        model: usize,
    },
    /// The caller asked to stop while the prompt was read.
    #[error("interrupted while reading the prompt")]
    Interrupted,
    /// The model could not be opened or run.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The vocabulary could not be read.
    #[error(transparent)]
    Tokenizer(#[from] LoadError),
    /// No token could be chosen.
    #[error(transparent)]
    Sample(#[from] sample::Error),
    /// A schema or grammar could not be honoured.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// What to generate, and how.
pub struct Request<'r> {
    /// All tokens before the first new one.
    pub prompt: Cow<'r, [u32]>,
    /// Chooses the tokens; its random state goes on from one request to the next.
    pub sampler: &'r mut Sampler,
    /// At most this many new tokens.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Reads the turn; without it the prompt is raw, and everything is answer.
    pub parser: Option<Parser<'r>>,
    /// What the answer must match. The thinking before it stays free.
    pub answer: Option<Constraint>,
    /// What the arguments of tools must match, by the tool's name.
    pub tools: Vec<(String, Constraint)>,
    /// Look for passages to copy, if it pays.
    pub speculate: bool,
}

impl<'r> Request<'r> {
    /// Plain text to be continued, with nothing else asked for.
    pub fn raw(prompt: Vec<u32>, sampler: &'r mut Sampler) -> Self {
        Self {
            prompt: prompt.into(),
            sampler,
            max_tokens: None,
            stop: Vec::new(),
            parser: None,
            answer: None,
            tools: Vec::new(),
            speculate: true,
        }
    }

    /// The id of one of the format's tokens. Only asked where there is a parser, which has them all.
    fn mark(&self, mark: Mark) -> u32 {
        let parser = self.parser.as_ref();
        parser.map_or(u32::MAX, |parser| parser.markup().id(mark))
    }
}

/// A model, its vocabulary and one cache.
pub struct Generator {
    tokenizer: Arc<Tokenizer>,
    grammars: Arc<OnceLock<Grammars>>,
    context: Context,
    pace: Pace,
}

impl Generator {
    /// Opens a model file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(Arc::new(Model::open(path)?))
    }

    /// Generates with a model that is open already.
    pub fn new(model: Arc<Model>) -> Result<Self, Error> {
        Ok(Self {
            tokenizer: Arc::new(Tokenizer::from_gguf(model.file())?),
            grammars: Arc::default(),
            context: Context::new(model),
            pace: Pace::default(),
        })
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The cache.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The cache, to be changed.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// What speculation brought so far.
    pub fn speculation(&self) -> Statistics {
        self.pace.statistics
    }

    /// Compiles grammars for this vocabulary; the first call takes half a second.
    pub fn grammars(&self) -> Result<&Grammars, ConstraintError> {
        if let Some(grammars) = self.grammars.get() {
            return Ok(grammars);
        }
        let grammars = Grammars::new(self.vocabulary())?;
        Ok(self.grammars.get_or_init(|| grammars))
    }

    fn vocabulary(&self) -> Vocabulary {
        let tokenizer = &self.tokenizer;
        let ids = 0..tokenizer.vocabulary_len() as u32;
        let word = |id| match tokenizer.is_special(id) {
            true => Vec::new(),
            false => tokenizer.token_bytes(id).to_vec(),
        };
        let encoder = Arc::clone(tokenizer);
        Vocabulary {
            words: ids.map(word).collect(),
            ends: self.ends(),
            encode: Box::new(move |text| encoder.encode(text)),
        }
    }

    /// Tokens that end an answer: harmony's, and what the file names. The end of a message is not the end of a turn, whatever a file says.
    fn ends(&self) -> Vec<u32> {
        let tokenizer = &self.tokenizer;
        let names = ["<|return|>", "<|call|>", "<|endoftext|>"];
        let stop = (self.context.model().metadata())
            .i32s(STOP_TOKEN_IDS)
            .unwrap_or_default();
        let known = 0..tokenizer.vocabulary_len();
        let stop = (stop.iter())
            .filter_map(|&id| u32::try_from(id).ok())
            .filter(|&id| known.contains(&(id as usize)));
        let message_end = tokenizer.special("<|end|>");
        let mut ends = Vec::new();
        for end in (names.iter().filter_map(|name| tokenizer.special(name)))
            .chain(tokenizer.named("eos"))
            .chain(stop)
        {
            if Some(end) != message_end && !ends.contains(&end) {
                ends.push(end);
            }
        }
        ends
    }

    /// Reads the prompt. `go_on` is asked after every chunk, with the tokens read so far.
    pub fn generate<'g>(
        &'g mut self,
        request: Request<'g>,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Generation<'g>, Error> {
        let start = Instant::now();
        let mut logits = Logits::default();
        let prefill = self.context.prefill(&request.prompt, &mut logits, go_on)?;
        self.context.mark(&logits);
        request.sampler.set_history(&request.prompt);
        Ok(Generation::new(
            self,
            request,
            logits,
            prefill,
            start.elapsed(),
        ))
    }

    /// Reads the beginning of a prompt that is expected to come, while nobody waits.
    pub fn prepare(
        &mut self,
        prompt: &[u32],
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Prefill, Error> {
        let mut logits = Logits::default();
        let prefill = self.context.prefill(prompt, &mut logits, go_on)?;
        self.context.mark(&logits);
        Ok(prefill)
    }
}
