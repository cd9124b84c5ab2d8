//! An answer that follows a JSON schema, whatever the model would like to say.

use fourfold::generate::{Event, Generator};
use fourfold::sample::Settings;
use fourfold::session::Session;
use serde_json::json;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let generator = match std::env::args().nth(1) {
        Some(path) => Generator::open(path)?,
        None => Generator::demo()?,
    };
    let schema = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": false
    });
    let mut session = Session::new(generator, Settings::default(), 42)?;
    session.set_schema("person", schema)?;
    session.say("Give JSON with name and age: Mia is 9 years old and lives in Rome.");
    for event in session.turn(&mut |_| true)? {
        if let Event::Final(text) = event? {
            print!("{text}");
        }
    }
    println!();
    Ok(())
}
