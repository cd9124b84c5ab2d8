//! `fourfold convert`: a Hugging Face checkpoint becomes a GGUF file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fourfold_convert::{Checkpoint, Error, Options, OutputType, Plan};
use fourfold_quantize::gguf::WriteOptions;

use super::interrupt::{self, Interrupted};
use super::progress::Progress;
use super::terminal::{self, Style};

/// Turn a Hugging Face checkpoint of gpt-oss into a GGUF file
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  fourfold convert gpt-oss-20b                     the published types: MXFP4 experts, Q8_0 for the rest
  fourfold convert gpt-oss-20b --type bf16         everything but the experts in BF16
  fourfold convert gpt-oss-120b --split-max-size 40G
  fourfold convert my-fine-tune -o tuned.gguf --type mxfp4
  fourfold convert gpt-oss-20b --dry-run           only show what would be written")]
pub struct Args {
    /// The checkpoint's folder: safetensors, config.json, tokenizer.json
    folder: PathBuf,
    /// The file to write, or a folder to write it into [default: NAME-TYPE.gguf here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Types of the tensors: mxfp4, q8_0, bf16, f16, f32 [default: mxfp4 if that changes no expert, else their own]
    #[arg(long = "type", value_name = "TYPE", value_parser = output_type)]
    kind: Option<OutputType>,
    /// Begin a new part when the tensors of one would exceed this size (40G, 500M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    split_max_size: Option<u64>,
    /// Leave the tokenizer out (llama.cpp's vocabulary type `none`)
    #[arg(long)]
    no_tokenizer: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&args.folder)?;
    let options = Options {
        output: args.kind,
        tokenizer: !args.no_tokenizer,
    };
    let plan = Plan::new(&checkpoint, &options)?;
    let path = output_path(args.output.as_deref(), &plan.file_name);
    for note in &plan.notes {
        let label = terminal::paint_stderr(Style::Yellow, "note:");
        eprintln!("{label} {}", terminal::plain(note));
    }
    if args.dry_run {
        return show(&plan, &path);
    }
    let write = WriteOptions {
        overwrite: args.force,
        split_max_bytes: args.split_max_size,
        ..WriteOptions::default()
    };
    convert(&plan, &path, &write)
}

fn convert(plan: &Plan, path: &Path, options: &WriteOptions) -> anyhow::Result<()> {
    interrupt::install()?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(super::threads())
        .build_global()
        .context("starting the threads failed")?;
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

/// The plan: every tensor, then how many bytes each type takes.
fn show(plan: &Plan, path: &Path) -> anyhow::Result<()> {
    let mut out = terminal::stdout();
    let mut by_type: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for planned in &plan.tensors {
        let weights: u64 = planned.matrix.shape.iter().product();
        let sums = by_type.entry(planned.dtype.name()).or_default();
        *sums = (sums.0 + 1, sums.1 + weights, sums.2 + planned.bytes());
        let dims = format!("{:?}", planned.matrix.dims());
        writeln!(
            out,
            "{:<36} {dims:<20} {:<6} {:>10}",
            planned.matrix.name,
            planned.dtype.name(),
            terminal::bytes(planned.bytes())
        )?;
    }
    writeln!(out)?;
    for (name, (tensors, weights, bytes)) in by_type {
        writeln!(
            out,
            "{name:<6} {tensors:>4} tensors {:>10} weights {:>10}",
            terminal::count(weights),
            terminal::bytes(bytes)
        )?;
    }
    let weights: u64 = plan
        .tensors
        .iter()
        .flat_map(|planned| planned.matrix.shape.iter().copied().reduce(|a, b| a * b))
        .sum();
    writeln!(
        out,
        "{}: {} tensors, {} bytes, {:.2} bits per weight",
        path.display(),
        plan.tensors.len(),
        terminal::grouped(plan.bytes()),
        8.0 * plan.bytes() as f64 / weights as f64
    )?;
    Ok(out.flush()?)
}

fn output_path(wish: Option<&Path>, name: &str) -> PathBuf {
    match wish {
        Some(folder) if folder.is_dir() => folder.join(name),
        Some(file) => file.to_owned(),
        None => PathBuf::from(name),
    }
}

fn output_type(text: &str) -> Result<OutputType, String> {
    OutputType::from_name(text).ok_or_else(|| "expected mxfp4, q8_0, bf16, f16 or f32".to_owned())
}

/// `40G`, `500M`: powers of ten, as disks are sold and as llama.cpp's splitter counts.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].trim_end_matches(['b', 'B']) {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        "t" | "T" => 1_000_000_000_000,
        _ => 0,
    };
    let number = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    number
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "expected a size such as 40G or 500M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!(size("40G"), Ok(40_000_000_000));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("1234"), Ok(1234));
        for wrong in ["", "G", "0", "-1G", "4Q", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
