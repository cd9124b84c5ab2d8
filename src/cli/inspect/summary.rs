//! What a model file is, in a screenful: worked out from names and shapes, never from labels alone.

use std::collections::BTreeMap;
use std::io::{self, Write};

use fourfold_quantize::gguf::{Array, Gguf, Metadata, TensorInfo, Value};
use fourfold_quantize::recipe::{is_of_experts, layer_of};
use serde::Serialize;

use crate::cli::terminal::{self, Style};

/// The summary; its JSON form is part of the program's interface.
#[derive(Serialize)]
pub struct Summary {
    name: Option<String>,
    architecture: Option<String>,
    gguf_version: u32,
    alignment: u64,
    files: Vec<File>,
    bytes: u64,
    parameters: u64,
    /// Without the embedding, of which a token reads one row, and without the experts that a token does not use.
    active_parameters: Option<u64>,
    layers: Option<u32>,
    experts: Option<u32>,
    experts_used: Option<u32>,
    context: Option<u32>,
    sliding_window: Option<u32>,
    bits_per_weight: f64,
    tokenizer: Option<Tokenizer>,
    groups: Vec<Group>,
    types: Vec<Type>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct File {
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Tokenizer {
    model: String,
    pre: Option<String>,
    tokens: Option<usize>,
    merges: Option<usize>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    tensors: u64,
    parameters: u64,
    bytes: u64,
    bits_per_weight: f64,
}

#[derive(Serialize)]
struct Type {
    #[serde(rename = "type")]
    name: &'static str,
    tensors: u64,
    bytes: u64,
}

/// What a tensor is for; also the order in which groups are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Experts,
    FeedForward,
    Attention,
    Embedding,
    Head,
    Rest,
}

impl Role {
    fn of(name: &str) -> Role {
        let part = match name {
            "token_embd.weight" => return Role::Embedding,
            "output.weight" => return Role::Head,
            _ => layer_of(name).map_or("", |(_, part)| part),
        };
        if is_of_experts(part) {
            Role::Experts
        } else if part.starts_with("attn_") && !part.starts_with("attn_norm") {
            Role::Attention
        } else if part.starts_with("ffn_") && !part.starts_with("ffn_gate_inp") {
            Role::FeedForward
        } else {
            Role::Rest
        }
    }

    fn name(self) -> &'static str {
        match self {
            Role::Experts => "experts",
            Role::FeedForward => "feed-forward",
            Role::Attention => "attention",
            Role::Embedding => "embedding",
            Role::Head => "head",
            Role::Rest => "norms, router",
        }
    }
}

/// Sums over tensors. They saturate: a hostile file may claim anything that its size does not contradict.
#[derive(Clone, Copy, Default)]
struct Sum {
    tensors: u64,
    parameters: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, info: &TensorInfo<'_>) {
        let elements: u64 = info.dims.iter().product();
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(elements);
        self.bytes += info.bytes.len() as u64;
    }

    fn bits_per_weight(self) -> f64 {
        // Rounded, so that the JSON form does not depend on how a division comes out.
        let bits = self.bytes as f64 * 8.0 / self.parameters.max(1) as f64;
        (bits * 1e4).round() / 1e4
    }
}

impl Summary {
    /// Works it out.
    pub fn of(gguf: &Gguf) -> Summary {
        let metadata = gguf.metadata();
        let mut total = Sum::default();
        let mut roles: BTreeMap<Role, Sum> = BTreeMap::new();
        let mut types: BTreeMap<&str, Sum> = BTreeMap::new();
        for info in gguf.infos() {
            total.add(&info);
            roles.entry(Role::of(info.name)).or_default().add(&info);
            types.entry(info.tensor_type.name).or_default().add(&info);
        }
        let architecture = gguf.architecture().unwrap_or_default();
        let number = |key: &str| metadata.u32(&format!("{architecture}.{key}")).ok();
        let (experts, experts_used) = (number("expert_count"), number("expert_used_count"));
        let group = |(role, sum): (&Role, &Sum)| Group {
            name: role.name(),
            tensors: sum.tensors,
            parameters: sum.parameters,
            bytes: sum.bytes,
            bits_per_weight: sum.bits_per_weight(),
        };
        let mut types: Vec<_> = types
            .into_iter()
            .map(|(name, Sum { tensors, bytes, .. })| Type {
                name,
                tensors,
                bytes,
            })
            .collect();
        types.sort_by_key(|row| std::cmp::Reverse(row.bytes));
        Summary {
            name: metadata.string("general.name").ok().map(str::to_owned),
            architecture: gguf.architecture().map(str::to_owned),
            gguf_version: gguf.version(),
            alignment: gguf.alignment(),
            files: gguf
                .parts()
                .map(|(path, bytes)| File {
                    path: path.to_string_lossy().into_owned(),
                    bytes,
                })
                .collect(),
            bytes: gguf.parts().map(|part| part.1).sum(),
            parameters: total.parameters,
            active_parameters: active(total, &roles, experts, experts_used),
            layers: number("block_count"),
            experts,
            experts_used,
            context: number("context_length"),
            sliding_window: number("attention.sliding_window"),
            bits_per_weight: total.bits_per_weight(),
            tokenizer: Tokenizer::of(metadata),
            groups: roles.iter().map(group).collect(),
            types,
            notes: notes(gguf),
        }
    }

    /// Prints it for people.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let name = self.name.as_deref().unwrap_or("a model without a name");
        let architecture = self.architecture.as_deref().unwrap_or("no architecture");
        let files = match self.files.len() {
            1 => String::new(),
            count => format!(" in {count} files"),
        };
        let title = terminal::plain(name);
        let about = format!(
            "({}, GGUF v{}, {}{files})",
            terminal::plain(architecture),
            self.gguf_version,
            terminal::bytes(self.bytes),
        );
        let title = terminal::paint(Style::Bold, &title);
        writeln!(out, "{title}  {}\n", terminal::paint(Style::Dim, &about))?;
        let mut row = |label: &str, text: String| writeln!(out, "{label:<12}{text}");
        let active = self.active_parameters.map(terminal::count);
        let active = active.map_or(String::new(), |active| {
            format!(", {active} active per token")
        });
        row("parameters", terminal::count(self.parameters) + &active)?;
        if let Some(layers) = self.layers {
            row("layers", terminal::grouped(layers.into()))?;
        }
        if let Some(experts) = self.experts {
            let used = self.experts_used.map(|used| format!(", {used} per token"));
            row("experts", format!("{experts}{}", used.unwrap_or_default()))?;
        }
        if let Some(context) = self.context {
            let window = self
                .sliding_window
                .map(|window| format!(", window {window}"));
            let tokens = terminal::grouped(context.into());
            row(
                "context",
                format!("{tokens} tokens{}", window.unwrap_or_default()),
            )?;
        }
        row("weights", format!("{:.2} bits each", self.bits_per_weight))?;
        if let Some(tokenizer) = &self.tokenizer {
            row("tokenizer", tokenizer.describe())?;
        }
        self.write_tables(out)?;
        for note in &self.notes {
            writeln!(out, "\n{} {note}.", terminal::paint(Style::Yellow, "note:"))?;
        }
        Ok(())
    }

    fn write_tables(&self, out: &mut impl Write) -> io::Result<()> {
        let heading = format!(
            "\n{:<14} {:>7} {:>12} {:>11} {:>6}",
            "group", "tensors", "parameters", "size", "bits"
        );
        writeln!(out, "{}", terminal::paint(Style::Bold, &heading))?;
        for group in &self.groups {
            writeln!(
                out,
                "{:<14} {:>7} {:>12} {:>11} {:>6.2}",
                group.name,
                group.tensors,
                terminal::count(group.parameters),
                terminal::bytes(group.bytes),
                group.bits_per_weight,
            )?;
        }
        let heading = format!("\n{:<14} {:>7} {:>24}", "type", "tensors", "size");
        writeln!(out, "{}", terminal::paint(Style::Bold, &heading))?;
        for row in &self.types {
            let size = terminal::bytes(row.bytes);
            writeln!(out, "{:<14} {:>7} {size:>24}", row.name, row.tensors)?;
        }
        Ok(())
    }
}

/// As OpenAI counts: the head's matrix is active, the embedding's is not, of the experts those that a token uses.
fn active(
    total: Sum,
    roles: &BTreeMap<Role, Sum>,
    experts: Option<u32>,
    used: Option<u32>,
) -> Option<u64> {
    let of = |role| roles.get(&role).map_or(0, |sum| sum.parameters);
    let in_experts = of(Role::Experts);
    let share = match (experts, used) {
        (Some(experts), Some(used)) if experts > 0 && used <= experts => {
            (u128::from(in_experts) * u128::from(used) / u128::from(experts)) as u64
        }
        _ if in_experts == 0 => 0,
        _ => return None,
    };
    // Without a matrix of its own, the head uses the embedding's.
    let idle = match roles.contains_key(&Role::Head) {
        true => of(Role::Embedding),
        false => 0,
    };
    let always = total
        .parameters
        .saturating_sub(in_experts)
        .saturating_sub(idle);
    Some(always.saturating_add(share))
}

fn notes(gguf: &Gguf) -> Vec<String> {
    let mut notes = Vec::new();
    if gguf.is_ollama() {
        notes.push(
            "the file is Ollama's; what it has names of its own for is shown under everybody else's"
                .to_owned(),
        );
    }
    let mut unsupported: Vec<_> = gguf
        .infos()
        .map(|info| info.tensor_type)
        .filter(|kind| kind.dtype.is_none())
        .collect();
    unsupported.sort_unstable_by_key(|kind| kind.id);
    unsupported.dedup();
    for kind in unsupported {
        notes.push(format!(
            "fourfold can show tensors of type {} but not compute with them{}",
            kind.name,
            kind.advice()
        ));
    }
    notes
}

impl Tokenizer {
    fn of(metadata: &Metadata) -> Option<Tokenizer> {
        let len = |key| match metadata.get(key) {
            Some(Value::Array(array)) => Some(Array::len(array)),
            _ => None,
        };
        Some(Tokenizer {
            model: metadata.string("tokenizer.ggml.model").ok()?.to_owned(),
            pre: metadata
                .string("tokenizer.ggml.pre")
                .ok()
                .map(str::to_owned),
            tokens: len("tokenizer.ggml.tokens"),
            merges: len("tokenizer.ggml.merges"),
        })
    }

    fn describe(&self) -> String {
        let mut text = terminal::plain(&self.model).into_owned();
        if let Some(pre) = &self.pre {
            text += &format!(" ({})", terminal::plain(pre));
        }
        for (count, what) in [(self.tokens, "tokens"), (self.merges, "merges")] {
            if let Some(count) = count {
                text += &format!(", {} {what}", terminal::grouped(count as u64));
            }
        }
        text
    }
}
