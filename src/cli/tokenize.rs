//! `fourfold tokenize`: text to token ids.

use super::{input_file, model_file, terminal};
use fourfold::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// Show the tokens of a text
///
/// Reads standard input unless -p or -f is given. Markup such as <|end|> in the text is text.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold tokenize model.gguf -p 'Hello world'
  fourfold tokenize model.gguf -f notes.txt --json")]
pub struct Args {
    /// The model whose vocabulary to use [default: the built-in one]
    model: Option<PathBuf>,
    /// The text
    #[arg(
        short,
        long,
        value_name = "TEXT",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    prompt: Option<String>,
    /// A file with the text; - is standard input
    #[arg(short, long, default_value = "-", hide_default_value = true)]
    file: PathBuf,
    /// One JSON object: {"tokens":[{"id":13225,"text":"Hello"}, ...]}
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::from_gguf(&model_file::open(args.model.as_deref())?)?;
    let text = match args.prompt {
        Some(prompt) => prompt.into_bytes(),
        None => input_file::read(&args.file)?,
    };
    let mut ids = Vec::new();
    tokenizer.encode_bytes_into(&text, &mut ids);
    let mut out = terminal::stdout();
    if args.json {
        // One by one: as values, the tokens of a long text would take a hundred times its memory.
        write!(out, "{{\"tokens\":[")?;
        for (index, &id) in ids.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}{}", describe(&tokenizer, id))?;
        }
        writeln!(out, "]}}")?;
    } else {
        for id in ids {
            let bytes = tokenizer.token_bytes(id);
            let text = match std::str::from_utf8(bytes) {
                Ok(text) => format!("{text:?}"),
                Err(_) => format!("{bytes:02x?}"),
            };
            writeln!(out, "{id:>6}  {text}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// A token as JSON; where its bytes are only part of a character, they are given too.
fn describe(tokenizer: &Tokenizer, id: u32) -> Value {
    let bytes = tokenizer.token_bytes(id);
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "id": id, "text": text }),
        Err(_) => json!({ "id": id, "text": String::from_utf8_lossy(bytes), "bytes": bytes }),
    }
}
