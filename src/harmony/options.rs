//! What a chat request wants beside its messages: functions, a form of the answer, and how much thought.

use super::chat::{Error, mismatch, optional, required};
use super::{Effort, ResponseFormat, Tool};
use serde_json::{Map, Value};

/// The functions that the model may call.
pub(super) fn tools(value: Option<&Value>) -> Result<Vec<Tool>, Error> {
    let values = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        other => return Err(mismatch("tools", other, "an array of functions")),
    };
    let mut tools: Vec<Tool> = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let tool = tool(&format!("tools[{index}]"), value)?;
        if tools.iter().any(|other| other.name == tool.name) {
            let at = format!("tools[{index}]");
            let name = tool.name;
            return Err(Error::DuplicateTool { at, name });
        }
        tools.push(tool);
    }
    Ok(tools)
}

/// One tool: `{"type":"function","function":{...}}`, or the same without the inner object.
fn tool(at: &str, value: &Value) -> Result<Tool, Error> {
    let Value::Object(outer) = value else {
        return Err(mismatch(at, Some(value), "an object"));
    };
    if let Some(kind) = outer.get("type")
        && kind != "function"
    {
        return Err(mismatch(&format!("{at}.type"), Some(kind), "\"function\""));
    }
    let (function, at) = match outer.get("function") {
        Some(Value::Object(function)) => (function, format!("{at}.function")),
        _ => (outer, at.to_owned()),
    };
    let parameters = match function.get("parameters") {
        None | Some(Value::Null) => None,
        Some(schema @ Value::Object(_)) => Some(schema.clone()),
        other => {
            return Err(mismatch(
                &format!("{at}.parameters"),
                other,
                "a JSON schema object",
            ));
        }
    };
    Ok(Tool {
        name: required(function, &at, "name", "the function's name")?.to_owned(),
        description: optional(function, &at, "description")?
            .unwrap_or_default()
            .to_owned(),
        parameters,
    })
}

/// What the answer must look like, if not free text.
pub(super) fn response_format(value: Option<&Value>) -> Result<Option<ResponseFormat>, Error> {
    let at = "response_format";
    let format = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(format)) => format,
        other => return Err(mismatch(at, other, "an object")),
    };
    match required(
        format,
        at,
        "type",
        "\"text\", \"json_object\" or \"json_schema\"",
    )? {
        "text" => Ok(None),
        "json_object" => Ok(Some(ResponseFormat {
            name: "json_object".to_owned(),
            description: None,
            schema: serde_json::json!({ "type": "object" }),
        })),
        "json_schema" => {
            let at = "response_format.json_schema";
            let Some(Value::Object(inner)) = format.get("json_schema") else {
                return Err(mismatch(at, format.get("json_schema"), "an object"));
            };
            let schema = match inner.get("schema") {
                Some(schema @ Value::Object(_)) => schema.clone(),
                other => {
                    return Err(mismatch(
                        &format!("{at}.schema"),
                        other,
                        "a JSON schema object",
                    ));
                }
            };
            Ok(Some(ResponseFormat {
                name: optional(inner, at, "name")?
                    .unwrap_or("response")
                    .to_owned(),
                description: optional(inner, at, "description")?.map(str::to_owned),
                schema,
            }))
        }
        _ => {
            let expected = "\"text\", \"json_object\" or \"json_schema\"";
            Err(mismatch(
                "response_format.type",
                format.get("type"),
                expected,
            ))
        }
    }
}

/// How much to think, if the request says.
pub(super) fn effort(options: &Map<String, Value>) -> Result<Option<Effort>, Error> {
    let inner = options.get("reasoning").and_then(|it| it.get("effort"));
    let value = options.get("reasoning_effort").or(inner);
    match value {
        None | Some(Value::Null) => Ok(None),
        // The model cannot be told not to think.
        Some(Value::String(name)) if ["none", "minimal", "low"].contains(&name.as_str()) => {
            Ok(Some(Effort::Low))
        }
        Some(Value::String(name)) if name == "medium" => Ok(Some(Effort::Medium)),
        Some(Value::String(name)) if name == "high" => Ok(Some(Effort::High)),
        other => {
            let expected = "\"low\", \"medium\" or \"high\"";
            Err(mismatch("reasoning_effort", other, expected))
        }
    }
}
