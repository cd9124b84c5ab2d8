//! Continue a text, with the built-in model or the one named on the command line.

use fourfold::generate::{Event, Generator, Request};
use fourfold::sample::{Sampler, Settings};
use std::error::Error;
use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let mut generator = match std::env::args().nth(1) {
        Some(path) => Generator::open(path)?,
        None => Generator::demo()?,
    };
    let prompt = generator.tokenizer().encode("Once upon a time");
    let mut sampler = Sampler::new(Settings::default(), 42)?;
    let mut request = Request::raw(prompt, &mut sampler);
    request.max_tokens = Some(40);
    for event in generator.generate(request, &mut |_| true)? {
        if let Event::Final(text) = event? {
            print!("{text}");
            stdout().flush()?;
        }
    }
    println!();
    Ok(())
}
