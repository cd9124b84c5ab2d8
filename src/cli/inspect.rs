//! `fourfold inspect`: what is in a model file.

mod json;
mod summary;

use std::io::Write;
use std::path::PathBuf;

use fourfold_quantize::check::{BadTensor, check};
use fourfold_quantize::gguf::Gguf;

use self::summary::Summary;
use super::progress::Progress;
use super::terminal::Style;
use super::{interrupt, model_file, terminal};

/// Show what a GGUF file holds
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold inspect gpt-oss-20b-mxfp4.gguf
  fourfold inspect gpt-oss-120b-mxfp4-00001-of-00003.gguf --tensors
  fourfold inspect model.gguf --check
  fourfold inspect model.gguf --json | jq .summary")]
pub struct Args {
    /// The file (of a split model, the first part), or a name that Ollama has for it
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Everything, metadata included, as JSON
    #[arg(long, conflicts_with = "tensors")]
    json: bool,
    /// Look at every block for values that no model should hold, and fail if there are any
    #[arg(long)]
    check: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let gguf = Gguf::open_any(&model_file::find(&args.file)?)?;
    let bad = match args.check {
        true => Some(run_check(&gguf)?),
        false => None,
    };
    let summary = Summary::of(&gguf);
    let mut out = terminal::stdout();
    if args.json {
        json::write(&gguf, &summary, bad.as_deref(), &mut out)?;
    } else {
        summary.write(&mut out)?;
        if args.tensors {
            list_tensors(&gguf, &mut out)?;
        }
        if let Some(bad) = &bad {
            report(bad, &gguf, &mut out)?;
        }
    }
    out.flush()?;
    let bad = bad.map_or(0, |bad| bad.len());
    anyhow::ensure!(
        bad == 0,
        "{:?}: {bad} of {} tensors have bad blocks; the file is damaged, fetch or convert it again",
        args.file,
        gguf.tensor_count()
    );
    Ok(())
}

fn run_check(gguf: &Gguf) -> anyhow::Result<Vec<BadTensor>> {
    interrupt::install()?;
    let bytes = gguf.infos().map(|info| info.bytes.len() as u64).sum();
    let progress = Progress::bytes("Checking", bytes);
    let add = |bytes| progress.add(bytes);
    check(gguf, super::threads(), &add, &interrupt::requested)
        .map_err(|_| interrupt::Interrupted.into())
}

fn report(bad: &[BadTensor], gguf: &Gguf, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out)?;
    for BadTensor {
        tensor,
        block,
        problem,
    } in bad
    {
        let line = format!("{}: block {block}: {problem}", terminal::plain(tensor));
        writeln!(out, "{}", terminal::paint(Style::Red, &line))?;
    }
    let unknown = gguf.infos().filter(|info| info.tensor_type.dtype.is_none());
    let unknown = unknown.count();
    if bad.is_empty() {
        let checked = gguf.tensor_count() - unknown;
        writeln!(out, "every block of {checked} tensors is fine")?;
    }
    if unknown > 0 {
        let line = format!("{unknown} tensors have types that cannot be checked");
        writeln!(out, "{}", terminal::paint(Style::Yellow, &line))?;
    }
    Ok(())
}

fn list_tensors(gguf: &Gguf, out: &mut impl Write) -> std::io::Result<()> {
    let name = |name| terminal::plain(name).into_owned();
    let widest = gguf.infos().map(|info| name(info.name).chars().count());
    let width = widest.max().unwrap_or(0).max(6);
    let heading = format!(
        "\n{:<width$}  {:<8} {:<22} {:>13} {:>15}",
        "tensor", "type", "shape (row first)", "bytes", "at"
    );
    writeln!(out, "{}", terminal::paint(Style::Bold, &heading))?;
    let is_split = gguf.parts().len() > 1;
    for info in gguf.infos() {
        write!(
            out,
            "{:<width$}  {:<8} {:<22} {:>13} {:>15}",
            name(info.name),
            info.tensor_type.name,
            format!("{:?}", info.dims),
            terminal::grouped(info.bytes.len() as u64),
            terminal::grouped(info.offset),
        )?;
        match is_split {
            true => writeln!(out, "  part {}", info.part + 1)?,
            false => writeln!(out)?,
        }
    }
    Ok(())
}
