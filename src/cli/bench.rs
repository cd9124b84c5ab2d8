//! `fourfold bench`: how fast a model runs here, beside what this machine could do at most.

mod report;
mod status;

use super::model_file::ModelArgs;
use super::{interrupt, terminal};
use anyhow::bail;
use fourfold::model::{Batch, Ceilings, Logits, Model, Sequence};
use status::Status;
use std::time::{Duration, Instant};

/// Measure the speed of a model, and this machine's ceilings in the same run
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold bench model.gguf
  fourfold bench model.gguf -p 512,2048 -n 0 -d 4096 -r 3 -o json
  fourfold bench model.gguf -v    (also says where the time goes)")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Lengths of the prompts to read; 0 for none
    #[arg(
        short,
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "512"
    )]
    prompt: Vec<usize>,
    /// Numbers of tokens to generate one by one; 0 for none
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "128"
    )]
    generate: Vec<usize>,
    /// Tokens that are in the cache before
    #[arg(
        short,
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "0"
    )]
    depth: Vec<usize>,
    /// How often to repeat each test
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Form of the result
    #[arg(short, long, value_name = "FORM", default_value = "md")]
    output: Form,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Form {
    /// A table in Markdown
    Md,
    /// An array of objects
    Json,
    /// Comma-separated values
    Csv,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Test {
    Prompt(usize),
    Generate(usize),
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    interrupt::install()?;
    let tests = tests(&args)?;
    let start = Instant::now();
    let model = args.model.open()?;
    check_room(&model, &args.depth, &tests)?;
    let mut logits = Logits::default();
    model.extend(&mut model.new_sequence(), &[0], &mut logits)?;
    let first_token = start.elapsed();

    // Before and after, because the speed of shared machines drifts.
    let before = ceilings(&model);
    let mut results = Vec::new();
    for &depth in &args.depth {
        let filled = fill(&model, depth, &mut logits)?;
        for &test in &tests {
            let speeds = repeat(&model, &filled, test, args.repetitions, &mut logits)?;
            if super::verbosity() > 0 {
                report::phases(&model, test, depth, args.repetitions);
            }
            results.push(report::Result {
                test,
                depth,
                speeds,
            });
        }
    }
    let after = ceilings(&model);
    let ceilings = Ceilings {
        read_gb_s: before.read_gb_s.max(after.read_gb_s),
        gmac_s: before.gmac_s.max(after.gmac_s),
    };
    if super::verbosity() > 0 {
        let memory = report::peak_memory().map_or("unknown".into(), terminal::bytes);
        eprintln!(
            "first logits {:.3} s after the start, peak memory {memory}",
            first_token.as_secs_f64()
        );
    }
    report::print(&model, &results, &ceilings, args.output)
}

fn ceilings(model: &Model) -> Ceilings {
    let status = Status::new();
    status.show("measuring what this machine could do");
    model.ceilings()
}

fn tests(args: &Args) -> anyhow::Result<Vec<Test>> {
    let above_zero = |numbers: &[usize], test: fn(usize) -> Test| -> Vec<Test> {
        let numbers = numbers.iter().filter(|&&number| number > 0);
        numbers.map(|&number| test(number)).collect()
    };
    let mut tests = above_zero(&args.prompt, Test::Prompt);
    tests.extend(above_zero(&args.generate, Test::Generate));
    if tests.is_empty() {
        bail!("nothing to measure: give -p or -n a number above 0");
    }
    Ok(tests)
}

/// Refuses what does not fit, before the minutes that filling takes.
fn check_room(model: &Model, depths: &[usize], tests: &[Test]) -> anyhow::Result<()> {
    let most = model.config().context;
    let (limit, remedy) = match model.options().context {
        0 => (most, ""),
        limit if limit < most => (limit, ", or raise --ctx"),
        limit => (limit, ""),
    };
    let longest = tests.iter().max_by_key(|test| test.tokens());
    let (Some(depth), Some(test)) = (depths.iter().max(), longest) else {
        return Ok(());
    };
    if depth.saturating_add(test.tokens()) > limit {
        let option = test.option();
        bail!(
            "--depth {depth} and {option} {} do not fit in a context of {limit} tokens: lower one of them{remedy}",
            test.tokens()
        );
    }
    Ok(())
}

/// A sequence of so many tokens. On a large model that takes minutes, so it shows how far it is and can be stopped.
fn fill(model: &Model, depth: usize, logits: &mut Logits) -> anyhow::Result<Sequence> {
    let status = Status::new();
    let mut sequence = model.new_sequence();
    for piece in tokens(model, depth).chunks(model.chunk()) {
        status.show(&format!("filling {} of {depth} tokens", sequence.len()));
        if interrupt::requested() {
            bail!(interrupt::Interrupted);
        }
        model.extend(&mut sequence, piece, logits)?;
    }
    Ok(sequence)
}

impl Test {
    /// The option that asks for it.
    fn option(self) -> &'static str {
        match self {
            Test::Prompt(_) => "-p",
            Test::Generate(_) => "-n",
        }
    }

    fn name(self) -> String {
        match self {
            Test::Prompt(n) => format!("pp{n}"),
            Test::Generate(n) => format!("tg{n}"),
        }
    }

    fn tokens(self) -> usize {
        let (Test::Prompt(n) | Test::Generate(n)) = self;
        n
    }

    /// A few generated tokens are enough to warm up.
    fn shortened(self) -> Self {
        match self {
            Test::Generate(n) => Test::Generate(n.min(4)),
            test => test,
        }
    }
}

/// Tokens that look like text to the router: all over the vocabulary, the same in every run.
fn tokens(model: &Model, count: usize) -> Vec<u32> {
    let vocabulary = model.config().vocabulary as u64;
    (0..count as u64)
        .map(|i| ((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % vocabulary)
        .map(|token| token as u32)
        .collect()
}

/// The speeds of a test, in tokens per second.
fn repeat(
    model: &Model,
    filled: &Sequence,
    test: Test,
    repetitions: u32,
    logits: &mut Logits,
) -> anyhow::Result<Vec<f64>> {
    let status = Status::new();
    let name = format!("{} at depth {}", test.name(), filled.len());
    status.show(&format!("{name}: warming up"));
    // Not counted: it takes memory and fills the processor's caches.
    measure(model, filled, test.shortened(), logits)?;
    model.take_phases();
    let mut speeds = Vec::new();
    for number in 1..=repetitions {
        status.show(&format!("{name}: {number} of {repetitions}"));
        let time = measure(model, filled, test, logits)?;
        speeds.push(test.tokens() as f64 / time.as_secs_f64());
    }
    Ok(speeds)
}

fn measure(
    model: &Model,
    filled: &Sequence,
    test: Test,
    logits: &mut Logits,
) -> anyhow::Result<Duration> {
    let mut sequence = filled.clone();
    let tokens = tokens(model, test.tokens());
    if interrupt::requested() {
        bail!(interrupt::Interrupted);
    }
    let start = Instant::now();
    match test {
        Test::Prompt(_) => model.extend(&mut sequence, &tokens, logits)?,
        Test::Generate(_) => {
            for &token in &tokens {
                if interrupt::requested() {
                    bail!(interrupt::Interrupted);
                }
                let batch = Batch::continuing(sequence.len(), &[token]);
                model.forward(&batch, &mut [&mut sequence], logits)?;
            }
        }
    }
    Ok(start.elapsed())
}
