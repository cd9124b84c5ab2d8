//! Output that must match a JSON schema, a regular expression or a Lark grammar.
//!
//! A [`Constraint`] follows one piece of text from its first token to its end: the body of the
//! final answer, or the arguments of a tool call. The thinking before it is never constrained;
//! `generate` puts the constraint to work when the harmony parser enters such a body. Grammars run
//! on llguidance, which needs about 10 microseconds per token, and half a second once per
//! vocabulary for its tables: [`Grammars`] is made when the first schema is asked for.

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::Arc;

/// Why a constraint cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum ConstraintError {
    /// The grammar was refused before anything was generated.
    #[error("the {kind} cannot be used: {reason}")]
    Refused {
        /// "JSON schema", "regular expression" or "Lark grammar".
        kind: &'static str,
        /// What the compiler found.
        reason: String,
    },
    /// What a function's arguments must match was refused.
    #[error("the arguments of {function}: {error}")]
    Arguments {
        /// Its name.
        function: String,
        /// Why.
        error: Box<ConstraintError>,
    },
    /// The vocabulary cannot carry any grammar.
    #[error("this model's vocabulary cannot be constrained: {0}")]
    Vocabulary(String),
    /// The grammar grew beyond its limits, or met a token that it had not allowed.
    #[error("the constraint failed while generating: {0}")]
    Failed(String),
}

/// Turns ordinary text into tokens.
pub type Encode = Box<dyn Fn(&str) -> Vec<u32> + Send + Sync>;

/// What constraints need to know about a vocabulary.
pub struct Vocabulary {
    /// The bytes of every token by id; empty for tokens that no text is made of.
    pub words: Vec<Vec<u8>>,
    /// Tokens that may end a constrained text.
    pub ends: Vec<u32>,
    /// The model's own tokenization of ordinary text.
    pub encode: Encode,
}

/// Compiles constraints for one vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    ends: Vec<u32>,
}

struct Environment {
    trie: TokTrie,
    encode: Encode,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie
            .tokenize_with_greedy_fallback(bytes, |text| (self.encode)(text))
    }
}

impl Grammars {
    /// Prepares a vocabulary, in about half a second for 200,000 tokens.
    pub fn new(vocabulary: Vocabulary) -> Result<Self, ConstraintError> {
        let Vocabulary {
            mut words,
            ends,
            encode,
        } = vocabulary;
        let Some(&end) = ends.first() else {
            return Err(ConstraintError::Vocabulary(
                "it names no token that ends a text".into(),
            ));
        };
        for &end in &ends {
            let Some(word) = words.get_mut(end as usize) else {
                return Err(ConstraintError::Vocabulary(format!(
                    "the end token {end} lies outside its {} tokens",
                    words.len()
                )));
            };
            // 0xFF never occurs in UTF-8: llguidance's mark of a token that is no text.
            *word = format!("\u{0}<|end-{end}|>").into_bytes();
            word[0] = 0xFF;
        }
        let info = TokRxInfo::new(words.len() as u32, end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(Environment { trie, encode });
        let mut factory = ParserFactory::new(
            &environment,
            InferenceCapabilities {
                ff_tokens: true,
                ..InferenceCapabilities::default()
            },
            &SlicedBiasComputer::general_slices(),
        )
        .map_err(|error| ConstraintError::Vocabulary(error.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, ends })
    }

    /// Text that is one JSON value of this schema, without spaces between its parts: spaces would
    /// be free choices that cost time, and a small model can run away in them. A schema that wants
    /// them says so itself in llguidance's `x-guidance`.
    pub fn json_schema(&self, schema: &Value) -> Result<Constraint, ConstraintError> {
        let kind = "JSON schema";
        check_rules(kind, references(schema))?;
        let mut schema = schema.clone();
        match &mut schema {
            Value::Object(fields) => {
                fields
                    .entry("x-guidance")
                    .or_insert_with(|| json!({"whitespace_flexible": false}));
            }
            Value::Bool(_) => {}
            other => {
                let what = match other {
                    Value::Array(_) => "an array".to_owned(),
                    Value::String(_) => "a string".to_owned(),
                    short => short.to_string(),
                };
                return Err(ConstraintError::Refused {
                    kind,
                    reason: format!("a schema is an object, this is {what}"),
                });
            }
        }
        self.compile(kind, TopLevelGrammar::from_json_schema(schema))
    }

    /// Text that matches this regular expression from start to end.
    pub fn regex(&self, expression: &str) -> Result<Constraint, ConstraintError> {
        self.compile(
            "regular expression",
            TopLevelGrammar::from_regex(expression),
        )
    }

    /// Text that this Lark grammar derives from its rule `start`.
    pub fn lark(&self, grammar: &str) -> Result<Constraint, ConstraintError> {
        let kind = "Lark grammar";
        check_rules(kind, grammar.lines().count())?;
        self.compile(kind, TopLevelGrammar::from_lark(grammar.to_string()))
    }

    fn compile(
        &self,
        kind: &'static str,
        grammar: TopLevelGrammar,
    ) -> Result<Constraint, ConstraintError> {
        let refused = |reason: String| ConstraintError::Refused {
            kind,
            reason: one_sentence(&reason),
        };
        let compiled = on_large_stack(|| {
            let parser = self.factory.create_parser(grammar);
            let mut matcher = Matcher::new(Ok(parser.map_err(|error| error.to_string())?));
            // A grammar that allows no first token is found here, before the prompt is read.
            let mask = matcher.compute_mask().map_err(|error| error.to_string())?;
            Ok((matcher, mask))
        });
        let (matcher, mask) = compiled.map_err(refused)?;
        if mask.is_zero() {
            return Err(refused("no text can match it".into()));
        }
        Ok(Constraint {
            matcher,
            ends: self.ends.clone(),
        })
    }
}

/// llguidance calls itself for every rule that leads to another: a thousand overflow a usual stack, which ends the program. Chains
/// of 19,000 rules or references fit here; what is not used takes no memory.
const STACK: usize = 1 << 28;

/// How many rules, or references in a schema, a grammar may have.
const MOST_RULES: usize = 20_000;

fn on_large_stack<T: Send>(
    compute: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, compute);
        match thread.map_err(|error| error.to_string())?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn check_rules(kind: &'static str, count: usize) -> Result<(), ConstraintError> {
    if count <= MOST_RULES {
        return Ok(());
    }
    let reason = format!("it has {count} rules or references, more than {MOST_RULES}");
    Err(ConstraintError::Refused { kind, reason })
}

fn references(schema: &Value) -> usize {
    match schema {
        Value::Array(items) => items.iter().map(references).sum(),
        Value::Object(fields) => {
            let own = usize::from(fields.contains_key("$ref"));
            own + fields.values().map(references).sum::<usize>()
        }
        _ => 0,
    }
}

/// llguidance reports on several lines; people get the first, which says what is wrong, and where it ends in a colon the one that says why.
fn one_sentence(report: &str) -> String {
    // What speaks of its own insides.
    const MEANINGS: [(&str, &str); 2] = [
        (
            "NoExtensionBias",
            "no text can match it, or none that ever ends",
        ),
        (
            "coerce_one_of",
            "`oneOf` is not supported where its cases may overlap: write `anyOf`",
        ),
    ];
    if let Some((_, meaning)) = MEANINGS.iter().find(|(word, _)| report.contains(word)) {
        return (*meaning).to_string();
    }
    let mut lines = report
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("unknown reason");
    match lines.find_map(|line| line.strip_prefix("error: ")) {
        Some(reason) if first.ends_with(':') => format!("{first} {reason}"),
        _ => first.to_string(),
    }
}

/// One text in the making. Clone an unused one for each further text.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    ends: Vec<u32>,
}

impl Constraint {
    /// Forbids, by minus infinity, every token that cannot come next. Of the tokens that end a
    /// text only `end` is left, and only where the text may end.
    pub fn mask(&mut self, logits: &mut [f32], end: u32) -> Result<(), ConstraintError> {
        let mask = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| ConstraintError::Failed(one_sentence(&error.to_string())))?;
        for (token, logit) in logits.iter_mut().enumerate() {
            let allowed = token < mask.len() && mask.is_allowed(token as u32);
            *logit = if allowed { *logit } else { f32::NEG_INFINITY };
        }
        for &other in self.ends.iter().filter(|&&other| other != end) {
            if let Some(logit) = logits.get_mut(other as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Takes the token that was chosen.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if self.ends.contains(&token) {
            return Ok(());
        }
        self.matcher
            .consume_token(token)
            .map_err(|error| ConstraintError::Failed(one_sentence(&error.to_string())))
    }

    /// The tokens that must come next whatever the model thinks, already accepted. Feeding them as
    /// one batch costs less than sampling them one by one.
    pub fn forced(&mut self) -> Vec<u32> {
        self.matcher.consume_ff_tokens()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: u32 = 260;
    const CALL: u32 = 261;

    /// Bytes, three longer words, two ends and an unused id.
    fn grammars() -> Grammars {
        let mut words: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        words.extend([
            b"\"name".to_vec(),
            b"true".to_vec(),
            b"\":".to_vec(),
            vec![],
        ]);
        words.extend([vec![], vec![], vec![]]);
        Grammars::new(Vocabulary {
            words,
            ends: vec![RETURN, CALL],
            encode: Box::new(|text| {
                let mut ids = Vec::new();
                let mut rest = text;
                while !rest.is_empty() {
                    let known = [("\"name", 256), ("true", 257), ("\":", 258)];
                    let found = known.iter().find(|(word, _)| rest.starts_with(word));
                    let (length, id) = found
                        .map_or((1, u32::from(rest.as_bytes()[0])), |(word, id)| {
                            (word.len(), *id)
                        });
                    ids.push(id);
                    rest = &rest[length..];
                }
                ids
            }),
        })
        .unwrap()
    }

    fn allowed(constraint: &mut Constraint, end: u32) -> Vec<u32> {
        let mut logits = vec![0.0; 263];
        constraint.mask(&mut logits, end).unwrap();
        (0..263).filter(|&id| logits[id as usize] == 0.0).collect()
    }

    /// Follows the likeliest path of a "model" that wants to write `text`, byte by byte.
    fn write(mut constraint: Constraint, text: &str) -> String {
        let mut written = String::new();
        loop {
            for token in constraint.forced() {
                let words = ["\"name", "true", "\":"];
                match token {
                    0..256 => written.push(token as u8 as char),
                    _ => written.push_str(words[token as usize - 256]),
                }
            }
            let choices = allowed(&mut constraint, RETURN);
            let wanted = text
                .as_bytes()
                .get(written.len())
                .map_or(RETURN, |&b| b.into());
            let token = if choices.contains(&wanted) {
                wanted
            } else {
                choices[0]
            };
            if token == RETURN {
                return written;
            }
            constraint.accept(token).unwrap();
            written.push(token as u8 as char);
            assert!(written.len() < 500, "{written}");
        }
    }

    #[test]
    fn json_follows_the_schema() {
        let schema = json!({
            "type": "object",
            "properties": {"name": {"enum": ["a", "bc"]}, "sure": {"type": "boolean"}},
            "required": ["name", "sure"],
            "additionalProperties": false
        });
        let constraint = grammars().json_schema(&schema).unwrap();
        let text = write(constraint.clone(), r#"{"name":"bc","sure":false}"#);
        assert_eq!(text, r#"{"name":"bc","sure":false}"#);
        // Whatever the model wants, the result is of the schema.
        for wish in ["", "hello", r#"{"name": 7}"#, r#"["name"]"#] {
            let value: Value = serde_json::from_str(&write(constraint.clone(), wish)).unwrap();
            assert!(
                ["a", "bc"].contains(&value["name"].as_str().unwrap()),
                "{value}"
            );
            assert!(value["sure"].is_boolean(), "{value}");
        }
    }

    #[test]
    fn forced_tokens_are_the_models_own_tokenization() {
        let schema = json!({
            "type": "object",
            "properties": {"name": {"const": true}},
            "required": ["name"],
            "additionalProperties": false
        });
        let mut constraint = grammars().json_schema(&schema).unwrap();
        let forced = constraint.forced();
        assert_eq!(forced, [b'{'.into(), 256, 258, 257, b'}'.into()]);
        assert_eq!(allowed(&mut constraint, CALL), [CALL]);
    }

    #[test]
    fn only_the_asked_end_ends_and_only_when_complete() {
        let mut constraint = grammars().regex("ab*").unwrap();
        assert_eq!(allowed(&mut constraint, RETURN), [97]);
        constraint.accept(97).unwrap();
        assert_eq!(allowed(&mut constraint, RETURN), [98, RETURN]);
        assert_eq!(allowed(&mut constraint, CALL), [98, CALL]);
    }

    #[test]
    fn chains_of_rules_do_not_overflow_the_stack() {
        let chain = |length: usize| {
            let rules = (0..length).map(|rule| format!("r{rule}: \"a\" r{}\n", rule + 1));
            let rules: String = rules.collect();
            format!("start: r0\n{rules}r{length}: \"b\"\n")
        };
        grammars().lark(&chain(3000)).unwrap();
        let refused = grammars().lark(&chain(MOST_RULES)).map(drop);
        assert!(refused.unwrap_err().to_string().contains("more than 20000"));
        let mut schema = json!({"type": "integer"});
        for _ in 0..100 {
            schema = json!({"anyOf": vec![json!({"$ref": "#/$defs/a"}); 201], "not": schema});
        }
        let refused = grammars().json_schema(&schema).map(drop);
        assert!(refused.unwrap_err().to_string().contains("20100 rules"));
    }

    #[test]
    fn lark_grammars_work() {
        let grammar = "start: greeting \"!\"\ngreeting: \"hi\" | \"hello\"\n";
        let constraint = grammars().lark(grammar).unwrap();
        assert_eq!(write(constraint, "hello?"), "hello!");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_before_generating() {
        let grammars = grammars();
        let refusals = [
            grammars.json_schema(&json!({"type": "strange"})).err(),
            grammars
                .json_schema(&json!({"$ref": "https://example.org/x"}))
                .err(),
            grammars
                .json_schema(&json!({"type": "object", "not": {"required": ["a"]}}))
                .err(),
            grammars.json_schema(&json!("object")).err(),
            grammars.json_schema(&json!(false)).err(),
            grammars.regex("a(b").err(),
            grammars.lark("start: missing_rule").err(),
            grammars.lark("not a grammar").err(),
        ];
        for (index, refusal) in refusals.into_iter().enumerate() {
            let message = refusal
                .unwrap_or_else(|| panic!("case {index} was accepted"))
                .to_string();
            assert!(
                message.contains("cannot be used") && !message.contains('\n'),
                "{message}"
            );
        }
    }

    #[test]
    fn a_token_that_was_not_allowed_is_an_error() {
        let mut constraint = grammars().regex("ab").unwrap();
        assert!(constraint.accept(120).is_err());
    }

    #[test]
    fn vocabularies_without_an_end_are_refused() {
        let vocabulary = |ends| Vocabulary {
            words: vec![vec![b'a']],
            ends,
            encode: Box::new(|_| Vec::new()),
        };
        assert!(Grammars::new(vocabulary(vec![])).is_err());
        assert!(Grammars::new(vocabulary(vec![5])).is_err());
    }
}
