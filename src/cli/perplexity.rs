//! `fourfold perplexity`: how well a model predicts a text, and how far it is from another run on the same text.

mod statistics;

use super::model_file::ModelArgs;
use super::output::Output;
use super::progress::Progress;
use super::{input_file, interrupt, npy, terminal};
use anyhow::{Context, bail};
use fourfold::model::{Batch, Logits, Model};
use fourfold::tokenizer::Tokenizer;
use serde_json::json;
use statistics::{Mean, highest, log_softmax, log_sum_exp, quantile};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

/// Tokens of a piece when --ctx is not given.
const PIECE: usize = 512;
/// Shorter pieces leave nothing to predict from.
const SHORTEST: usize = 4;
/// Tokens in a pass: with gpt-oss's vocabulary 100 MB of logits.
const PASS: usize = 128;

/// Measure how well a model predicts a text
///
/// The text is cut into pieces of --ctx tokens [default: 512]. Each is read from an empty cache, and the predictions in
/// its second half count, as in llama.cpp. With --kl-base, also says how far the predictions are from saved ones.
#[derive(clap::Args)]
#[command(mut_arg("ctx", |ctx| ctx.help("Tokens of a piece [default: 512]")))]
#[command(after_help = "Examples:
  fourfold perplexity model.gguf -f text.txt
  fourfold perplexity model.gguf -f text.txt --exact --save-logits exact.npy
  fourfold perplexity model.gguf -f text.txt --kl-base exact.npy")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A file with the text; - is standard input
    #[arg(short, long)]
    file: PathBuf,
    /// Write all logits that count, as a float32 NumPy file of shape [predictions, vocabulary]
    #[arg(long, value_name = "F")]
    save_logits: Option<PathBuf>,
    /// Compare with logits that --save-logits wrote on the same text with the same --ctx
    #[arg(long, value_name = "F")]
    kl_base: Option<PathBuf>,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// Replace a file that exists; only a NumPy file is replaced
    #[arg(long)]
    force: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let asked = args.model.ctx;
    if (1..SHORTEST).contains(&asked) {
        bail!("--ctx is {asked}, but a piece of at least {SHORTEST} tokens is needed");
    }
    interrupt::install()?;
    let text = input_file::read(&args.file)?;
    let model = args.model.open()?;
    let mut tokens = Vec::new();
    Tokenizer::from_gguf(model.file())?.encode_bytes_into(&text, &mut tokens);
    let piece = match asked {
        0 => PIECE.min(model.config().context),
        ctx => ctx,
    };
    let piece = piece.min(tokens.len());
    if piece < SHORTEST {
        bail!(
            "{} has {} tokens: at least {SHORTEST} are needed",
            input_file::name(&args.file),
            tokens.len()
        );
    }
    let plan = Plan {
        pieces: tokens.len() / piece,
        piece,
        first: piece / 2,
    };
    let vocabulary = model.config().vocabulary;
    let mut saved = match &args.save_logits {
        Some(path) => {
            let mut out = Output::create(path, args.force, npy::MAGIC)?;
            out.check_space(npy::size(plan.predictions(), vocabulary))?;
            npy::write_header(&mut out, plan.predictions(), vocabulary)?;
            Some(out)
        }
        None => None,
    };
    let mut base = match &args.kl_base {
        Some(path) => Some(Base::open(path, plan.predictions(), vocabulary)?),
        None => None,
    };

    let mut losses = Vec::new();
    plan.each_prediction(&model, &tokens, |logits, target| {
        losses.push(-log_softmax(logits, target));
        if let Some(out) = &mut saved {
            npy::write_row(out, logits)?;
        }
        base.as_mut()
            .map_or(Ok(()), |base| base.compare(logits, target))
    })?;
    if let Some(out) = saved {
        out.finish()?;
    }
    print(&Mean::of(&losses), base, args.json)
}

/// Which predictions count.
struct Plan {
    pieces: usize,
    piece: usize,
    /// The first position of a piece whose prediction counts.
    first: usize,
}

impl Plan {
    fn predictions(&self) -> usize {
        self.pieces * (self.piece - 1 - self.first)
    }

    /// Tokens that the model reads: of every piece the last is only predicted.
    fn tokens(&self) -> usize {
        self.pieces * (self.piece - 1)
    }

    /// Calls `visit` with the logits of every prediction that counts and the token that follows.
    fn each_prediction(
        &self,
        model: &Model,
        tokens: &[u32],
        mut visit: impl FnMut(&[f32], u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut logits = Logits::default();
        let progress = Progress::things("Reading", "tokens", self.tokens());
        for piece in tokens.chunks_exact(self.piece) {
            let mut sequence = model.new_sequence();
            for part in piece[..self.first].chunks(model.chunk()) {
                check_interrupt()?;
                model.extend(&mut sequence, part, &mut logits)?;
                progress.add(part.len() as u64);
            }
            let last = self.piece - 1;
            for start in (self.first..last).step_by(PASS) {
                check_interrupt()?;
                let end = (start + PASS).min(last);
                let mut batch = Batch::continuing(start, &piece[start..end]);
                batch.want_all_logits();
                model.forward(&batch, &mut [&mut sequence], &mut logits)?;
                for position in start..end {
                    visit(logits.row(position - start), piece[position + 1])?;
                }
                progress.add((end - start) as u64);
            }
        }
        Ok(())
    }
}

fn check_interrupt() -> anyhow::Result<()> {
    match interrupt::requested() {
        true => bail!(interrupt::Interrupted),
        false => Ok(()),
    }
}

/// Saved logits, read along.
struct Base {
    from: BufReader<File>,
    path: PathBuf,
    row: Vec<f32>,
    losses: Vec<f64>,
    divergences: Vec<f64>,
    agreements: usize,
}

impl Base {
    fn open(path: &Path, rows: usize, vocabulary: usize) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut from = BufReader::with_capacity(1 << 20, file);
        let shape = npy::read_header(&mut from)
            .with_context(|| format!("cannot use {}", path.display()))?;
        if shape != (rows, vocabulary) {
            bail!(
                "{} holds {} predictions over {} tokens, but this run makes {rows} over {vocabulary}: it was saved from another text, --ctx or model",
                path.display(),
                shape.0,
                shape.1
            );
        }
        Ok(Self {
            from,
            path: path.to_path_buf(),
            row: vec![0.0; vocabulary],
            losses: Vec::new(),
            divergences: Vec::new(),
            agreements: 0,
        })
    }

    /// The divergence of these logits from the next saved ones.
    fn compare(&mut self, logits: &[f32], target: u32) -> anyhow::Result<()> {
        npy::read_row(&mut self.from, &mut self.row)
            .with_context(|| format!("cannot use {}", self.path.display()))?;
        if !self.row.iter().all(|logit| logit.is_finite()) {
            bail!(
                "{} holds a prediction that is no finite number: save it again",
                self.path.display()
            );
        }
        let (base_total, total) = (log_sum_exp(&self.row), log_sum_exp(logits));
        let terms = self.row.iter().zip(logits).map(|(&base, &logit)| {
            let base = f64::from(base) - base_total;
            base.exp() * (base - (f64::from(logit) - total))
        });
        self.divergences.push(terms.sum());
        self.losses.push(-log_softmax(&self.row, target));
        self.agreements += usize::from(highest(&self.row) == highest(logits));
        Ok(())
    }
}

fn print(losses: &Mean, base: Option<Base>, as_json: bool) -> anyhow::Result<()> {
    let mut out = terminal::stdout();
    let perplexity = losses.mean.exp();
    let error = perplexity * losses.error;
    let mut object = json!({
        "perplexity": perplexity,
        "error": error,
        "predictions": losses.count,
    });
    if !as_json {
        writeln!(
            out,
            "perplexity           {perplexity:.4} ± {error:.4} over {} predictions",
            losses.count
        )?;
    }
    if let Some(mut base) = base {
        base.divergences.sort_by(f64::total_cmp);
        let divergence = Mean::of(&base.divergences);
        let worst = quantile(&base.divergences, 0.999);
        let agreement = base.agreements as f64 / losses.count as f64;
        let base_perplexity = Mean::of(&base.losses).mean.exp();
        // Only counts could be compared before; no base is so bad on its own text beside the model that is measured by it.
        if base_perplexity > 10.0 * perplexity {
            eprintln!(
                "the base predicts this text far worse than this model: was it made from another text?"
            );
        }
        object["base"] = json!({
            "perplexity": base_perplexity,
            "kl_mean": divergence.mean,
            "kl_mean_error": divergence.error,
            "kl_99_9": worst,
            "top1_agreement": agreement,
        });
        if !as_json {
            writeln!(out, "perplexity of base   {base_perplexity:.4}")?;
            writeln!(
                out,
                "KL divergence, mean  {:.3e} ± {:.1e}",
                divergence.mean, divergence.error
            )?;
            writeln!(out, "KL divergence, 99.9% {worst:.3e}")?;
            writeln!(out, "same first choice    {:.2} %", 100.0 * agreement)?;
        }
    }
    if as_json {
        writeln!(out, "{object}")?;
    }
    out.flush()?;
    Ok(())
}
