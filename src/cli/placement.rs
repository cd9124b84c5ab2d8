//! Which layers go on a GPU: the options, and doing as they say.

use anyhow::{Context, bail};
use fourfold::model::offload::{self, Amount, BringExperts, Card, Plan, Wish};
use fourfold::model::{Error, Model};
use std::io::Write;

use super::progress::Progress;
use super::{size, terminal};

/// After a plan that the driver had no room for after all, the next one may take this much of it, in percent.
const LESS: u64 = 85;
/// Plans that are tried.
const TRIES: usize = 4;

/// What goes on a GPU
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "GPU")]
pub struct GpuArgs {
    /// Layers on the GPU, counted from the last: auto, all or a number
    #[arg(long, value_name = "N", value_parser = layers)]
    gpu_layers: Option<Amount>,
    /// First layers whose experts stay on the processor: auto or a number
    #[arg(long, value_name = "N", value_parser = cpu_moe)]
    cpu_moe: Option<Amount>,
    /// The GPU to use, as `fourfold devices` names it
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Most memory to take on the GPU, such as 12GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    gpu_memory: Option<u64>,
    /// When experts that stay in the host's memory come to the GPU for long prompts: auto (whatever proves faster, so two
    /// runs may differ in the last digits), always or never
    #[arg(long, value_name = "WHEN", value_parser = bring_experts)]
    bring_experts: Option<BringExperts>,
    /// Compute everything on the processor
    #[arg(long, conflicts_with_all = ["gpu_layers", "cpu_moe", "device", "gpu_memory", "bring_experts"])]
    no_gpu: bool,
    /// Show what would go where, and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// What was asked for with `--dry-run` was shown: there is nothing more to do.
#[derive(Debug, thiserror::Error)]
#[error("the plan was shown")]
pub struct Shown;

fn layers(text: &str) -> Result<Amount, String> {
    match text {
        "auto" => Ok(Amount::Auto),
        "all" => Ok(Amount::All),
        _ => match text.parse() {
            Ok(number) => Ok(Amount::Exactly(number)),
            Err(_) => Err("auto, all or a number of layers is expected".into()),
        },
    }
}

fn cpu_moe(text: &str) -> Result<Amount, String> {
    match layers(text) {
        Ok(Amount::All) | Err(_) => Err("auto or a number of layers is expected".into()),
        amount => amount,
    }
}

fn bring_experts(text: &str) -> Result<BringExperts, String> {
    match text {
        "auto" => Ok(BringExperts::Auto),
        "always" => Ok(BringExperts::Always),
        "never" => Ok(BringExperts::Never),
        _ => Err("auto, always or never is expected".into()),
    }
}

impl GpuArgs {
    /// Stays on the processor unless a GPU was asked for.
    pub fn prefer_processor(&mut self) {
        self.no_gpu |= self.asked_for().is_none();
    }

    /// The option that asks for a GPU, if any does.
    fn asked_for(&self) -> Option<&'static str> {
        let given = [
            (
                "--gpu-layers",
                self.gpu_layers.is_some_and(|it| it != Amount::Exactly(0)),
            ),
            ("--cpu-moe", self.cpu_moe.is_some()),
            ("--device", self.device.is_some()),
            ("--gpu-memory", self.gpu_memory.is_some()),
            (
                "--bring-experts",
                self.bring_experts == Some(BringExperts::Always),
            ),
        ];
        given
            .into_iter()
            .find_map(|(option, given)| given.then_some(option))
    }

    /// Moves layers of the model to a GPU, if there is one and some fit.
    pub fn place(&self, model: &mut Model) -> anyhow::Result<()> {
        let asked_for = self.asked_for();
        if !offload::AVAILABLE
            && let Some(option) = asked_for.or(self.dry_run.then_some("--dry-run"))
            && !self.no_gpu
        {
            bail!(
                "{option} needs a GPU, and this build has only the processor: build it with `cargo build --release --features vulkan` (or cuda, metal), as docs/gpu.md says"
            );
        }
        let card = match self.no_gpu || (model.options().exact && asked_for.is_none()) {
            true => None,
            false => self.card()?,
        };
        if card.is_none() && asked_for.is_some() {
            bail!("no GPU was found: `fourfold devices` lists what there is to compute with");
        }
        let mut wish = Wish {
            layers: self.gpu_layers.unwrap_or_default(),
            cpu_moe: self.cpu_moe.unwrap_or_default(),
            context: Some(model.options().context).filter(|&context| context > 0),
            budget: self.gpu_memory,
            bring_experts: self.bring_experts.unwrap_or_default(),
        };
        let sizes = model.sizes();
        let mut tries = 0;
        while let Some(card) = &card {
            let Some(plan) = offload::plan(&sizes, card, &wish)? else {
                eprintln!(
                    "nothing of this model fits on {}: computing on the processor",
                    card.name
                );
                break;
            };
            if self.dry_run {
                return show(Some(&plan));
            }
            let automatic = (wish.layers, wish.cpu_moe) == (Amount::Auto, Amount::Auto);
            tries += 1;
            match place(model, &plan) {
                Err(Error::Device(reason)) if automatic && tries < TRIES => {
                    eprintln!("{reason}: trying with less");
                    wish.budget = Some(plan.bytes.total() / 100 * LESS);
                }
                Err(Error::Unsupported(reason)) if asked_for.is_none() => {
                    let reason = reason.trim_end_matches(": use --no-gpu");
                    eprintln!("{reason}; computing on the processor");
                    break;
                }
                result => return Ok(result?),
            }
        }
        if self.dry_run { show(None) } else { Ok(()) }
    }

    /// The device that was named, or the first that is worth it.
    fn card(&self) -> anyhow::Result<Option<Card>> {
        let cards = offload::cards();
        let Some(name) = &self.device else {
            let named = self.asked_for().is_some();
            let best = cards.into_iter().find(|card| card.worthwhile || named);
            return Ok(best);
        };
        let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
        let names = names.join(", ");
        let same = |card: &Card| card.name.eq_ignore_ascii_case(name);
        let found = cards.iter().find(|card| same(card));
        let found = found.with_context(|| format!("--device {name} is not one of {names}"))?;
        Ok(Some(found.clone()))
    }
}

fn place(model: &mut Model, plan: &Plan) -> Result<(), Error> {
    eprint!("{plan}");
    let bytes = plan.bytes.attention + plan.bytes.experts + plan.bytes.head;
    let progress = Progress::bytes(&format!("Copying to {}", plan.device), bytes);
    model.place(plan, &mut |bytes| progress.add(bytes))?;
    progress.finish();
    Ok(())
}

/// Prints a plan as the result of a command.
fn show(plan: Option<&Plan>) -> anyhow::Result<()> {
    let mut out = terminal::stdout();
    match plan {
        Some(plan) => write!(out, "{plan}")?,
        None => writeln!(out, "all layers on the processor")?,
    }
    out.flush()?;
    bail!(Shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(layers("auto"), Ok(Amount::Auto));
        assert_eq!(layers("all"), Ok(Amount::All));
        assert_eq!(layers("12"), Ok(Amount::Exactly(12)));
        assert!(layers("-1").is_err() && layers("many").is_err());
        assert_eq!(cpu_moe("3"), Ok(Amount::Exactly(3)));
        assert!(cpu_moe("all").is_err());
        assert_eq!(bring_experts("never"), Ok(BringExperts::Never));
        assert!(bring_experts("sometimes").is_err());
    }
}
