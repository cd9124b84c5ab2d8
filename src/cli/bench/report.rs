//! How results of `bench` are shown: as a table, JSON or CSV, and with -v where the time went.

use super::{Form, Test};
use crate::cli::{devices, terminal};
use fourfold::model::{Ceilings, Model};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

/// A test's outcome.
pub struct Result {
    pub test: Test,
    pub depth: usize,
    /// Tokens per second of each repetition.
    pub speeds: Vec<f64>,
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

    /// Tokens of a prompt, and generated ones.
    fn counts(&self) -> (usize, usize) {
        match self.test {
            Test::Prompt(n) => (n, 0),
            Test::Generate(n) => (0, n),
        }
    }
}

/// Prints all results.
pub fn print(
    model: &Model,
    results: &[Result],
    ceilings: &Ceilings,
    form: Form,
) -> anyhow::Result<()> {
    let mut out = terminal::stdout();
    match form {
        Form::Md => markdown(&mut out, model, results, ceilings)?,
        Form::Csv => csv(&mut out, model, results, ceilings)?,
        Form::Json => {
            let results = results.iter();
            let list = results.map(|result| describe(model, result, ceilings));
            let list: Vec<Value> = list.collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn markdown(
    out: &mut impl Write,
    model: &Model,
    results: &[Result],
    ceilings: &Ceilings,
) -> io::Result<()> {
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
    Ok(())
}

fn csv(
    out: &mut impl Write,
    model: &Model,
    results: &[Result],
    ceilings: &Ceilings,
) -> io::Result<()> {
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
    Ok(())
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
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Where the time of a test went.
pub fn phases(model: &Model, test: Test, depth: usize, repetitions: u32) {
    let phases = model.take_phases();
    let total: Duration = phases.spent().map(|(_, time)| time).sum();
    eprintln!("{} at depth {depth}:", test.name());
    for (name, time) in phases.spent() {
        let share = 100.0 * time.as_secs_f64() / total.as_secs_f64();
        let each = time.as_secs_f64() * 1e3 / f64::from(repetitions) / test.tokens() as f64;
        eprintln!("  {name:<26} {share:5.1} %  {each:9.4} ms a token");
    }
}
