//! Which experts each layer chose for the tokens of one prompt.

use fourfold::Generator;
use fourfold::model::{Batch, Logits};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let generator = match std::env::args().nth(1) {
        Some(path) => Generator::open(path)?,
        None => Generator::demo()?,
    };
    let tokens = generator.tokenizer().encode("Sort 42, 7, 19.");
    let model = generator.context().model();
    let mut batch = Batch::continuing(0, &tokens);
    batch.want_all_logits();
    let mut sequence = model.new_sequence();
    let mut logits = Logits::default();
    let routing = model.forward_with_routing(&batch, &mut [&mut sequence], &mut logits)?;
    for (layer, choices) in routing.layers.iter().enumerate() {
        println!("layer {layer}");
        for (token, experts) in tokens
            .iter()
            .zip(choices.chunks(model.config().experts_used))
        {
            let text = generator.tokenizer().decode(&[*token]);
            println!("  {text:?} {experts:.2?}");
        }
    }
    Ok(())
}
