//! Makes a JSON schema plain: `$ref` replaced by what it names, `allOf` folded into one schema.

use serde_json::{Map, Value};

/// Stands in for a reference that cannot be written out; its value is the name of what was referred to.
pub const NAMED: &str = "\u{0}named";

/// Bytes that references may add in all. A hundred definitions that each use the next one twice would fill any memory.
const BUDGET: usize = 1 << 20;
/// Schemas nested deeper than this are cut off; each level costs stack.
const MAX_DEPTH: usize = 128;

/// The schema without references. What refers to itself, to nothing, or beyond the limits is left as a name.
pub fn plain(root: &Value) -> Value {
    let mut expander = Expander {
        root,
        open: Vec::new(),
        left: BUDGET,
    };
    expander.expand(root, 0)
}

struct Expander<'a> {
    root: &'a Value,
    /// References being written out, outermost first.
    open: Vec<&'a str>,
    left: usize,
}

impl<'a> Expander<'a> {
    fn expand(&mut self, schema: &'a Value, depth: usize) -> Value {
        let Value::Object(map) = schema else {
            return schema.clone();
        };
        if depth > MAX_DEPTH {
            return Value::Object(Map::new());
        }
        let mut plain = Map::new();
        for (key, value) in map {
            let value = match (key.as_str(), value) {
                ("$defs" | "definitions" | "$ref" | "allOf", _) => continue,
                ("properties", Value::Object(properties)) => Value::Object(
                    properties
                        .iter()
                        .map(|(name, value)| (name.clone(), self.expand(value, depth + 1)))
                        .collect(),
                ),
                ("oneOf" | "anyOf", Value::Array(variants)) => variants
                    .iter()
                    .map(|variant| self.expand(variant, depth + 1))
                    .collect(),
                ("items" | "additionalProperties", value) => self.expand(value, depth + 1),
                (_, value) => value.clone(),
            };
            plain.insert(key.clone(), value);
        }
        if let Some(Value::String(reference)) = map.get("$ref") {
            let target = self.follow(reference, depth);
            merge(&mut plain, target);
        }
        if let Some(Value::Array(parts)) = map.get("allOf") {
            for part in parts {
                let part = self.expand(part, depth + 1);
                merge(&mut plain, part);
            }
        }
        Value::Object(plain)
    }

    fn follow(&mut self, reference: &'a str, depth: usize) -> Value {
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| self.root.pointer(pointer));
        if let Some(target) = target
            && !self.open.contains(&reference)
            && self.spend(target)
        {
            self.open.push(reference);
            let plain = self.expand(target, depth + 1);
            self.open.pop();
            return plain;
        }
        let name = reference.rsplit('/').next().unwrap_or_default();
        let named = [(NAMED.to_owned(), Value::from(name))];
        Value::Object(named.into_iter().collect())
    }

    /// Whether there is room for one more copy of a schema. When there is not, there is none for any other either.
    fn spend(&mut self, schema: &Value) -> bool {
        fn weigh(value: &Value, left: &mut usize) {
            let own = match value {
                Value::String(text) => 1 + text.len(),
                _ => 1,
            };
            *left = left.saturating_sub(own);
            match value {
                Value::Array(items) if *left > 0 => {
                    items.iter().for_each(|item| weigh(item, left));
                }
                Value::Object(map) if *left > 0 => map.iter().for_each(|(key, value)| {
                    *left = left.saturating_sub(key.len());
                    weigh(value, left);
                }),
                _ => {}
            }
        }
        weigh(schema, &mut self.left);
        self.left > 0
    }
}

/// Adds what `other` says and `schema` does not; properties and requirements add up.
fn merge(schema: &mut Map<String, Value>, other: Value) {
    let Value::Object(other) = other else {
        return;
    };
    for (key, value) in other {
        match (schema.get_mut(&key), value) {
            (None, value) => {
                schema.insert(key, value);
            }
            (Some(Value::Object(mine)), Value::Object(theirs)) if key == "properties" => {
                for (name, property) in theirs {
                    mine.entry(name).or_insert(property);
                }
            }
            (Some(Value::Array(mine)), Value::Array(theirs)) if key == "required" => {
                mine.extend(theirs);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_written_out_and_what_stands_beside_them_wins() {
        let schema = json!({
            "properties": {"a": {"$ref": "#/$defs/A", "description": "mine"}},
            "$defs": {"A": {"type": "string", "description": "theirs", "default": "x"}}
        });
        assert_eq!(
            plain(&schema),
            json!({"properties": {"a": {"description": "mine", "type": "string", "default": "x"}}})
        );
    }

    #[test]
    fn a_reference_to_itself_or_to_nothing_stays_a_name() {
        let schema = json!({
            "$ref": "#/$defs/Node",
            "$defs": {"Node": {"properties": {
                "next": {"$ref": "#/$defs/Node"}, "gone": {"$ref": "#/nowhere/Gone"}, "far": {"$ref": "http://x/Far"}
            }}}
        });
        assert_eq!(
            plain(&schema),
            json!({"properties": {"next": {NAMED: "Node"}, "gone": {NAMED: "Gone"}, "far": {NAMED: "Far"}}})
        );
    }

    #[test]
    fn doubling_references_stay_small() {
        let mut definitions = Map::new();
        for level in 0..100 {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            let twice = json!({"properties": {"a": next, "b": next}});
            definitions.insert(level.to_string(), twice);
        }
        let schema = json!({"$ref": "#/$defs/0", "$defs": definitions});
        assert!(plain(&schema).to_string().len() < 20 * BUDGET);
    }

    #[test]
    fn parts_of_all_of_add_up() {
        let schema = json!({"allOf": [
            {"properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b"], "type": "object"}
        ]});
        assert_eq!(
            plain(&schema),
            json!({
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"], "type": "object"
            })
        );
    }
}
