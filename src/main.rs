//! The `fourfold` program: parse the command line, run it, turn the outcome into an exit status.

mod cli;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Err(error) = cli::run(cli::parse()) else {
        return ExitCode::SUCCESS;
    };
    if error.is::<cli::interrupt::Interrupted>() {
        eprintln!("{error}");
        return ExitCode::from(cli::interrupt::EXIT_CODE);
    }
    if reader_has_gone(&error) || error.is::<cli::placement::Shown>() {
        return ExitCode::SUCCESS;
    }
    let label = cli::terminal::paint_stderr(cli::terminal::Style::Red, "error:");
    eprintln!("{label} {error:#}");
    ExitCode::FAILURE
}

/// Whether the error is that nobody reads standard output any more, as after `| head`.
fn reader_has_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
