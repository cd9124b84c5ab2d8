//! `fourfold devices`: what this machine has to compute with.

use super::model_file::{self, ModelArgs};
use super::terminal;
use clap::ArgGroup;
use fourfold::kernels::Kernels;
use fourfold::model::{memory, offload};
use fourfold::threads::Pool;
use std::io::Write;

/// Show the processor's features, the kernels that will be used, the memory and the GPUs
///
/// With a model: also what of it would go on a GPU.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("planning").args(PLANNING).multiple(true).requires("model"))]
#[command(after_help = "Examples:
  fourfold devices
  fourfold devices model.gguf --ctx 32768 --gpu-memory 12GiB
  FOURFOLD_ISA=avx2 fourfold devices")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
}

/// Options that say nothing without a model.
const PLANNING: [&str; 7] = [
    "ctx",
    "gpu_layers",
    "cpu_moe",
    "device",
    "gpu_memory",
    "bring_experts",
    "dry_run",
];

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut model = args.model;
    let has_model = model.model.is_some();
    // What is wrong with the model or an option is said at once, not below a page of other things.
    if has_model && offload::AVAILABLE {
        model_file::open(model.model.as_deref())?;
    } else if has_model {
        model.gpu.dry_run = false;
        model.open()?;
    }
    let mut out = terminal::stdout();
    processor_and_memory(&mut out)?;
    cards(&mut out)?;
    if has_model && !offload::AVAILABLE {
        let line = "plan          none: without GPU support all layers stay on the processor";
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    if has_model && offload::AVAILABLE {
        model.gpu.dry_run = true;
        model.open()?;
    }
    Ok(())
}

fn processor_and_memory(out: &mut impl Write) -> anyhow::Result<()> {
    let kernels = Kernels::detect()?;
    let mut names: Vec<_> = Kernels::available().iter().map(Kernels::isa).collect();
    names.dedup();
    writeln!(out, "processor     {}", terminal::plain(&processor()))?;
    writeln!(out, "architecture  {}", std::env::consts::ARCH)?;
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = Pool::default_threads();
    writeln!(
        out,
        "threads       {threads} by default, {logical} processors allowed"
    )?;
    writeln!(out, "features      {}", features().join(" "))?;
    writeln!(
        out,
        "kernels       {} (of {})",
        kernels.isa(),
        names.join(", ")
    )?;
    for (name, size) in caches() {
        writeln!(out, "{name:<13} {size}")?;
    }
    if let (Some(free), Some(total)) = (memory::available(), memory::total()) {
        let (free, total) = (terminal::bytes(free), terminal::bytes(total));
        writeln!(out, "memory        {free} free of {total}")?;
    }
    Ok(())
}

fn cards(out: &mut impl Write) -> anyhow::Result<()> {
    for card in offload::cards() {
        let (free, total) = (terminal::bytes(card.free), terminal::bytes(card.total));
        let description = terminal::plain(&card.description);
        let line = format!("{description}, {free} free of {total}");
        writeln!(out, "{:<13} {line}", card.name)?;
    }
    if !offload::AVAILABLE {
        let how = "cargo build --release --features vulkan";
        writeln!(
            out,
            "GPU           none: this build has only the processor ({how} adds GPUs)"
        )?;
    }
    Ok(())
}

/// The processor's own name.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .trim_start()
                .strip_prefix(':')
        })
        .map_or_else(|| "unknown".into(), |name| name.trim().into())
}

/// The vector extensions that matter here and that this processor has.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! present {
            ($($name:tt)*) => { [$(($name, std::arch::is_x86_feature_detected!($name))),*] };
        }
        let all = present!("avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vl"
            "avx512vbmi" "avx512vnni" "avx512bf16" "avx512fp16");
        all.into_iter()
            .filter_map(|(name, here)| here.then_some(name))
            .collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// Data and unified caches of the first processor: name and size.
fn caches() -> Vec<(String, String)> {
    let read = |index: usize, name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
        Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
    };
    (0..8)
        .filter(|&index| read(index, "type").is_some_and(|kind| kind != "Instruction"))
        .filter_map(|index| {
            let shared = read(index, "shared_cpu_list")?;
            let size = format!("{}, shared by processors {shared}", read(index, "size")?);
            Some((format!("cache L{}", read(index, "level")?), size))
        })
        .collect()
}
