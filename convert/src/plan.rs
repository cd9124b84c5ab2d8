//! What a conversion will do, before it does anything: tensors, types, sizes, metadata, warnings.

use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::Metadata;
use fourfold_quantize::recipe::{self, Choice, Model, Override, Recipe};

use crate::card::{Card, expert_size_label};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::find;
use crate::source::{Matrix, Source};
use crate::vocab::Vocab;
use crate::{Result, metadata};

/// What can be chosen about a conversion.
#[derive(Clone, Debug)]
pub struct Options {
    /// The types of the tensors; left out, MXFP4_MOE if that changes no expert weight, else the experts' own type.
    pub recipe: Option<Recipe>,
    /// Types by name, the first that matches counting.
    pub overrides: Vec<Override>,
    /// The recipe's default type for every tensor that may change, without its rules.
    pub pure: bool,
    /// Turn experts that are MXFP4 already into the recipe's type all the same.
    pub requantize_experts: bool,
    /// Whether to read and store the tokenizer.
    pub tokenizer: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            recipe: None,
            overrides: Vec::new(),
            pure: false,
            requantize_experts: false,
            tokenizer: true,
        }
    }
}

/// Everything a conversion will write.
#[derive(Debug)]
pub struct Plan<'a> {
    /// All keys of the file.
    pub metadata: Metadata,
    /// All tensors, in the order of the file.
    pub tensors: Vec<Planned<'a>>,
    /// What the person who converts should know, a sentence each.
    pub notes: Vec<String>,
    /// The chosen types.
    pub recipe: Recipe,
    /// A name for the file, from the checkpoint's: `gpt-oss-20b-mxfp4.gguf`.
    pub file_name: String,
}

/// One tensor, where it comes from and what it becomes.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Name, shape and source.
    pub matrix: Matrix<'a>,
    /// The type it gets.
    pub dtype: DType,
}

impl Planned<'_> {
    /// Bytes of one row; types are only given to rows that they fit.
    pub fn row_bytes(&self) -> u64 {
        let columns = self.matrix.columns() as usize;
        self.dtype.row_bytes(columns).unwrap_or(0) as u64
    }

    /// Bytes of the tensor.
    pub fn bytes(&self) -> u64 {
        self.matrix.rows() * self.row_bytes()
    }
}

impl<'a> Plan<'a> {
    /// Reads all small files of a checkpoint, checks everything and decides what to write.
    pub fn new(checkpoint: &'a Checkpoint, options: &Options) -> Result<Self> {
        let config = Config::read(checkpoint)?;
        let mut matrices = find::matrices(checkpoint, &config)?;
        matrices.sort_by(|a, b| recipe::file_order(&a.name).cmp(&recipe::file_order(&b.name)));
        let vocab = match options.tokenizer {
            true => Some(Vocab::read(checkpoint, &config)?),
            false => None,
        };
        let mut notes = config.notes.clone();
        notes.extend(metadata::warnings(&config));
        notes.extend(vocab.iter().flat_map(|vocab| vocab.notes.clone()));

        let recipe = match options.recipe {
            Some(recipe) => recipe,
            None => smallest_exact(&matrices, &mut notes)?,
        };
        let card = Card::read(checkpoint, &config);
        let size_label = size_label(&card, &config, &matrices);
        let tensors = assign(matrices, recipe, options, &mut notes)?;
        let file_type = file_type(recipe, &tensors);
        let kind = match recipe {
            Recipe::MXFP4_MOE => "mxfp4".to_owned(),
            other => other.row().name.to_lowercase(),
        };
        Ok(Self {
            metadata: metadata::build(&config, &card, &size_label, file_type, vocab.as_ref()),
            tensors,
            notes,
            recipe,
            file_name: format!("{}-{kind}.gguf", card.id),
        })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(Planned::bytes).sum()
    }
}

fn size_label(card: &Card, config: &Config, matrices: &[Matrix]) -> String {
    if let Some(label) = &card.size_label {
        return label.clone();
    }
    let weights = |experts: bool| -> u64 {
        let these = matrices
            .iter()
            .filter(|matrix| recipe::is_of_experts(&matrix.name) == experts);
        these.map(Matrix::weights).sum()
    };
    expert_size_label(config.num_experts, weights(true), weights(false))
}

/// Without a wish: MXFP4 if that is what the experts are or were, else the type they have.
fn smallest_exact(matrices: &[Matrix], notes: &mut Vec<String>) -> Result<Recipe> {
    let mut own = None;
    for matrix in matrices.iter().filter(|matrix| matrix.shape.len() == 3) {
        if matrix.own_type() != DType::MXFP4 && !matrix.is_mxfp4_in_disguise()? {
            own = Some(matrix.own_type());
            break;
        }
    }
    let recipe = match own {
        None => return Ok(Recipe::MXFP4_MOE),
        Some(DType::F16) => Recipe::F16,
        Some(DType::F32) => Recipe::F32,
        Some(_) => Recipe::BF16,
    };
    // MXFP4 takes 4.25 bits a weight.
    let size = match recipe {
        Recipe::F32 => "an eighth",
        _ => "a quarter",
    };
    notes.push(format!(
        "the experts have values that MXFP4 cannot hold, so they stay {}; --type mxfp4 rounds them and makes a file of about {size} of the size",
        recipe.row().name
    ));
    Ok(recipe)
}

/// Gives every tensor its type, and notes what is not as the recipe's name suggests.
fn assign<'a>(
    matrices: Vec<Matrix<'a>>,
    recipe: Recipe,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Vec<Planned<'a>>> {
    let options = recipe::Options {
        pure: options.pure,
        overrides: options.overrides.clone(),
        requantize_experts: options.requantize_experts,
        ..recipe::Options::new(recipe)
    };
    let names = matrices.iter().map(|matrix| matrix.name.as_str());
    let changing = matrices.iter().filter(|matrix| !matrix.stays_f32());
    let changing = changing.map(|matrix| matrix.name.as_str());
    recipe::check_overrides(&options.overrides, changing)?;
    let experts = matrices
        .iter()
        .find(|matrix| recipe::is_of_experts(&matrix.name));
    let experts = experts.and_then(|matrix| matrix.dims().get(2).copied());
    let model = Model::of(names, experts.unwrap_or(1));
    let mut fallbacks = Vec::new();
    let mut kept = 0;
    let mut tensors = Vec::with_capacity(matrices.len());
    for matrix in matrices {
        let tensor = recipe::Tensor {
            name: &matrix.name,
            dims: &matrix.dims(),
            dtype: match matrix.stays_f32() {
                true => DType::F32,
                false => matrix.own_type(),
            },
        };
        let choice: Choice = recipe::choose(tensor, model, &options)?;
        if let Some(note) = choice.fallback_note(matrix.columns()) {
            fallbacks.push((note, matrix.name.clone()));
        }
        kept += usize::from(choice.kept_instead_of.is_some());
        let dtype = choice.dtype;
        tensors.push(Planned { matrix, dtype });
    }
    let fallbacks = fallbacks.iter().map(|(note, name)| (note.clone(), &**name));
    notes.extend(recipe::sentences(fallbacks));
    if kept > 0
        && !matches!(
            recipe,
            Recipe::F32 | Recipe::F16 | Recipe::BF16 | Recipe::Q8_0
        )
    {
        notes.push(format!("{kept} expert tensors stay MXFP4, the format they were trained in; --requantize-experts changes them too"));
    }
    Ok(tensors)
}

/// `general.file_type`, a label: with MXFP4 experts, llama.cpp's converter calls float types MXFP4_MOE.
fn file_type(recipe: Recipe, tensors: &[Planned]) -> u32 {
    let kept = |planned: &Planned| {
        matches!(planned.matrix.source, Source::Blocks { .. }) && planned.dtype == DType::MXFP4
    };
    match recipe {
        Recipe::F32 | Recipe::F16 | Recipe::BF16 if tensors.iter().any(kept) => {
            Recipe::MXFP4_MOE.row().file_type
        }
        other => other.row().file_type,
    }
}
