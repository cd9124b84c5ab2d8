//! Tools as TypeScript declarations, the form in which the model learnt to read them.
//!
//! Byte for byte what OpenAI's renderer writes wherever that says what the schema means, odd indentation included: the model
//! has seen it so. Where that loses meaning (`anyOf`, `$ref`, `const`, enums of numbers, comments of several lines) this
//! writes what TypeScript would.

use super::names::{FUNCTIONS, ToolNames, is_identifier};
use super::schema::{self, NAMED};
use super::{Namespace, Tool};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The section of a developer message that declares an application's functions.
pub fn functions(tools: &[Tool], names: &ToolNames) -> String {
    let tools = tools
        .iter()
        .map(|tool| (names.identifier(&tool.name), tool));
    namespace(FUNCTIONS, None, tools)
}

/// The section of a system message that declares a built-in tool.
pub fn built_in(tool: &Namespace) -> String {
    let tools = tool.tools.iter().map(|tool| (tool.name.clone(), tool));
    namespace(&tool.name, tool.description.as_deref(), tools)
}

fn namespace<'a>(
    name: &str,
    description: Option<&str>,
    tools: impl ExactSizeIterator<Item = (String, &'a Tool)>,
) -> String {
    let mut out = format!("## {name}\n\n");
    if tools.len() == 0 {
        // A tool that takes plain text has no declaration: its description is the section.
        return out + description.unwrap_or_default();
    }
    comment(description.unwrap_or_default(), "", &mut out);
    out += &format!("namespace {name} {{\n\n");
    for (identifier, tool) in tools {
        declaration(&identifier, tool, &mut out);
        out += "\n\n";
    }
    out + "} // namespace " + name
}

fn declaration(identifier: &str, tool: &Tool, out: &mut String) {
    comment(&tool.description, "", out);
    *out += &format!("type {identifier} = (");
    if let Some(parameters) = &tool.parameters {
        *out += "_: ";
        if write_type(&schema::plain(parameters), "", out) {
            out.push('\n');
        }
    }
    *out += ") => any;";
}

/// Writes each line of a text as a comment.
fn comment(text: &str, indent: &str, out: &mut String) {
    for line in text.lines() {
        *out += &format!("{indent}// {line}\n");
    }
}

/// Writes the type that a schema describes. Says whether the last line ends in a comment, so that nothing can follow on it.
fn write_type(schema: &Value, indent: &str, out: &mut String) -> bool {
    let Value::Object(map) = schema else {
        *out += "any";
        return false;
    };
    if let Some(variants) = lined_variants(map) {
        return write_variants(map, variants, None, indent, out);
    }
    let mut parts: Vec<String> = Vec::new();
    if let Some(Value::String(name)) = map.get(NAMED) {
        parts.push(match is_identifier(name) {
            true => format!("any /* {name} */"),
            false => "any".to_owned(),
        });
    } else if let Some(value) = map.get("const") {
        parts.push(value.to_string());
    } else if let Some(literals) = literals(map) {
        parts.extend(literals);
    } else if let Some(Value::Array(variants)) = map.get("anyOf") {
        let mut seen = HashSet::new();
        for variant in variants {
            let mut part = String::new();
            write_type(variant, indent, &mut part);
            if seen.insert(part.clone()) {
                parts.push(part);
            }
        }
    } else {
        parts = types(map)
            .iter()
            .map(|name| single_type(name, map, indent))
            .collect();
    }
    if parts.is_empty() {
        parts.push("any".to_owned());
    }
    if is_nullable(map) && !parts.iter().any(|part| part == "null") {
        parts.push("null".to_owned());
    }
    *out += &parts.join(" | ");
    false
}

fn is_nullable(map: &Map<String, Value>) -> bool {
    map.get("nullable") == Some(&Value::Bool(true))
}

/// Names of the types that a schema allows, as it spells them.
fn types(map: &Map<String, Value>) -> Vec<&str> {
    match map.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => {
            // Each once, or nested arrays of arrays would double at every level.
            let mut seen = HashSet::new();
            let names = names.iter().filter_map(Value::as_str);
            names.filter(|name| seen.insert(*name)).collect()
        }
        _ if map.contains_key("properties") => vec!["object"],
        _ if map.contains_key("items") => vec!["array"],
        _ => Vec::new(),
    }
}

/// The values of an enum; none if it has no values.
fn literals(map: &Map<String, Value>) -> Option<Vec<String>> {
    let Some(Value::Array(values)) = map.get("enum") else {
        return None;
    };
    (!values.is_empty()).then(|| values.iter().map(Value::to_string).collect())
}

fn single_type(name: &str, map: &Map<String, Value>, indent: &str) -> String {
    let alone = !matches!(map.get("type"), Some(Value::Array(_)));
    match name {
        "integer" | "number" => "number".to_owned(),
        "string" | "boolean" | "null" => name.to_owned(),
        "object" if alone || map.contains_key("properties") => object(map, indent),
        "array" => match map.get("items") {
            Some(items) => array(items, indent),
            None if alone => "Array<any>".to_owned(),
            None => "array".to_owned(),
        },
        "object" => "object".to_owned(),
        _ => "any".to_owned(),
    }
}

fn array(items: &Value, indent: &str) -> String {
    let mut out = String::new();
    if write_type(items, indent, &mut out) {
        out += &format!("\n{indent}");
    }
    // A union of types stays bare, as the model has seen it; a form that it has not seen is put in parentheses.
    let is_union = items.as_object().is_some_and(|map| {
        lined_variants(map).is_none() && (map.contains_key("anyOf") || is_nullable(map))
    });
    if is_union {
        format!("({out})[]")
    } else {
        out + "[]"
    }
}

fn object(map: &Map<String, Value>, indent: &str) -> String {
    let mut out = String::new();
    comment(description(map), indent, &mut out);
    out += "{\n";
    let required: Vec<&str> = match map.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if let Some(Value::Object(properties)) = map.get("properties") {
        let required: HashSet<&str> = required.into_iter().collect();
        for (name, property) in properties {
            let mark = if required.contains(name.as_str()) {
                ""
            } else {
                "?"
            };
            write_property(&format!("{}{mark}", key(name)), property, indent, &mut out);
        }
    }
    if let Some(values @ Value::Object(_)) = map.get("additionalProperties") {
        write_property("[key: string]", values, indent, &mut out);
    }
    out + indent + "}"
}

/// A property's name as TypeScript writes it: quoted unless it is an identifier.
fn key(name: &str) -> String {
    let is_word = |it: char| it == '_' || it == '$' || it.is_alphanumeric();
    let starts_well = name.starts_with(|it: char| is_word(it) && !it.is_numeric());
    if starts_well && name.chars().all(is_word) {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

fn description(map: &Map<String, Value>) -> &str {
    map.get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn write_property(name: &str, schema: &Value, indent: &str, out: &mut String) {
    let empty = Map::new();
    let map = schema.as_object().unwrap_or(&empty);
    if let Some(Value::String(title)) = map.get("title") {
        block_comment(title, indent, out);
        *out += &format!("{indent}//\n");
    }
    let lined = lined_variants(map);
    if lined.is_none() {
        write_description(map, indent, out);
    }
    if let Some(Value::Array(examples)) = map.get("examples")
        && !examples.is_empty()
    {
        *out += &format!("{indent}// Examples:\n");
        for example in examples {
            *out += &format!("{indent}// - {example}\n");
        }
    }
    let default = map.get("default").map(|value| default(value, map));
    if let Some(variants) = lined {
        write_description(map, indent, out);
        if let Some(default) = default {
            *out += &format!("{indent}// {default}\n");
        }
        *out += &format!("{indent}{name}:");
        let text = map.get("description").and_then(Value::as_str);
        write_variants(map, variants, text, indent, out);
        *out += &format!("\n{indent},\n");
        return;
    }
    *out += &format!("{indent}{name}: ");
    if write_type(schema, &format!("{indent}    "), out) {
        *out += &format!("\n{indent}");
    }
    out.push(',');
    if let Some(default) = default {
        *out += &format!(" // {default}");
    }
    out.push('\n');
}

fn write_description(map: &Map<String, Value>, indent: &str, out: &mut String) {
    if let Some(Value::String(text)) = map.get("description") {
        block_comment(text, indent, out);
    }
}

/// As [`comment`], but an empty text gives an empty comment.
fn block_comment(text: &str, indent: &str, out: &mut String) {
    if text.is_empty() {
        *out += &format!("{indent}// \n");
    }
    comment(text, indent, out);
}

/// What a comment says of a default: one of an enum's names stands bare.
fn default(value: &Value, map: &Map<String, Value>) -> String {
    match value {
        Value::String(text) if map.contains_key("enum") && !text.contains(['\n', '\r']) => {
            format!("default: {text}")
        }
        value => format!("default: {value}"),
    }
}

/// The variants of a union that is written with one variant on each line: all of `oneOf`, and of `anyOf` those that need the
/// room. What Python calls `Optional` stays on one line.
fn lined_variants(map: &Map<String, Value>) -> Option<&Vec<Value>> {
    if let Some(Value::Array(variants)) = map.get("oneOf") {
        return Some(variants);
    }
    let Some(Value::Array(variants)) = map.get("anyOf") else {
        return None;
    };
    let says_more = |variant: &&Value| {
        ["description", "default", "oneOf"]
            .iter()
            .any(|key| variant.get(key).is_some())
    };
    let is_tall = |variant: &&Value| variant.get("properties").is_some();
    let tall = variants.iter().filter(is_tall).count();
    (tall > 1 || variants.iter().any(|variant| says_more(&variant))).then_some(variants)
}

/// `above` is the description that was written above the variants.
fn write_variants(
    map: &Map<String, Value>,
    variants: &[Value],
    above: Option<&str>,
    indent: &str,
    out: &mut String,
) -> bool {
    let mut commented = false;
    for (index, variant) in variants.iter().enumerate() {
        *out += &format!("\n{indent} | ");
        commented = write_type(variant, &format!("{indent}   "), out);
        let empty = Map::new();
        let variant = variant.as_object().unwrap_or(&empty);
        let mut remarks = Vec::new();
        // The first variant's description, or one that repeats the whole's, is left out under a description of the whole.
        let text = description(variant);
        let repeats = above.is_some_and(|above| index == 0 || text == above);
        if !text.is_empty() && !repeats {
            remarks.push(text.lines().collect::<Vec<_>>().join(" "));
        }
        if let Some(value) = variant.get("default") {
            remarks.push(default(value, variant));
        }
        if !remarks.is_empty() {
            *out += &format!(" // {}", remarks.join(" "));
            commented = true;
        }
    }
    if is_nullable(map) {
        *out += &format!("\n{indent} | null");
        commented = false;
    }
    commented
}
