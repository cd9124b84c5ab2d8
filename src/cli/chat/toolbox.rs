//! The tools of a conversation: what the model is told about them, and what answers their calls.

use super::tool::{self, Outcome};
use anyhow::{Context, bail};
use fourfold::harmony::Tool;
use fourfold::session::Session;
use std::time::Duration;

/// Commands by tool.
pub struct Toolbox {
    commands: Vec<(String, String)>,
    /// Whether the person has agreed to running them.
    pub allowed: bool,
    /// How long one call may take.
    pub limit: Duration,
}

/// What answered a call.
pub enum Answer {
    /// Text for the model, and whether it is a failure.
    Text { text: String, failed: bool },
    /// The person stopped it.
    Interrupted,
}

impl Toolbox {
    /// Reads `NAME=COMMAND` arguments.
    pub fn new(commands: &[String], allowed: bool) -> anyhow::Result<Self> {
        let mut toolbox = Self {
            commands: Vec::new(),
            allowed,
            limit: Duration::from_secs(60),
        };
        for argument in commands {
            let split = argument.split_once('=');
            let (name, command) = split
                .filter(|(name, command)| !name.is_empty() && !command.trim().is_empty())
                .with_context(|| format!("--tool {argument:?} is not of the form NAME=COMMAND"))?;
            if toolbox.command(name).is_some() {
                bail!("--tool names {name} twice");
            }
            toolbox.commands.push((name.into(), command.into()));
        }
        Ok(toolbox)
    }

    /// Tells the model about tools that only have a command, and constrains arguments if `strict`.
    pub fn declare(&self, session: &mut Session, strict: bool) -> anyhow::Result<()> {
        if !self.commands.is_empty() {
            let functions = &mut session.developer().functions;
            for (name, _) in &self.commands {
                if functions.iter().all(|function| function.name != *name) {
                    functions.push(Tool {
                        name: name.clone(),
                        description: String::new(),
                        parameters: None,
                    });
                }
            }
        }
        if strict {
            session.constrain_calls()?;
        }
        session.tidy();
        Ok(())
    }

    /// The command that answers a tool.
    pub fn command(&self, name: &str) -> Option<&str> {
        let found = self.commands.iter().find(|(known, _)| known == name);
        found.map(|(_, command)| command.as_str())
    }

    /// Answers a call.
    pub fn call(&self, name: &str, arguments: &str) -> Answer {
        let failed = |text: String| Answer::Text { text, failed: true };
        let Some(command) = self.command(name) else {
            return failed(format!("error: nothing answers the tool {name} here"));
        };
        match tool::run(command, arguments, self.limit) {
            Outcome::Output(text) => Answer::Text {
                text,
                failed: false,
            },
            Outcome::Failed(report) => failed(format!("error: {report}")),
            Outcome::Interrupted => Answer::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_found() {
        let toolbox = Toolbox::new(&["f=./f --a=b".into(), "g=true".into()], false).unwrap();
        assert_eq!(toolbox.command("f"), Some("./f --a=b"));
        assert_eq!(toolbox.command("h"), None);
        for wrong in ["f", "=x", "f=", "f= "] {
            assert!(Toolbox::new(&[wrong.into()], false).is_err(), "{wrong}");
        }
        assert!(Toolbox::new(&["f=a".into(), "f=b".into()], false).is_err());
    }

    #[test]
    fn a_call_that_nothing_answers_is_a_failure_for_the_model() {
        let toolbox = Toolbox::new(&[], true).unwrap();
        let Answer::Text { text, failed: true } = toolbox.call("f", "{}") else {
            panic!("not a failure");
        };
        assert!(text.contains("nothing answers the tool f"));
    }
}
