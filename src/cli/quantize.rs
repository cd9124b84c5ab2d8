//! `fourfold quantize`: one GGUF file into another, with other types.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fourfold_quantize::file;
use fourfold_quantize::gguf::{Gguf, WriteOptions, Writer};
use fourfold_quantize::imatrix::Imatrix;
use fourfold_quantize::recipe::{self, Options, Override, Recipe};
use fourfold_quantize::requantize::{Error, Plan, Planned, Requantize};

use super::output::refuse_pipe;
use super::plan::Types;
use super::progress::Progress;
use super::{interrupt, model_file, size, terminal};

/// Turn a GGUF file into one with other tensor types
///
/// Shows first what becomes of each tensor. Experts that are MXFP4 already, as in every published gpt-oss file, stay as
/// they are: they were trained in that format, so any other type is larger or worse.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP.as_str())]
pub struct Args {
    /// The file to read (of a split model, the first part), or a name that Ollama has for it
    input: PathBuf,
    /// The file to write
    output: PathBuf,
    /// The recipe, for example LEAN or Q8_0 (list below)
    #[arg(value_name = "TYPE", value_parser = parse_recipe)]
    recipe: Recipe,
    /// Weigh errors by an importance matrix from llama-imatrix (GGUF or .dat)
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// A type for the tensors whose name the pattern is found in; the first match counts
    #[arg(long, value_name = "REGEX=TYPE", value_parser = parse_override)]
    tensor_type: Vec<Override>,
    /// The recipe's main type for every matrix, without exceptions for sensitive ones
    #[arg(long)]
    pure: bool,
    /// Change experts even if they are MXFP4 already
    #[arg(long)]
    requantize_experts: bool,
    /// Write several files of at most about this size, for example 48G or 4GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    split_max_size: Option<u64>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the output file if it exists; only a GGUF file is replaced
    #[arg(long)]
    force: bool,
}

static AFTER_HELP: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    let mut help = "Recipes:\n".to_owned();
    for row in Recipe::TABLE {
        help += &format!("  {:<10} {}\n", row.name, row.about);
    }
    help += "\nExamples:
  fourfold quantize gpt-oss-20b-bf16.gguf gpt-oss-20b.gguf MXFP4_MOE
  fourfold quantize gpt-oss-20b.gguf gpt-oss-20b-lean.gguf LEAN --dry-run
  fourfold quantize in.gguf out.gguf Q4_K_M --imatrix imatrix.gguf --tensor-type 'attn_[kv]=q8_0'";
    help
});

/// A recipe, by its name.
pub fn parse_recipe(name: &str) -> Result<Recipe, String> {
    Recipe::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Recipe::TABLE.iter().map(|row| row.name).collect();
        format!("there is no such recipe; there are {}", names.join(", "))
    })
}

/// A `REGEX=TYPE`.
pub fn parse_override(text: &str) -> Result<Override, String> {
    Override::parse(text).map_err(|error| error.to_string())
}

/// Refuses to put a coarser copy in the place of what it is made of.
fn check_output(input: &Gguf, output: &Path) -> anyhow::Result<()> {
    let place = file::place(output);
    if input.parts().any(|part| file::place(part.0) == place) {
        bail!(
            "{output:?} is the input itself, which a coarser copy would replace: choose another name"
        );
    }
    Ok(())
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    interrupt::install()?;
    refuse_pipe(&args.output)?;
    let gguf = Gguf::open(&model_file::find(&args.input)?)?;
    check_output(&gguf, &args.output)?;
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?;
    let options = Options {
        recipe: args.recipe,
        pure: args.pure,
        overrides: args.tensor_type,
        requantize_experts: args.requantize_experts,
        has_imatrix: imatrix.is_some(),
    };
    let plan = Plan::new(&gguf, &options, imatrix.as_ref())?;
    let description = describe(&plan, args.recipe);
    if args.dry_run {
        let mut out = terminal::stdout();
        out.write_all(description.as_bytes())?;
        out.flush()?;
        return Ok(());
    }
    eprint!("{description}");

    let write_options = WriteOptions {
        overwrite: args.force,
        split_max_bytes: args.split_max_size,
        ..WriteOptions::default()
    };
    let writer = Writer::begin(plan.layout()?, &args.output, &write_options)?;
    for part in writer.paths() {
        check_output(&gguf, part)?;
    }
    for leftover in writer.leftovers() {
        eprintln!("removed {leftover:?}, left behind by a run that was killed");
    }
    let progress = Progress::bytes("Quantizing", plan.data_bytes());
    let requantize = Requantize {
        plan: &plan,
        threads: super::threads(),
        progress: &|bytes| progress.add(bytes),
        cancelled: &interrupt::requested,
    };
    match requantize.run(&writer) {
        Err(Error::Cancelled) => return Err(interrupt::Interrupted.into()),
        other => other.with_context(|| format!("{:?}", args.input))?,
    }
    progress.message("Waiting for the disk");
    let paths = writer.finish()?;
    let seconds = progress.finish().as_secs_f64();
    let rate = terminal::bytes((plan.data_bytes() as f64 / seconds.max(1e-3)) as u64);
    for path in paths {
        eprintln!("wrote {path:?}");
    }
    eprintln!("done in {seconds:.1} s, {rate}/s");
    Ok(())
}

/// The plan in words: types, sizes, and everything that is not as the recipe's name suggests.
fn describe(plan: &Plan<'_>, recipe: Recipe) -> String {
    let before: u64 = plan
        .gguf()
        .infos()
        .map(|info| info.bytes.len() as u64)
        .sum();
    let mut types = Types::default();
    for tensor in plan.tensors() {
        types.add(tensor.choice.dtype, tensor.elements(), tensor.bytes);
    }
    let mut text = format!(
        "{}: {} of tensors become {}\n\n",
        recipe.row().name,
        terminal::bytes(before),
        types.total(),
    );
    text += &types.table();
    if super::verbosity() > 0 {
        text += "\n";
        for tensor in plan.tensors() {
            let (from, to) = (tensor.source.dtype.name(), tensor.choice.dtype.name());
            text += &format!("  {} {from} -> {to}\n", terminal::plain(tensor.source.name));
        }
    }
    let tensors = plan.tensors().iter();
    let notes = recipe::sentences(
        tensors.flat_map(|tensor| notes_on(tensor).map(|note| (note, tensor.source.name))),
    );
    if !notes.is_empty() {
        text += "\n";
    }
    for note in notes {
        text += &format!("  {}\n", terminal::plain(&note));
    }
    text += "\n";
    text
}

/// What the user should know about a tensor.
fn notes_on(tensor: &Planned<'_>) -> impl Iterator<Item = String> {
    let choice = tensor.choice;
    let fallback = choice.fallback_note(tensor.source.dims.first().copied().unwrap_or(1));
    let kept = choice.kept_instead_of.map(|wanted| {
        format!(
            "stay {} instead of {} (--requantize-experts would change them)",
            choice.dtype.name(),
            wanted.name(),
        )
    });
    let is_lossy = choice.dtype.block_len() > 1;
    let again = (tensor.is_requantized() && is_lossy).then(|| {
        format!(
            "from {} to {} loses more than from the unquantized model",
            tensor.source.dtype.name(),
            choice.dtype.name(),
        )
    });
    let unknown = tensor
        .importance_missing
        .then(|| "not in the importance matrix; all columns count the same".to_owned());
    [fallback, kept, again, unknown].into_iter().flatten()
}
