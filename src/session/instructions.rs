//! What the model is told before anybody speaks: who it is, what it shall do, which functions there are, what answers look like.

use super::Session;
use crate::harmony::{Developer, Effort, Message, ResponseFormat, System, Tool};
use crate::sample::ConstraintError;
use serde_json::Value;

impl Session {
    /// The system message.
    pub fn system(&mut self) -> &mut System {
        let messages = &mut self.conversation.messages;
        if !matches!(messages.first(), Some(Message::System(_))) {
            messages.insert(0, Message::System(System::default()));
        }
        match &mut messages[0] {
            Message::System(system) => system,
            _ => unreachable!("it was put there above"),
        }
    }

    /// Changes how much the model thinks.
    pub fn set_effort(&mut self, effort: Effort) {
        self.system().effort = effort;
    }

    /// The developer message, made if there is none; [`Session::tidy`] removes an empty one.
    pub fn developer(&mut self) -> &mut Developer {
        self.system();
        let messages = &mut self.conversation.messages;
        if !matches!(messages.get(1), Some(Message::Developer(_))) {
            messages.insert(1, Message::Developer(Developer::default()));
        }
        match &mut messages[1] {
            Message::Developer(developer) => developer,
            _ => unreachable!("it was put there above"),
        }
    }

    /// Removes a developer message that says nothing.
    pub fn tidy(&mut self) {
        let messages = &mut self.conversation.messages;
        let is_empty =
            matches!(messages.get(1), Some(Message::Developer(it)) if *it == Developer::default());
        if is_empty {
            messages.remove(1);
        }
    }

    /// Answers are JSON of this schema from now on. The model is told so too, as it was trained.
    pub fn set_schema(&mut self, name: &str, schema: Value) -> Result<(), ConstraintError> {
        self.options.answer = Some(self.generator.grammars()?.json_schema(&schema)?);
        self.developer().response_formats = vec![ResponseFormat {
            name: name.to_string(),
            description: None,
            schema,
        }];
        Ok(())
    }

    /// The arguments of calls fit the schemas of the functions declared by now. Which function is called, if any, stays free.
    pub fn constrain_calls(&mut self) -> Result<(), ConstraintError> {
        let functions = self.developer().functions.clone();
        let grammars = self.generator.grammars()?;
        let mut constraints = Vec::new();
        for Tool {
            name, parameters, ..
        } in functions
        {
            let Some(schema) = parameters else { continue };
            match grammars.json_schema(&schema) {
                Ok(constraint) => constraints.push((name, constraint)),
                Err(error) => {
                    let (function, error) = (name, Box::new(error));
                    return Err(ConstraintError::Arguments { function, error });
                }
            }
        }
        self.options.tools = constraints;
        self.tidy();
        Ok(())
    }

    /// Answers are free again.
    pub fn clear_schema(&mut self) {
        self.options.answer = None;
        self.developer().response_formats.clear();
        self.tidy();
    }
}
