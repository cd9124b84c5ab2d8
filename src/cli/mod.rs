//! The command line: one file per subcommand. The terminal lives here and nowhere else.

use clap::Parser;

/// Run OpenAI's open-weight models on the machine you own.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {}

/// Reads the command line; a wrong one ends the program with status 2 and a usage message.
pub fn parse() -> Cli {
    Cli::parse()
}

/// Does what was asked for.
pub fn run(_cli: Cli) -> anyhow::Result<()> {
    Ok(())
}
