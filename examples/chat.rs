//! Two turns of a conversation: the second knows the first, and reads only what is new.

use fourfold::generate::{Event, Generator};
use fourfold::sample::Settings;
use fourfold::session::Session;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let generator = match std::env::args().nth(1) {
        Some(path) => Generator::open(path)?,
        None => Generator::demo()?,
    };
    let mut session = Session::new(generator, Settings::default(), 42)?;
    for question in ["My name is Nina.", "What is my name?"] {
        println!("> {question}");
        session.say(question);
        let mut turn = session.turn(&mut |_| true)?;
        for event in &mut turn {
            match event? {
                Event::Reasoning(text) => eprint!("{text}"),
                Event::Final(text) => print!("{text}"),
                _ => {}
            }
        }
        let outcome = turn.finish()?;
        println!("\n({} tokens were in the cache)", outcome.prefill.cached);
        session.accept(&outcome);
    }
    Ok(())
}
