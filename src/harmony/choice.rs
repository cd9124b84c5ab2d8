//! What a chat request says about calling: `tool_choice` and `parallel_tool_calls`.

use super::chat::{Error, mismatch};
use super::{Opening, Tool};
use serde_json::{Map, Value};

/// How the turn begins. "none" takes the tools away: what the model does not know it does not call.
pub(super) fn opening(
    options: &Map<String, Value>,
    tools: &mut Vec<Tool>,
) -> Result<Opening, Error> {
    let at = "parallel_tool_calls";
    match options.get(at) {
        // The model makes one call and waits for its result, so neither asks for anything else.
        None | Some(Value::Null | Value::Bool(_)) => {}
        other => return Err(mismatch(at, other, "true or false")),
    }
    let at = "tool_choice";
    let choice = options.get(at);
    let name = match choice {
        None | Some(Value::Null) => return Ok(Opening::Free),
        Some(Value::String(word)) => match (word.as_str(), tools.as_slice()) {
            ("auto", _) => return Ok(Opening::Free),
            ("none", _) => {
                tools.clear();
                return Ok(Opening::Free);
            }
            ("required", [tool]) => return Ok(Opening::Call(tool.name.clone())),
            ("required", _) => {
                let expected =
                    "exactly one tool to require, or a tool_choice that names one of several";
                return Err(mismatch(at, choice, expected));
            }
            _ => "",
        },
        Some(choice) => {
            let name = choice.pointer("/function/name").or(choice.get("name"));
            name.and_then(Value::as_str).unwrap_or_default()
        }
    };
    if tools.iter().any(|tool| tool.name == name) {
        return Ok(Opening::Call(name.to_owned()));
    }
    let expected = "\"auto\", \"none\", \"required\" or {\"type\":\"function\",\"function\":{\"name\":..}} with the name of one of the tools";
    Err(mismatch(at, choice, expected))
}
