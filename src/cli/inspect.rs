//! `fourfold inspect`: what is in a model file.

use std::io::Write;
use std::path::PathBuf;

use fourfold_quantize::gguf::{Gguf, OLLAMA_ADVICE};

use super::terminal;

/// Show what a GGUF file holds
#[derive(clap::Args)]
pub struct Args {
    /// The file; of a split model, the first part
    file: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let gguf = Gguf::open_any(&args.file)?;
    let mut out = terminal::stdout();
    let architecture = gguf.architecture().unwrap_or("none given");
    writeln!(out, "architecture  {}", terminal::plain(architecture))?;
    if gguf.is_ollama() {
        writeln!(out, "note          {OLLAMA_ADVICE}.")?;
    }
    let bytes: u64 = gguf.parts().map(|part| part.1).sum();
    writeln!(out, "size          {}", terminal::bytes(bytes))?;
    writeln!(out, "tensors       {}", gguf.tensor_count())?;
    out.flush()?;
    Ok(())
}
