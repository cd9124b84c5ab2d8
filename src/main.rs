//! The `fourfold` program: parse the command line, run it, turn the outcome into an exit status.

/// Unlike the standard library's, these go on where nobody listens any more: what is said there is said beside the work.
macro_rules! eprint {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = write!(std::io::stderr(), $($text)*);
    }};
}
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod cli;

use fourfold::generate;
use std::borrow::Cow;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::interrupt::survive_file_limit();
    let Err(error) = cli::run(cli::parse()) else {
        return ExitCode::SUCCESS;
    };
    if was_interrupted(&error) {
        eprintln!("{}", cli::interrupt::Interrupted);
        return ExitCode::from(cli::interrupt::EXIT_CODE);
    }
    if reader_has_gone(&error) || error.is::<cli::placement::Shown>() {
        return ExitCode::SUCCESS;
    }
    let label = cli::terminal::paint_stderr(cli::terminal::Style::Red, "error:");
    // Much of what errors quote comes from files.
    let error = format!("{error:#}");
    let error = ends(&error);
    let lines: Vec<_> = error.split('\n').map(cli::terminal::plain).collect();
    eprintln!("{label} {}", lines.join("\n"));
    ExitCode::FAILURE
}

/// A message, or of one that quotes a megabyte its beginning and its end: what is wrong stands in either.
fn ends(message: &str) -> Cow<'_, str> {
    const MOST: usize = 2000;
    let begin = message.char_indices().nth(MOST);
    let end = message.char_indices().nth_back(MOST);
    match (begin, end) {
        (Some((begin, _)), Some((end, _))) if begin < end => {
            format!("{} … {}", &message[..begin], &message[end..]).into()
        }
        _ => message.into(),
    }
}

/// Whether somebody asked for the end, be it while a prompt was read.
fn was_interrupted(error: &anyhow::Error) -> bool {
    let reading = error.downcast_ref::<generate::Error>();
    error.is::<cli::interrupt::Interrupted>()
        || matches!(reading, Some(generate::Error::Interrupted))
}

/// Whether the error is that nobody reads standard output any more, as after `| head`.
fn reader_has_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
