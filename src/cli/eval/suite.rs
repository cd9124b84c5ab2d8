//! The questions of a suite, and when an answer is right.

use anyhow::anyhow;
use fourfold::harmony::Answer;
use serde::Deserialize;
use serde_json::Value;

/// One line of a suite.
#[derive(Debug, Deserialize)]
pub struct Question {
    #[serde(default = "unnamed")]
    pub group: String,
    pub prompt: Option<String>,
    pub request: Option<Value>,
    pub expected: Expected,
}

fn unnamed() -> String {
    "all".to_owned()
}

/// Which answer is right.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`expected` is a text, or an object of one field: text, regex, json or call"
)]
pub enum Expected {
    Plain(String),
    Marked(Marked),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Marked {
    Text(String),
    Regex(String),
    Json(Value),
    Call { name: String, arguments: Value },
}

impl Expected {
    /// Whether this answer is.
    pub fn is_met(&self, answer: &Answer) -> anyhow::Result<bool> {
        let content = answer.content.trim();
        Ok(match self {
            Expected::Plain(text) | Expected::Marked(Marked::Text(text)) => content == text.trim(),
            Expected::Marked(Marked::Regex(pattern)) => {
                let regex = regex::Regex::new(pattern).map_err(|error| {
                    let reason = error.to_string();
                    let reason = reason.lines().last().unwrap_or_default().to_owned();
                    anyhow!("the regex {pattern:?} is none ({reason})")
                })?;
                regex.is_match(content)
            }
            Expected::Marked(Marked::Json(value)) => {
                serde_json::from_str::<Value>(content).is_ok_and(|found| found == *value)
            }
            Expected::Marked(Marked::Call { name, arguments }) => match &answer.calls[..] {
                [call] => {
                    let found = serde_json::from_str::<Value>(&call.arguments);
                    call.tool == *name && found.is_ok_and(|found| found == *arguments)
                }
                _ => false,
            },
        })
    }
}

/// A line of a suite of this name. What is wrong with it is said with its place in the file: serde_json knows of this line only.
pub fn read(line: &str, name: &str, number: usize) -> anyhow::Result<Question> {
    serde_json::from_str(line).map_err(|error| {
        let column = error.column();
        let place = format!(" at line {} column {column}", error.line());
        let message = error.to_string();
        let message = message.strip_suffix(&place).unwrap_or(&message);
        anyhow!("{name}, line {number}, column {column}: {message}")
    })
}

/// The questions to ask, spread evenly: the number of the line and the line.
pub fn chosen(text: &str, part: f64) -> Vec<(usize, &str)> {
    let mut due = 0.0;
    let mut is_due = || {
        due += part;
        // A tenth, ten times, is a little less than 1.
        let is_due = due >= 1.0 - 1e-9;
        due -= f64::from(u8::from(is_due));
        is_due
    };
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| !line.trim().is_empty() && is_due())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_of_the_questions_whatever_stands_between_them() {
        let text = "a\n\nb\n \nc\n\nd\n";
        assert_eq!(chosen(text, 0.5), [(3, "b"), (7, "d")]);
        assert_eq!(chosen(text, 1.0).len(), 4);
        assert_eq!(chosen(&"x\n".repeat(1000), 0.1).len(), 100);
        assert!(chosen(text, 0.2).is_empty() && chosen("\n", 1.0).is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_in_the_file() {
        let message = |line| read(line, "\"x.jsonl\"", 2).unwrap_err().to_string();
        assert_eq!(
            message(r#"{"prompt":"Who are you?"}"#),
            "\"x.jsonl\", line 2, column 25: missing field `expected`"
        );
        assert!(message("{").starts_with("\"x.jsonl\", line 2, column 1: EOF"));
    }
}
