//! `fourfold convert`: a Hugging Face checkpoint becomes a GGUF file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fourfold_convert::{Checkpoint, Error, Lora, Options, Plan};
use fourfold_quantize::gguf::{Gguf, WriteOptions};
use fourfold_quantize::recipe::{Override, Recipe};

use super::interrupt::{self, Interrupted};
use super::output::refuse_pipe;
use super::plan::Types;
use super::progress::Progress;
use super::terminal::{self, Style};
use super::{quantize, size};

/// Turn a Hugging Face checkpoint of gpt-oss into a GGUF file
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  fourfold convert gpt-oss-20b                     the published types: MXFP4 experts, Q8_0 for the rest
  fourfold convert gpt-oss-20b --type bf16         everything but the experts in BF16
  fourfold convert gpt-oss-120b --split-max-size 40G
  fourfold convert my-fine-tune -o tuned.gguf --type mxfp4
  fourfold convert gpt-oss-20b --dry-run           only show what would be written
  fourfold convert --lora my-adapter --base gpt-oss-20b-mxfp4.gguf")]
pub struct Args {
    /// The checkpoint's folder: safetensors, config.json, tokenizer.json
    #[arg(required_unless_present = "lora")]
    folder: Option<PathBuf>,
    /// Turn a PEFT adapter for the attention matrices into a GGUF adapter instead
    #[arg(long, value_name = "DIR", requires = "base", conflicts_with_all = ["folder", "recipe", "dry_run"])]
    lora: Option<PathBuf>,
    /// The model that the adapter belongs to, in GGUF
    #[arg(
        long,
        value_name = "MODEL.gguf",
        requires = "lora",
        conflicts_with = "folder"
    )]
    base: Option<PathBuf>,
    /// The file to write, or a folder to write it into [default: NAME-TYPE.gguf here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The recipe for the types: mxfp4, bf16, f16, f32 or one of `fourfold quantize --help` [default: mxfp4 if that
    /// changes no expert weight, else the experts' own type]
    #[arg(long = "type", value_name = "TYPE", value_parser = quantize::parse_recipe)]
    recipe: Option<Recipe>,
    /// A type for the tensors whose name the pattern is found in; the first match counts
    #[arg(long, value_name = "REGEX=TYPE", value_parser = quantize::parse_override)]
    tensor_type: Vec<Override>,
    /// The recipe's main type for every matrix, without exceptions for sensitive ones
    #[arg(long)]
    pure: bool,
    /// Change experts even if they are MXFP4 already
    #[arg(long)]
    requantize_experts: bool,
    /// Write several files of at most about this size, for example 40G or 4GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    split_max_size: Option<u64>,
    /// Leave the tokenizer out (llama.cpp's vocabulary type `none`)
    #[arg(long)]
    no_tokenizer: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the file if it exists; only a GGUF file is replaced
    #[arg(long)]
    force: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let write = WriteOptions {
        overwrite: args.force,
        split_max_bytes: args.split_max_size,
        ..WriteOptions::default()
    };
    if let (Some(adapter), Some(base)) = (&args.lora, &args.base) {
        return convert_lora(adapter, base, args.output.as_deref(), &write);
    }
    let folder = args.folder.context("name the checkpoint's folder")?;
    let checkpoint = Checkpoint::open(&folder)?;
    let options = Options {
        recipe: args.recipe,
        overrides: args.tensor_type,
        pure: args.pure,
        requantize_experts: args.requantize_experts,
        tokenizer: !args.no_tokenizer,
    };
    let plan = Plan::new(&checkpoint, &options)?;
    let path = output_path(args.output.as_deref(), &plan.file_name)?;
    for note in &plan.notes {
        let label = terminal::paint_stderr(Style::Yellow, "note:");
        eprintln!("{label} {}", terminal::plain(note));
    }
    let description = describe(&plan, &path);
    if args.dry_run {
        return show(&plan, &description);
    }
    eprint!("{description}");
    convert(&plan, &path, &write)
}

fn convert(plan: &Plan, path: &Path, options: &WriteOptions) -> anyhow::Result<()> {
    interrupt::install()?;
    let progress = Progress::bytes("Converting", plan.bytes());
    let report = plan.write(
        path,
        options,
        &|bytes| progress.add(bytes),
        &interrupt::requested,
    );
    let report = match report {
        Err(Error::Cancelled) => bail!(Interrupted),
        other => other?,
    };
    let seconds = progress.finish().as_secs_f64();
    for leftover in &report.leftovers {
        eprintln!("removed {}, left by an interrupted run", leftover.display());
    }
    let (total, changed) = report.requantized;
    if total > 0 {
        eprintln!(
            "{} of {} expert weights changed by rounding to MXFP4",
            terminal::grouped(changed),
            terminal::grouped(total)
        );
    }
    let rate = plan.bytes() as f64 / seconds.max(1e-9);
    eprintln!(
        "{} in {seconds:.1} s, {}/s",
        terminal::bytes(plan.bytes()),
        terminal::bytes(rate as u64)
    );
    let mut out = terminal::stdout();
    for path in &report.paths {
        writeln!(out, "{}", path.display())?;
    }
    Ok(out.flush()?)
}

fn convert_lora(
    adapter: &Path,
    base: &Path,
    output: Option<&Path>,
    options: &WriteOptions,
) -> anyhow::Result<()> {
    let lora = Lora::read(adapter, &Gguf::open(base)?)?;
    let name = adapter.canonicalize()?;
    let name = name.file_name().unwrap_or("adapter".as_ref());
    let path = output_path(output, &format!("{}-lora.gguf", name.to_string_lossy()))?;
    let paths = lora.write(&path, options)?;
    eprintln!("{} matrices adapted", lora.matrices());
    let mut out = terminal::stdout();
    for path in paths {
        writeln!(out, "{}", path.display())?;
    }
    Ok(out.flush()?)
}

/// What the file will hold, in words.
fn describe(plan: &Plan, path: &Path) -> String {
    let mut types = Types::default();
    for planned in &plan.tensors {
        types.add(planned.dtype, planned.matrix.weights(), planned.bytes());
    }
    let path = path.to_string_lossy();
    let table = types.table();
    format!("{}: {}\n\n{table}\n", terminal::plain(&path), types.total())
}

/// Every tensor, then the plan.
fn show(plan: &Plan, description: &str) -> anyhow::Result<()> {
    let mut out = terminal::stdout();
    for planned in &plan.tensors {
        let dims = format!("{:?}", planned.matrix.dims());
        writeln!(
            out,
            "{:<36} {dims:<20} {:<6} {:>10}",
            planned.matrix.name,
            planned.dtype.name(),
            terminal::bytes(planned.bytes())
        )?;
    }
    write!(out, "\n{description}")?;
    Ok(out.flush()?)
}

fn output_path(wish: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    Ok(match wish {
        Some(folder) if folder.is_dir() => folder.join(name),
        Some(file) => {
            refuse_pipe(file)?;
            file.to_owned()
        }
        None => PathBuf::from(name),
    })
}
