//! The command line: one file per subcommand. The terminal lives here and nowhere else.
//!
//! A subcommand is a file with `pub struct Args` (clap) and `pub fn run(args: Args) -> anyhow::Result<()>`, and one arm
//! in each of the two lists below. Results go to [`terminal::stdout`], everything else to stderr; long work shows a
//! [`progress::Progress`] and asks [`interrupt::requested`] now and then.

mod bench;
mod chat;
mod convert;
mod devices;
mod eval;
mod input_file;
mod inspect;
pub mod interrupt;
mod logits;
mod map_fault;
mod markdown;
pub mod model_file;
mod npy;
mod ollama;
mod output;
mod perplexity;
pub mod placement;
mod plan;
pub mod progress;
mod prompt;
mod quantize;
mod run;
mod sampling;
mod size;
mod talking;
pub mod terminal;
mod tokenize;

use std::sync::OnceLock;

use clap::{Parser, Subcommand};
use fourfold::threads::{MOST_THREADS, Pool, start_rayon};

/// Run OpenAI's open-weight models on the machine you own.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options that every subcommand takes.
#[derive(clap::Args, Clone, Debug)]
pub struct Globals {
    /// Threads to compute with, at most 1024 [default: one for each core]
    #[arg(short, long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_THREADS)))]
    threads: Option<u16>,
    /// Say more about what is going on
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: terminal::Color,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    Chat(chat::Args),
    Convert(convert::Args),
    Devices(devices::Args),
    Eval(eval::Args),
    Inspect(inspect::Args),
    Logits(logits::Args),
    Perplexity(perplexity::Args),
    Prompt(prompt::Args),
    Quantize(quantize::Args),
    Run(run::Args),
    Tokenize(tokenize::Args),
}

static GLOBALS: OnceLock<Globals> = OnceLock::new();

/// Reads the command line; a wrong one ends the program with status 2 and a usage message.
pub fn parse() -> Cli {
    Cli::parse()
}

/// Does what was asked for.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let _ = GLOBALS.set(cli.globals);
    map_fault::explain();
    start_rayon(threads());
    if verbosity() > 0 {
        fourfold::model::offload::listen(|line| eprintln!("{line}"));
    }
    match cli.command {
        Command::Bench(args) => bench::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Prompt(args) => prompt::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Run(args) => run::run(args),
        Command::Tokenize(args) => tokenize::run(args),
    }
}

/// How many threads to compute with: `--threads`, or one for each core.
pub fn threads() -> usize {
    match GLOBALS.get().and_then(|globals| globals.threads) {
        Some(threads) => threads.into(),
        None => Pool::default_threads(),
    }
}

/// How often `-v` was given.
pub fn verbosity() -> u8 {
    GLOBALS.get().map_or(0, |globals| globals.verbose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
