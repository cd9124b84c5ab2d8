//! What the names in a checkpoint give away when they are not the ones that are looked for.

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::names::{EXPERTS, ExpertName, LAYER, MODEL, Name};
use crate::{Error, Result};

/// Refuses a checkpoint whose layers are all called otherwise, by the name of one tensor of it.
pub fn check(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    let of_layer = |name: &str| in_layer(config.original, name).is_some();
    if checkpoint.names().any(of_layer) {
        return Ok(());
    }
    let Some(other) = stranger(checkpoint, config, "") else {
        return Ok(());
    };
    let message = if is_known(!config.original, other) {
        format!(
            "holds the tensor {other:?}, but config.json is one for the other layout of gpt-oss (`original/` and the folder above it have one each); download the one that belongs to these weights"
        )
    } else {
        let usual = prefix(config.original);
        format!(
            "its tensors are called as {other:?} is, not `{usual}0...`; save the plain model with `save_pretrained`: out of what torch.compile or a trainer wraps around it, and with adapters merged"
        )
    };
    Err(Error::file(&checkpoint.folder, message))
}

/// The error for a tensor that is not there: perhaps it is, under a name that gpt-oss does not have.
pub fn missing(checkpoint: &Checkpoint, config: &Config, tensor: &str) -> Error {
    let advice = match stranger(checkpoint, config, tensor) {
        Some(other) => format!(
            "there is {other:?}, a name that gpt-oss does not have: save the model with `save_pretrained` of transformers, or rename its tensors"
        ),
        None => "the download is incomplete or config.json belongs to another model".to_owned(),
    };
    Error::MissingTensor {
        path: checkpoint.folder.clone(),
        tensor: tensor.to_owned(),
        advice,
    }
}

/// The error for experts that are not there under any name: says which other format they are in, if a name tells.
pub fn no_experts(checkpoint: &Checkpoint, config: &Config, blocks: &str) -> Error {
    const SIGNS: [(&str, &str); 5] = [
        ("weight_packed", "the compressed-tensors format"),
        ("weight_scale_2", "NVIDIA ModelOpt's NVFP4 format"),
        (".quant_map", "bitsandbytes' 4-bit format"),
        (".absmax", "bitsandbytes' 4-bit format"),
        ("gate_proj.scales", "MLX's format"),
    ];
    let found = SIGNS
        .iter()
        .find(|(sign, _)| checkpoint.names().any(|name| name.contains(sign)));
    let Some((_, what)) = found else {
        return missing(checkpoint, config, blocks);
    };
    let what = format!("a checkpoint with experts in {what} (no {blocks:?})");
    let instead = "download the MXFP4 original (openai/gpt-oss-20b or -120b) or, of a fine-tune, the BF16 upload";
    Error::unsupported(&checkpoint.folder, what, instead)
}

/// The unknown name that is most like `wanted`.
fn stranger<'a>(checkpoint: &'a Checkpoint, config: &Config, wanted: &str) -> Option<&'a str> {
    let alike = |name: &&str| {
        let pairs = name.bytes().zip(wanted.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let unknown = |name: &&str| !is_known(config.original, name);
    checkpoint.names().filter(unknown).max_by_key(alike)
}

fn is_known(original: bool, name: &str) -> bool {
    let listed = |table: &[Name], name: &str| {
        table.iter().any(|known| match original {
            true => known.original.0 == name,
            false => known.hugging_face.contains(&name),
        })
    };
    match in_layer(original, name) {
        Some(rest) => {
            listed(&LAYER, rest) || EXPERTS.iter().any(|known| is_of(known, original, rest))
        }
        None => listed(&MODEL, name),
    }
}

/// Whether this is one of the tensors that an expert matrix is kept in.
fn is_of(known: &ExpertName, original: bool, name: &str) -> bool {
    let (prefix, base) = match original {
        true => ("mlp.", known.original),
        false => ("mlp.experts.", known.hugging_face),
    };
    let name = name.strip_prefix(prefix);
    let Some(suffix) = name.and_then(|name| name.strip_prefix(base)) else {
        return false;
    };
    let module = suffix.strip_prefix("s.").and_then(number);
    match original {
        true => ["_weight", "_weight.blocks", "_weight.scales", "_bias"].contains(&suffix),
        false => {
            ["", "_blocks", "_scales", "_bias"].contains(&suffix)
                || module.is_some_and(|part| ["weight", "bias"].contains(&part))
        }
    }
}

fn prefix(original: bool) -> &'static str {
    match original {
        true => "block.",
        false => "model.layers.",
    }
}

/// What follows the layer's number in the name of a layer's tensor.
fn in_layer(original: bool, name: &str) -> Option<&str> {
    name.strip_prefix(prefix(original)).and_then(number)
}

/// What follows a number and a dot.
fn number(text: &str) -> Option<&str> {
    let (number, rest) = text.split_once('.')?;
    number.parse::<u32>().is_ok().then_some(rest)
}
