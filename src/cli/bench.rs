//! `fourfold bench`: how fast a model runs here, beside what this machine could do at most.

use super::model_file::ModelArgs;
use super::{devices, interrupt, terminal};
use anyhow::bail;
use fourfold::model::{Batch, Ceilings, Logits, Model, Sequence};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
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

/// A test's outcome.
struct Result {
    test: Test,
    depth: usize,
    /// Tokens per second of each repetition.
    speeds: Vec<f64>,
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
    let before = model.ceilings();
    let mut results = Vec::new();
    for &depth in &args.depth {
        let filled = fill(&model, depth, &mut logits)?;
        for &test in &tests {
            let mut speeds = Vec::new();
            // The first run is not counted: it takes memory and fills the processor's caches.
            for repetition in 0..=args.repetitions {
                if interrupt::requested() {
                    bail!(interrupt::Interrupted);
                }
                if repetition == 1 {
                    model.take_phases();
                }
                let warm_up = repetition == 0;
                let time = measure(&model, &filled, test.shortened(warm_up), &mut logits)?;
                if !warm_up {
                    speeds.push(test.tokens() as f64 / time.as_secs_f64());
                }
            }
            if super::verbosity() > 0 {
                show_phases(&model, test, depth, args.repetitions);
            }
            results.push(Result {
                test,
                depth,
                speeds,
            });
        }
    }
    let after = model.ceilings();
    let ceilings = Ceilings {
        read_gb_s: before.read_gb_s.max(after.read_gb_s),
        gmac_s: before.gmac_s.max(after.gmac_s),
    };
    if super::verbosity() > 0 {
        let memory = peak_memory().map_or("unknown".into(), terminal::bytes);
        eprintln!(
            "first logits {:.3} s after the start, peak memory {memory}",
            first_token.as_secs_f64()
        );
    }
    print(&model, &results, &ceilings, args.output)
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
    let shows_status = terminal::stderr_has_color() && io::stderr().is_terminal();
    let mut sequence = model.new_sequence();
    let mut filling = Ok(());
    for piece in tokens(model, depth).chunks(model.chunk()) {
        if shows_status {
            eprint!("\r\x1b[2Kfilling {} of {depth} tokens", sequence.len());
        }
        filling = match interrupt::requested() {
            true => Err(interrupt::Interrupted.into()),
            false => (model.extend(&mut sequence, piece, logits)).map_err(anyhow::Error::from),
        };
        if filling.is_err() {
            break;
        }
    }
    if shows_status {
        eprint!("\r\x1b[2K");
    }
    filling.map(|()| sequence)
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
    fn shortened(self, shorten: bool) -> Self {
        match self {
            Test::Generate(n) if shorten => Test::Generate(n.min(4)),
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

fn measure(
    model: &Model,
    filled: &Sequence,
    test: Test,
    logits: &mut Logits,
) -> anyhow::Result<Duration> {
    let mut sequence = filled.clone();
    let tokens = tokens(model, test.tokens());
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

fn show_phases(model: &Model, test: Test, depth: usize, repetitions: u32) {
    let phases = model.take_phases();
    let total: Duration = phases.spent().map(|(_, time)| time).sum();
    eprintln!("{} at depth {depth}:", test.name());
    for (name, time) in phases.spent() {
        let share = 100.0 * time.as_secs_f64() / total.as_secs_f64();
        let each = time.as_secs_f64() * 1e3 / f64::from(repetitions) / test.tokens() as f64;
        eprintln!("  {name:<26} {share:5.1} %  {each:9.4} ms a token");
    }
}

impl Result {
    fn mean(&self) -> f64 {
        self.speeds.iter().sum::<f64>() / self.speeds.len() as f64
    }

    /// The deviation of a sample; 0 for one value.
    fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.speeds.iter().map(|speed| (speed - mean).powi(2)).sum();
        (squares / (self.speeds.len().max(2) - 1) as f64).sqrt()
    }

    /// Tokens per second that the ceilings allow, the work of attention and the head of a prompt left out.
    fn ceiling(&self, model: &Model, ceilings: &Ceilings) -> f64 {
        let (config, weights) = (model.config(), model.weights());
        match self.test {
            Test::Prompt(_) => {
                ceilings.gmac_s * 1e9 / weights.multiplications_per_token(config) as f64
            }
            Test::Generate(_) => ceilings.read_gb_s * 1e9 / weights.bytes_per_token(config) as f64,
        }
    }
}

fn print(model: &Model, results: &[Result], ceilings: &Ceilings, form: Form) -> anyhow::Result<()> {
    let mut out = terminal::stdout();
    match form {
        Form::Md => {
            writeln!(out, "| test | depth | tokens/s | ceiling | share |")?;
            writeln!(out, "|---|---|---|---|---|")?;
            for result in results {
                let (mean, ceiling) = (result.mean(), result.ceiling(model, ceilings));
                writeln!(
                    out,
                    "| {} | {} | {mean:.2} ± {:.2} | {ceiling:.1} | {:.0} % |",
                    result.test.name(),
                    result.depth,
                    result.deviation(),
                    100.0 * mean / ceiling
                )?;
            }
            writeln!(
                out,
                "\n{} on {}, {} threads, {} kernels; this machine reads the weights at {:.1} GB/s and multiplies at {:.0} GMAC/s.",
                terminal::plain(&model.path().display().to_string()),
                terminal::plain(&devices::processor()),
                model.threads(),
                model.isa(),
                ceilings.read_gb_s,
                ceilings.gmac_s,
            )?;
        }
        Form::Json => {
            let list: Vec<Value> = results
                .iter()
                .map(|result| describe(model, result, ceilings))
                .collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
        }
        Form::Csv => {
            writeln!(
                out,
                "test,n_prompt,n_gen,depth,mean,std,threads,isa,read_gb_s,gmac_s"
            )?;
            for result in results {
                let (n_prompt, n_gen) = result.counts();
                writeln!(
                    out,
                    "{},{n_prompt},{n_gen},{},{},{},{},{},{},{}",
                    result.test.name(),
                    result.depth,
                    result.mean(),
                    result.deviation(),
                    model.threads(),
                    model.isa(),
                    ceilings.read_gb_s,
                    ceilings.gmac_s
                )?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

impl Result {
    fn counts(&self) -> (usize, usize) {
        match self.test {
            Test::Prompt(n) => (n, 0),
            Test::Generate(n) => (0, n),
        }
    }
}

fn describe(model: &Model, result: &Result, ceilings: &Ceilings) -> Value {
    let (config, weights) = (model.config(), model.weights());
    let (n_prompt, n_gen) = result.counts();
    let bytes: u64 = model.file().parts().map(|part| part.1).sum();
    json!({
        "test": result.test.name(),
        "n_prompt": n_prompt,
        "n_gen": n_gen,
        "depth": result.depth,
        "tokens_per_second": {"mean": result.mean(), "std": result.deviation()},
        "threads": model.threads(),
        "isa": model.isa(),
        "model": {
            "path": model.path().display().to_string(),
            "bytes": bytes,
            "layers": config.layers,
            "experts": config.experts,
            "bytes_per_token": weights.bytes_per_token(config),
            "multiplications_per_token": weights.multiplications_per_token(config),
        },
        "ceilings": {"read_gb_s": ceilings.read_gb_s, "gmac_s": ceilings.gmac_s},
    })
}

/// Most memory that this process had at once, pages of the map included.
fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
