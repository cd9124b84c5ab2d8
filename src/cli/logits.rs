//! `fourfold logits`: what the model thinks of every next token, as numbers.

use super::model_file::ModelArgs;
use super::output::Output;
use super::progress::Progress;
use super::{interrupt, npy};
use anyhow::bail;
use fourfold::model::{Batch, Logits, Model, Routing};
use fourfold_quantize::file::place;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Tokens in a pass when all logits are kept: with gpt-oss's vocabulary 100 MB of them.
const PIECE: usize = 128;

/// Write the logits that follow some tokens, as a NumPy file
///
/// The array is float32 of shape [positions, vocabulary]: the last position, or all with --all.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold logits model.gguf --tokens 13225,2375 -o last.npy
  fourfold logits model.gguf --tokens 13225,2375 --all --exact -o all.npy --routing experts.json")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The tokens, as ids; a JSON array, as `prompt --ids` prints it, will do
    #[arg(long, value_name = "IDS", value_parser = ids)]
    tokens: Ids,
    /// Logits after every token, not only after the last
    #[arg(long)]
    all: bool,
    /// Where to write them
    #[arg(short, long, value_name = "OUT.npy")]
    output: PathBuf,
    /// Also write which experts each layer chose for each token, with which weights
    #[arg(long, value_name = "FILE.json")]
    routing: Option<PathBuf>,
    /// Replace files that exist; only by files of the same kind
    #[arg(long)]
    force: bool,
}

/// Token ids, at least one.
#[derive(Clone)]
struct Ids(Vec<u32>);

/// Reads `1,2,3` or `[1, 2, 3]`.
fn ids(text: &str) -> Result<Ids, String> {
    let text = text.trim();
    let inside = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ids = inside.unwrap_or(text).split(',').map(|id| {
        let id = id.trim();
        id.parse()
            .map_err(|_| format!("{id:?} is no token id: ids look like 13225,2375"))
    });
    ids.collect::<Result<_, _>>().map(Ids)
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    check_names(&args.output, args.routing.as_deref())?;
    interrupt::install()?;
    let mut out = Output::create(&args.output, args.force, npy::MAGIC)?;
    let mut routing_out = match &args.routing {
        Some(path) => Some(Output::create(path, args.force, b"{")?),
        None => None,
    };
    let mut model = args.model;
    if args.routing.is_some() {
        model.gpu.prefer_processor();
    }
    let model = model.open()?;
    let vocabulary = model.config().vocabulary;
    let Ids(tokens) = args.tokens;
    let rows = if args.all { tokens.len() } else { 1 };
    out.check_space(npy::size(rows, vocabulary))?;
    npy::write_header(&mut out, rows, vocabulary)?;

    let (mut sequence, mut logits) = (model.new_sequence(), Logits::default());
    let mut routing = Routing::default();
    // The last layer routes only tokens whose logits are wanted, so asking for routes asks for all logits.
    let every = args.all || args.routing.is_some();
    let piece = if every { PIECE } else { model.chunk() };
    let progress = Progress::things("Reading", "tokens", tokens.len());
    for tokens in tokens.chunks(piece) {
        if interrupt::requested() {
            bail!(interrupt::Interrupted);
        }
        let mut batch = Batch::continuing(sequence.len(), tokens);
        if every {
            batch.want_all_logits();
        }
        if args.routing.is_some() {
            let part = model.forward_with_routing(&batch, &mut [&mut sequence], &mut logits)?;
            append(&mut routing, part);
        } else {
            model.forward(&batch, &mut [&mut sequence], &mut logits)?;
        }
        if args.all {
            for row in 0..logits.rows() {
                npy::write_row(&mut out, logits.row(row))?;
            }
        }
        progress.add(tokens.len() as u64);
    }
    progress.finish();
    if !args.all {
        npy::write_row(&mut out, logits.last())?;
    }
    if let Some(mut file) = routing_out.take() {
        serde_json::to_writer(&mut file, &describe(&model, &tokens, &routing))?;
        writeln!(file)?;
        file.finish()?;
    }
    out.finish()
}

/// Refuses two outputs of one name: the second to be finished would replace the first.
fn check_names(output: &Path, routing: Option<&Path>) -> anyhow::Result<()> {
    if routing.is_some_and(|routing| place(output) == place(routing)) {
        bail!("-o and --routing both name {output:?}: give two files");
    }
    Ok(())
}

fn append(routing: &mut Routing, part: Routing) {
    routing.layers.resize(part.layers.len(), Vec::new());
    for (layer, part) in routing.layers.iter_mut().zip(part.layers) {
        layer.extend(part);
    }
}

/// `{"tokens":[ids],"layers":[[[{"expert":3,"weight":0.4},..] per token] per layer]}`
fn describe(model: &Model, tokens: &[u32], routing: &Routing) -> Value {
    let used = model.config().experts_used;
    let layers: Vec<Vec<Value>> = routing
        .layers
        .iter()
        .map(|layer| {
            let tokens = layer.chunks(used).map(|routes| {
                let routes = routes.iter();
                routes
                    .map(|(expert, weight)| json!({"expert": expert, "weight": weight}))
                    .collect()
            });
            tokens.collect()
        })
        .collect();
    json!({"tokens": tokens, "layers": layers})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_typed_and_as_printed() {
        let read = |text| ids(text).map(|ids| ids.0);
        for text in [
            "1,22,3",
            "[1,22,3]",
            "[1, 22, 3]\n",
            " 1, 22, 3 ",
            "[ 1 ,22,3 ]",
        ] {
            assert_eq!(read(text), Ok(vec![1, 22, 3]), "{text}");
        }
        for wrong in [
            "",
            "[]",
            "1,",
            "[1",
            "1]",
            "[[1]]",
            "1 2",
            "-1",
            "4294967296",
            "x",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
