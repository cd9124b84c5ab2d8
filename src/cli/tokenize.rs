//! `fourfold tokenize`: text to token ids.

use super::{model_file, terminal};
use anyhow::{Context, bail};
use fourfold::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The limit that `run` has too: more is rather the wrong file than a text.
const MOST_BYTES: u64 = 64 << 20;

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
        None => read(&args.file)?,
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

/// The bytes of an input file; - is standard input.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let done = match is_pipe(path) {
        true => std::io::stdin()
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes),
        false => {
            File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        }
    };
    done.with_context(|| format!("cannot read {}", name(path)))?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!(
            "{} is longer than {} MiB: give a part of it",
            name(path),
            MOST_BYTES >> 20
        );
    }
    Ok(bytes)
}

/// The same as text.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        anyhow::anyhow!(
            "{} is no UTF-8 text: byte {position} starts no character",
            name(path)
        )
    })
}

/// What messages call an input file.
pub fn name(path: &Path) -> String {
    match is_pipe(path) {
        true => "standard input".into(),
        false => format!("{path:?}"),
    }
}

fn is_pipe(path: &Path) -> bool {
    path == Path::new("-")
}
