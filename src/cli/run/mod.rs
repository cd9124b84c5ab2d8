//! `fourfold run`: one answer.

pub mod output;
pub mod prompt;

use super::interrupt::{self, Interrupted};
use super::model_file::ModelArgs;
use super::talking::{self, TalkingArgs};
use anyhow::bail;
use fourfold::generate::{Finish, Generation, Generator, Outcome, Request};
use fourfold::sample::Sampler;
use fourfold::session;
use output::Output;
use std::path::PathBuf;
use std::time::Instant;

/// The status that says: the model asks for a tool.
const TOOL_STATUS: i32 = 3;

/// Answer one prompt
///
/// The prompt is -p, then the file of -f, then what is piped in, with an empty line between them.
/// Only the answer goes to standard output.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold run model.gguf -p 'Name three rivers in Peru'
  git diff | fourfold run model.gguf -p 'Write a commit message for this change'
  fourfold run model.gguf -f report.txt --schema summary.json > summary.out.json
  fourfold run model.gguf -p 'Weather in Bern?' --tools tools.json; echo $?
  fourfold run model.gguf --raw -p 'Once upon a time' -n 50 --temp 0

Exit status: 0 the answer is complete, or -n was reached; 1 failed (an answer cut off before it
matched its schema, too); 2 wrong usage; 3 the model called a tool, which is printed as JSON;
130 interrupted")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the prompt; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Continue the prompt as plain text, without the conversation around it
    #[arg(long, conflicts_with_all = ["system", "tools", "strict_tools", "session"])]
    raw: bool,
    /// Print one JSON object: content, reasoning, tool_calls, finish_reason, usage, timings
    #[arg(long)]
    json: bool,
    /// Show the thinking on standard error, also when that is no terminal
    #[arg(long)]
    show_reasoning: bool,
    /// Continue the conversation in this file with its settings, and keep it there; made if it does not exist
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// If the cache in the session is another model's, or damaged, read the text again
    #[arg(long, requires = "session")]
    rebuild_session: bool,
    #[command(flatten)]
    talking: TalkingArgs,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let text = prompt::gather(args.prompt.as_deref(), args.file.as_ref())?;
    if let Some(file) = &args.session {
        session::check_place(file)?;
    }
    interrupt::install()?;
    let start = Instant::now();
    let generator = talking::generator(&args.model)?;
    let output = Output::new(args.json, args.show_reasoning, args.raw);
    if args.raw {
        return raw(&args, generator, &text, output, start);
    }
    let mut session = args.talking.session(generator, &args.model.modelfile()?)?;
    match &args.session {
        Some(file) if file.exists() => {
            args.talking
                .resume(&mut session, file, args.rebuild_session)?;
            // An answer is free unless this run asks for a form.
            if !args.talking.is_constrained() {
                session.clear_schema();
            }
        }
        Some(file) => session.claim(file),
        None => {}
    }
    if args.talking.strict_tools {
        session.constrain_calls()?;
    }
    session.say(text);
    let load = start.elapsed();
    let mut output = output;
    let outcome = {
        let total = session.prompt().len();
        let generation = session.turn(&mut |done| output.reading(done, total))?;
        follow(generation, &mut output)?
    };
    session.accept(&outcome);
    if let Some(file) = &args.session {
        output.end_line()?;
        session.save(file)?;
    }
    let call = session::call(&outcome);
    output.finish(&outcome, call, load)?;
    after(&args, &outcome, call.is_some(), &output)
}

/// Runs a generation to its end, or to Ctrl-C.
fn follow(generation: Generation<'_>, output: &mut Output) -> anyhow::Result<Outcome> {
    let mut generation = generation.stop_when(&interrupt::requested);
    for event in generation.by_ref() {
        output.event(&event?)?;
        if interrupt::requested() {
            output.end_line()?;
            bail!(Interrupted);
        }
    }
    Ok(generation.finish()?)
}

/// Continues plain text.
fn raw(
    args: &Args,
    mut generator: Generator,
    text: &str,
    mut output: Output,
    start: Instant,
) -> anyhow::Result<()> {
    let prompt = generator.tokenizer().encode(text);
    let sampling = &args.talking.sampling;
    let (settings, seed) = sampling.settings(generator.tokenizer(), &args.model.modelfile()?)?;
    let mut sampler = Sampler::new(settings, seed)?;
    let total = prompt.len();
    let mut request = Request::raw(prompt, &mut sampler);
    request.max_tokens = args.talking.max_tokens;
    request.stop = args.talking.stop.clone();
    request.answer = args.talking.constraint(&generator)?;
    request.speculate = !args.talking.no_speculation;
    let load = start.elapsed();
    let generation = generator.generate(request, &mut |done| output.reading(done, total))?;
    let outcome = follow(generation, &mut output)?;
    output.finish(&outcome, None, load)?;
    after(args, &outcome, false, &output)
}

/// The exit status that the outcome deserves.
fn after(args: &Args, outcome: &Outcome, called: bool, output: &Output) -> anyhow::Result<()> {
    if called {
        std::process::exit(TOOL_STATUS);
    }
    let is_constrained = args.talking.is_constrained();
    let tokens = outcome.tokens.len();
    match outcome.finish {
        Finish::Length | Finish::ContextFull if is_constrained => bail!(
            "the answer was cut off after {tokens} tokens, before it matched what was asked for: raise -n or --ctx"
        ),
        Finish::ContextFull => {
            eprintln!("the context is full: the answer was cut off after {tokens} tokens");
            Ok(())
        }
        Finish::Length if !output.has_answer() => {
            eprintln!("cut off after {tokens} tokens, before there was an answer: raise -n");
            Ok(())
        }
        _ => Ok(()),
    }
}
