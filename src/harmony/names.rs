//! Names of tools as the application knows them and as the model sees them.
//!
//! The model was trained on TypeScript declarations, so a function is shown to it under an identifier: `web-search` becomes
//! `web_search`. The map goes both ways, and forgives what models do to names in calls.

use super::{Channel, Conversation, Message, Namespace};
use std::collections::HashMap;

/// The namespace that an application's functions are in.
pub const FUNCTIONS: &str = "functions";

/// Which declared tool each name in a call means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolNames {
    /// Identifier by declared name.
    identifiers: HashMap<String, String>,
    /// Declared name by identifier.
    declared: HashMap<String, String>,
    /// Recipients of built-in tools.
    built_in: Vec<String>,
}

impl ToolNames {
    /// Whether there are no tools.
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty() && self.built_in.is_empty()
    }

    /// The tools that a conversation declares.
    pub fn of(conversation: &Conversation) -> ToolNames {
        let mut names = ToolNames::default();
        let mut functions = Vec::new();
        for message in &conversation.messages {
            match message {
                Message::System(system) => system.built_in.iter().for_each(|it| names.add(it)),
                Message::Developer(developer) => functions.extend(&developer.functions),
                _ => {}
            }
        }
        // A name that is an identifier keeps it, whatever the others would like to be called.
        let (good, bad): (Vec<_>, Vec<_>) = functions
            .into_iter()
            .map(|function| function.name.as_str())
            .partition(|name| is_identifier(name));
        for name in good.into_iter().chain(bad) {
            names.declare(name);
        }
        names
    }

    fn add(&mut self, namespace: &Namespace) {
        if namespace.tools.is_empty() {
            self.built_in.push(namespace.name.clone());
        }
        for tool in &namespace.tools {
            self.built_in
                .push(format!("{}.{}", namespace.name, tool.name));
        }
    }

    fn declare(&mut self, name: &str) {
        if self.identifiers.contains_key(name) {
            return;
        }
        let plain = identifier(name);
        let mut chosen = plain.clone();
        let mut count = 1;
        while self.declared.contains_key(&chosen) {
            count += 1;
            chosen = format!("{plain}_{count}");
        }
        self.declared.insert(chosen.clone(), name.to_owned());
        self.identifiers.insert(name.to_owned(), chosen);
    }

    /// The identifier under which a function is declared to the model.
    pub fn identifier(&self, name: &str) -> String {
        match self.identifiers.get(name) {
            Some(chosen) => chosen.clone(),
            None => identifier(name),
        }
    }

    /// What follows `to=` in a call of this tool.
    pub fn recipient(&self, name: &str) -> String {
        let as_it_is = !self.identifiers.contains_key(name)
            && (self.built_in.iter().any(|it| it == name)
                || name.contains('.') && name.split('.').all(is_identifier));
        if as_it_is {
            name.to_owned()
        } else {
            format!("{FUNCTIONS}.{}", self.identifier(name))
        }
    }

    /// The channel that calls of this tool go to.
    pub fn channel(&self, name: &str) -> Channel {
        if !self.identifiers.contains_key(name) && self.built_in.iter().any(|it| it == name) {
            Channel::Analysis
        } else {
            Channel::Commentary
        }
    }

    /// The declared tool that a recipient means, if any: with or without namespace, by identifier or declared name, and with
    /// a content type glued on, as models do.
    pub fn resolve(&self, recipient: &str) -> Option<&str> {
        let glued = ["json", "code"].map(|suffix| recipient.strip_suffix(suffix));
        let spellings = [Some(recipient), glued[0], glued[1]];
        spellings.into_iter().flatten().find_map(|spelling| {
            let built_in = self.built_in.iter().find(|it| *it == spelling);
            let name = spelling.strip_prefix("functions.").unwrap_or(spelling);
            self.declared
                .get(name)
                .or_else(|| Some(self.identifiers.get_key_value(name)?.0))
                .or(built_in)
                .map(String::as_str)
        })
    }
}

/// Whether a name can be declared as it is.
pub fn is_identifier(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name
            .chars()
            .all(|it| it == '_' || it.is_ascii_alphanumeric())
}

/// The nearest identifier to a name.
fn identifier(name: &str) -> String {
    let mut plain: String = name
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() { it } else { '_' })
        .collect();
    if !is_identifier(&plain) {
        plain.insert(0, '_');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::{Developer, System, Tool};
    use super::*;

    fn names(functions: &[&str]) -> ToolNames {
        let tool = |name: &&str| Tool {
            name: (*name).to_owned(),
            description: String::new(),
            parameters: None,
        };
        let namespace = |name: &str, tools: &[&str]| Namespace {
            name: name.to_owned(),
            description: None,
            tools: tools.iter().map(tool).collect(),
        };
        ToolNames::of(&Conversation {
            messages: vec![
                Message::System(System {
                    built_in: vec![namespace("python", &[]), namespace("shelf", &["find"])],
                    ..System::default()
                }),
                Message::Developer(Developer {
                    functions: functions.iter().map(tool).collect(),
                    ..Developer::default()
                }),
            ],
        })
    }

    #[test]
    fn names_become_identifiers_and_come_back() {
        let functions = [
            "web-search",
            "web_search",
            "web.search",
            "2nd",
            "",
            "größe",
            "ok",
        ];
        let names = names(&functions);
        for name in functions {
            assert!(is_identifier(&names.identifier(name)), "{name:?}");
            assert_eq!(names.resolve(&names.recipient(name)), Some(name));
        }
        assert_eq!(names.recipient("ok"), "functions.ok");
        // The name that is an identifier already keeps it, though it comes later.
        assert_eq!(names.recipient("web_search"), "functions.web_search");
        assert_eq!(names.recipient("web-search"), "functions.web_search_2");
        assert_eq!(names.recipient("web.search"), "functions.web_search_3");
    }

    #[test]
    fn recipients_are_understood_as_models_write_them() {
        let names = names(&["get_weather", "to-json", "x"]);
        for recipient in [
            "functions.get_weather",
            "get_weather",
            "functions.get_weatherjson",
        ] {
            assert_eq!(names.resolve(recipient), Some("get_weather"));
        }
        for recipient in ["functions.to-json", "to_json", "functions.to_jsoncode"] {
            assert_eq!(names.resolve(recipient), Some("to-json"));
        }
        assert_eq!(names.resolve("python"), Some("python"));
        assert_eq!(names.resolve("shelf.find"), Some("shelf.find"));
        assert_eq!(names.recipient("shelf.find"), "shelf.find");
        for recipient in [
            "functions.y",
            "shelf.open",
            "container.exec",
            "functions",
            "json",
        ] {
            assert_eq!(names.resolve(recipient), None);
        }
    }
}
