//! `fourfold chat`: a conversation in the terminal.

mod actions;
mod background;
mod commands;
mod display;
mod input;
mod repl;
mod statistics;
mod tool;
mod toolbox;
mod turn;

use super::interrupt;
use super::model_file::ModelArgs;
use super::talking::{self, TalkingArgs};
use commands::Thinking;
use fourfold::generate::Generator;
use fourfold::session;
use repl::Repl;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toolbox::Toolbox;

/// Talk with a model
///
/// /help lists the commands. Ctrl-C stops an answer, Ctrl-D leaves. Fed from a pipe, the exit status is 1 if a turn or a command
/// failed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold chat model.gguf
  fourfold chat model.gguf --system 'Answer in one sentence' --reasoning-effort low
  fourfold chat model.gguf --session work.session
  fourfold chat model.gguf --tools tools.json --tool get_weather=./weather.sh

A tool's command gets the arguments of a call as JSON on its standard input, and what it prints is
the result. A tool that --tools does not describe takes no arguments.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What to show of the thinking [default: show on a terminal, hide in a pipe]
    #[arg(long, value_name = "HOW")]
    think: Option<Thinking>,
    /// Continue the conversation in this file with its settings, and keep it there after every turn
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// If the cache in the session is another model's, or damaged, read the text again
    #[arg(long, requires = "session")]
    rebuild_session: bool,
    /// A command that answers a tool's calls; can be given several times
    #[arg(long = "tool", value_name = "NAME=COMMAND")]
    commands: Vec<String>,
    /// Run tools without asking
    #[arg(long)]
    yes_tools: bool,
    /// Stop a tool that takes longer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    tool_timeout: u64,
    #[command(flatten)]
    talking: TalkingArgs,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut toolbox = Toolbox::new(&args.commands, args.yes_tools)?;
    if let Some(file) = &args.session {
        session::check_place(file)?;
    }
    toolbox.limit = Duration::from_secs(args.tool_timeout);
    let mut model = talking::model(&args.model)?;
    // Nobody types as fast as a disk reads.
    model.read_ahead();
    let generator = Generator::new(Arc::new(model))?;
    let mut session = args.talking.session(generator, &args.model.modelfile()?)?;
    match &args.session {
        Some(file) if file.exists() => {
            args.talking
                .resume(&mut session, file, args.rebuild_session)?;
        }
        Some(file) => session.claim(file),
        None => {}
    }
    toolbox.declare(&mut session, args.talking.strict_tools)?;
    interrupt::install_for_conversation()?;
    #[cfg(unix)]
    interrupt::restore_terminal_at_end()?;
    let think = args.think.unwrap_or_default();
    let mut repl = Repl::new(session, args.session, args.talking, toolbox, think)?;
    let ended = repl.run();
    // Whatever ended it, what was said is kept.
    repl.keep()?;
    ended?;
    // A person has seen what failed; a script has only the status.
    if repl.has_failed() && !std::io::stdin().is_terminal() {
        std::process::exit(1);
    }
    Ok(())
}
