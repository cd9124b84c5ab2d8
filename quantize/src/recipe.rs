//! Recipes: which type each tensor of a model gets, and what happens where that type does not fit.
//!
//! The recipes with llama.cpp's names choose what `llama-quantize` chooses, tensor by tensor; the tests compare file
//! sizes with its own. They differ from it on purpose in three ways: experts that are MXFP4 already stay MXFP4 unless
//! asked for, `--tensor-type` also counts when the recipe is a float type, and every fallback is reported.
//! [`Recipe::LEAN`] is our own: docs/recipes.md says what it saves and costs.

mod rules;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use table::{Recipe, Row};
pub use words::sentences;

use regex::{Regex, RegexBuilder};

use crate::dtype::DType;

/// What a user can ask for and get wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages describe the variants")]
pub enum Error {
    #[error("{text:?} is not of the form PATTERN=TYPE, for example attn_q=q5_0")]
    OverrideForm { text: String },
    #[error("in {text:?}, the pattern is not a regular expression: {error}")]
    OverridePattern {
        text: String,
        error: Box<regex::Error>,
    },
    #[error(
        "in {text:?}, {type_name:?} is not a type that tensors can be turned into; {known} are"
    )]
    OverrideType {
        text: String,
        type_name: String,
        known: String,
    },
    #[error(
        "the pattern {pattern:?} is found in the name of no tensor whose type may change (norms, biases, sinks and routers stay as they are); \
         `fourfold inspect MODEL.gguf --tensors` lists them"
    )]
    OverrideUnused { pattern: String },
    #[error(
        "{pattern:?} asks for {wanted} for tensor {tensor:?}, whose experts are MXFP4 already and would become larger \
         or worse; add --requantize-experts if that is meant, or write a pattern that leaves the experts out"
    )]
    ExpertsKept {
        tensor: String,
        pattern: String,
        wanted: &'static str,
    },
}

/// A `--tensor-type PATTERN=TYPE`: tensors whose name the pattern finds itself in get that type.
#[derive(Clone, Debug)]
pub struct Override {
    pattern: Regex,
    dtype: DType,
}

impl Override {
    /// Reads `PATTERN=TYPE`. Upper and lower case are the same in both.
    pub fn parse(text: &str) -> Result<Override, Error> {
        let Some((pattern, type_name)) = text.rsplit_once('=') else {
            return Err(Error::OverrideForm { text: text.into() });
        };
        let pattern = RegexBuilder::new(pattern)
            .case_insensitive(true)
            .build()
            .map_err(|error| Error::OverridePattern {
                text: text.into(),
                error: Box::new(error),
            })?;
        let dtype = DType::from_name(type_name).filter(|dtype| dtype.can_be_written());
        let dtype = dtype.ok_or_else(|| {
            let known: Vec<_> = DType::TABLE
                .iter()
                .filter(|row| row.dtype.can_be_written())
                .map(|row| row.name)
                .collect();
            Error::OverrideType {
                text: text.into(),
                type_name: type_name.into(),
                known: known.join(", "),
            }
        })?;
        Ok(Override { pattern, dtype })
    }
}

/// What decides the types besides the tensors themselves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The recipe.
    pub recipe: Recipe,
    /// The recipe's default type for every tensor that may change, without its rules.
    pub pure: bool,
    /// Types by name, the first that matches counting.
    pub overrides: Vec<Override>,
    /// Turn experts that are MXFP4 already into the recipe's type all the same.
    pub requantize_experts: bool,
    /// Whether an importance matrix will be used: a few recipes choose differently then.
    pub has_imatrix: bool,
}

impl Options {
    /// A recipe and nothing else.
    pub fn new(recipe: Recipe) -> Options {
        Options {
            recipe,
            pure: false,
            overrides: Vec::new(),
            requantize_experts: false,
            has_imatrix: false,
        }
    }
}

/// A tensor to find a type for.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its dimensions, the length of a row first.
    pub dims: &'a [u64],
    /// Its type now.
    pub dtype: DType,
}

/// The type a tensor gets, and why it is not the one the recipe names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The type.
    pub dtype: DType,
    /// The type that was wanted, where its blocks do not fit the rows.
    pub fallback_from: Option<DType>,
    /// The type the recipe names for experts that stay MXFP4 instead.
    pub kept_instead_of: Option<DType>,
}

/// What the rules need to know about the model as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    layers: u64,
    experts: u64,
    has_output: bool,
}

impl Model {
    /// Reads it off the tensors' names; `experts` is how many a layer has.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>, experts: u64) -> Model {
        let mut model = Model {
            layers: 0,
            experts,
            has_output: false,
        };
        for name in names {
            model.has_output |= name == "output.weight";
            if let Some((layer, _)) = layer_of(name) {
                model.layers = model.layers.max(layer + 1);
            }
        }
        model
    }
}

/// The layer and the rest of a name of the form `blk.LAYER.REST`.
pub fn layer_of(name: &str) -> Option<(u64, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse::<u32>().ok()?.into(), rest))
}

/// What tensors of a file are sorted by, as llama-quantize does it: what has no layer first, then by layer, then by name.
pub fn file_order(name: &str) -> (u64, &str) {
    (layer_of(name).map_or(0, |(layer, _)| layer + 1), name)
}

/// Whether a tensor of this name belongs to the experts.
pub fn is_of_experts(name: &str) -> bool {
    name.contains("_exps.")
}

/// Whether a tensor holds the matrices of several experts.
pub fn is_experts(tensor: Tensor<'_>) -> bool {
    is_of_experts(tensor.name) && tensor.dims.len() > 2
}

/// Refuses patterns that mean none of these names, which are those of tensors that [`may_change`]: mostly typing errors, whose tensors
/// would silently keep the recipe's type.
pub fn check_overrides<'a>(
    overrides: &[Override],
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Error> {
    let unused = |o: &&Override| !names.clone().any(|name| o.pattern.is_match(name));
    match overrides.iter().find(unused) {
        Some(o) => Err(Error::OverrideUnused {
            pattern: o.pattern.to_string(),
        }),
        None => Ok(()),
    }
}

/// The type that a tensor gets.
pub fn choose(tensor: Tensor<'_>, model: Model, options: &Options) -> Result<Choice, Error> {
    let stays = Choice {
        dtype: tensor.dtype,
        fallback_from: None,
        kept_instead_of: None,
    };
    if !may_change(tensor) {
        return Ok(stays);
    }
    let matching = |o: &&Override| o.pattern.is_match(tensor.name);
    let overridden = options.overrides.iter().find(matching);
    let default = options.recipe.row().default;
    let wanted = match overridden {
        Some(o) => o.dtype,
        None if options.pure => default,
        None => rules::by_rule(tensor, model, options),
    };
    if wanted == tensor.dtype {
        return Ok(stays);
    }
    if tensor.dtype == DType::MXFP4 && is_experts(tensor) && !options.requantize_experts {
        return match overridden {
            Some(o) => Err(Error::ExpertsKept {
                tensor: tensor.name.to_owned(),
                pattern: o.pattern.to_string(),
                wanted: wanted.name(),
            }),
            None => Ok(Choice {
                kept_instead_of: Some(wanted),
                ..stays
            }),
        };
    }
    let dtype = fitting(wanted, tensor.dims[0]);
    Ok(Choice {
        dtype,
        fallback_from: (dtype != wanted).then_some(wanted),
        kept_instead_of: None,
    })
}

/// Whether a tensor's type is the recipe's business: matrices do, norms, biases, sinks and the router never.
pub fn may_change(tensor: Tensor<'_>) -> bool {
    let dims = tensor.dims.iter().rposition(|&dim| dim != 1);
    dims.is_some_and(|last| last >= 1)
        && tensor.name.ends_with("weight")
        && !tensor.name.contains("_norm.weight")
        && !tensor.name.contains("ffn_gate_inp.weight")
        && tensor.dtype.holds_weights()
}

/// `wanted`, or what takes its place for rows of this length.
fn fitting(wanted: DType, columns: u64) -> DType {
    let fits = |dtype: DType| columns.is_multiple_of(dtype.block_len() as u64);
    if fits(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        DType::IQ4_XS => DType::IQ4_NL,
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        _ => DType::F16,
    };
    if fits(smaller) { smaller } else { DType::F16 }
}
