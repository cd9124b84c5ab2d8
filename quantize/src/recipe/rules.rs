//! What each recipe says about each tensor, before looking at whether it fits.

use super::{Model, Options, Recipe, Tensor, is_experts, layer_of};
use crate::dtype::DType;

/// What the recipe says, before looking at whether it fits.
pub(super) fn by_rule(tensor: Tensor<'_>, model: Model, options: &Options) -> DType {
    let recipe = options.recipe;
    let default = recipe.row().default;
    if default.is_float() {
        return default;
    }
    let name = tensor.name;
    let is_output = match name {
        "output.weight" => true,
        "token_embd.weight" => !model.has_output,
        _ => false,
    };
    match recipe {
        Recipe::LEAN => return lean(tensor, is_output),
        Recipe::MXFP4_MOE if tensor.dims.get(2).is_some_and(|&experts| experts > 1) => {
            return DType::MXFP4;
        }
        Recipe::MXFP4_MOE => return DType::Q8_0,
        _ => {}
    }
    if is_output {
        let fits = tensor.dims[0].is_multiple_of(default.block_len() as u64);
        return if !fits || default == DType::Q8_0 {
            DType::Q8_0
        } else {
            DType::Q6_K
        };
    }
    let Some((layer, part)) = layer_of(name) else {
        return default;
    };
    if model.experts == 8
        && let Some(dtype) = of_eight(part, options.recipe)
    {
        return dtype;
    }
    let special = if part.starts_with("attn_v.") || part.starts_with("attn_qkv.") {
        of_value(recipe, layer, model.layers)
    } else if part.starts_with("attn_output.") {
        of_attention_output(recipe)
    } else if part.starts_with("ffn_down") {
        of_down(recipe, layer, model.layers, options.has_imatrix)
    } else {
        None
    };
    special.unwrap_or(default)
}

/// Whether a layer gets more bits in the `_M` recipes: the first and last eighth, and every third between them.
fn is_sensitive(layer: u64, layers: u64) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

fn of_value(recipe: Recipe, layer: u64, layers: u64) -> Option<DType> {
    Some(match recipe {
        Recipe::Q2_K => DType::Q4_K,
        Recipe::Q3_K_M if layer < 2 => DType::Q5_K,
        Recipe::Q3_K_M => DType::Q4_K,
        Recipe::Q3_K_L | Recipe::IQ4_NL | Recipe::IQ4_XS => DType::Q5_K,
        Recipe::Q4_K_M | Recipe::Q5_K_M if is_sensitive(layer, layers) => DType::Q6_K,
        Recipe::Q4_K_S if layer < 4 => DType::Q5_K,
        _ => return None,
    })
}

fn of_attention_output(recipe: Recipe) -> Option<DType> {
    Some(match recipe {
        Recipe::Q2_K => DType::Q3_K,
        Recipe::Q3_K_M => DType::Q4_K,
        Recipe::Q3_K_L => DType::Q5_K,
        _ => return None,
    })
}

fn of_down(recipe: Recipe, layer: u64, layers: u64, has_imatrix: bool) -> Option<DType> {
    let first_eighth = layer < layers / 8;
    Some(match recipe {
        Recipe::Q2_K => DType::Q3_K,
        Recipe::Q3_K_M if layer < layers / 16 => DType::Q5_K,
        Recipe::Q3_K_M => DType::Q4_K,
        Recipe::Q3_K_L => DType::Q5_K,
        Recipe::Q4_K_M | Recipe::Q5_K_M if is_sensitive(layer, layers) => DType::Q6_K,
        Recipe::Q4_K_S if first_eighth => DType::Q5_K,
        Recipe::IQ4_NL | Recipe::IQ4_XS if first_eighth && !has_imatrix => DType::Q5_K,
        Recipe::Q4_0 if first_eighth && has_imatrix => DType::Q4_1,
        Recipe::Q5_0 if first_eighth && has_imatrix => DType::Q5_1,
        _ => return None,
    })
}

/// What llama-quantize does with attention beside eight experts, as Mixtral has them: no gpt-oss, but the demo model and prunings.
fn of_eight(part: &str, recipe: Recipe) -> Option<DType> {
    let begins = |names: &[&str]| names.iter().any(|name| part.starts_with(name));
    if begins(&["attn_k.", "attn_v.", "attn_qkv."]) {
        return Some(DType::Q8_0);
    }
    if !begins(&["attn_output."]) {
        return None;
    }
    Some(match recipe {
        Recipe::Q2_K
        | Recipe::Q3_K_S
        | Recipe::Q3_K_M
        | Recipe::IQ4_NL
        | Recipe::IQ4_XS
        | Recipe::Q4_K_S
        | Recipe::Q4_K_M => DType::Q5_K,
        _ => recipe.row().default,
    })
}

/// Our own mix. Decoding reads every byte of attention and head once per token, so these decide the speed; keys and
/// values are a ninth of the attention and are worth 5.5 bits, as are the head, whose errors reach the logits directly,
/// and the embedding, of which a token reads one row.
fn lean(tensor: Tensor<'_>, is_output: bool) -> DType {
    if is_experts(tensor) {
        return DType::MXFP4;
    }
    let part = layer_of(tensor.name).map_or("", |(_, part)| part);
    if is_output || tensor.name == "token_embd.weight" {
        return DType::Q5_0;
    }
    if ["attn_k.", "attn_v.", "attn_qkv."]
        .iter()
        .any(|name| part.starts_with(name))
    {
        return DType::Q5_0;
    }
    DType::IQ4_NL
}
