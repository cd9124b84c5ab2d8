//! What a conversion will do, before it does anything: tensors, types, sizes, metadata, warnings.

use fourfold_quantize::block;
use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::Metadata;

use crate::card::{Card, expert_size_label};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::source::{self, Matrix, Source};
use crate::types::{self, OutputType};
use crate::vocab::Vocab;
use crate::{Result, metadata};

/// What can be chosen about a conversion.
#[derive(Clone, Debug)]
pub struct Options {
    /// The types of the tensors; left out, the smallest that changes no expert weight.
    pub output: Option<OutputType>,
    /// Whether to read and store the tokenizer.
    pub tokenizer: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            output: None,
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
    pub output: OutputType,
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
        self.dtype
            .row_bytes(self.matrix.columns() as usize)
            .unwrap_or(0) as u64
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
        let mut matrices = source::find(checkpoint, &config)?;
        matrices.sort_by_cached_key(|matrix| file_order(&matrix.name));
        let vocab = match options.tokenizer {
            true => Some(Vocab::read(checkpoint, &config)?),
            false => None,
        };

        let mut notes = metadata::warnings(&config);
        notes.extend(vocab.iter().flat_map(|vocab| vocab.notes.clone()));
        let output = choose(options.output, &matrices, &mut notes)?;
        let card = Card::read(checkpoint, &config);
        let size_label = card.size_label.clone().unwrap_or_else(|| {
            let weights = |experts: bool| -> u64 {
                let these = matrices
                    .iter()
                    .filter(|matrix| matrix.name.contains("_exps.") == experts);
                these
                    .map(|matrix| matrix.shape.iter().product::<u64>())
                    .sum()
            };
            expert_size_label(config.num_experts, weights(true), weights(false))
        });
        let kept = matrices
            .iter()
            .any(|matrix| matches!(matrix.source, Source::Blocks { .. }));
        let file_type = types::file_type(output, kept);
        let tensors = matrices
            .into_iter()
            .map(|matrix| Planned {
                dtype: types::assign(output, &matrix),
                matrix,
            })
            .collect();
        Ok(Self {
            metadata: metadata::build(&config, &card, &size_label, file_type, vocab.as_ref()),
            tensors,
            notes,
            output,
            file_name: format!("{}-{}.gguf", card.id, output.name()),
        })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(Planned::bytes).sum()
    }
}

/// llama-quantize's order: what has no layer first, then by layer, then by name.
fn file_order(name: &str) -> (Option<u32>, String) {
    let layer = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split('.').next()?.parse().ok());
    (layer, name.to_owned())
}

/// Without a wish: MXFP4 if that is what the experts are or were, else the type they have.
fn choose(
    wish: Option<OutputType>,
    matrices: &[Matrix],
    notes: &mut Vec<String>,
) -> Result<OutputType> {
    if let Some(output) = wish {
        return Ok(output);
    }
    let experts = || matrices.iter().filter(|matrix| matrix.shape.len() == 3);
    let mut exact = true;
    for matrix in experts() {
        exact = exact
            && (matches!(matrix.source, Source::Blocks { .. }) || is_mxfp4_in_disguise(matrix)?);
    }
    if exact {
        return Ok(OutputType::Mxfp4);
    }
    let own = experts()
        .map(Matrix::own_type)
        .find(|&dtype| dtype != DType::MXFP4);
    let dtype = own.unwrap_or(DType::BF16);
    notes.push(format!(
        "the experts are not MXFP4 and have values that MXFP4 cannot hold, so they stay {}; --type mxfp4 rounds them and makes a file of a quarter of the size",
        dtype.name()
    ));
    Ok(OutputType::Plain(dtype))
}

/// Whether the first rows of an un-quantized expert matrix are just what MXFP4 can hold.
/// A fine-tuned matrix fails at its first block, so a few rows of each are enough to tell.
fn is_mxfp4_in_disguise(matrix: &Matrix) -> Result<bool> {
    let columns = matrix.columns() as usize;
    let rows = matrix.rows().min(4);
    let Some(row_bytes) = DType::MXFP4.row_bytes(columns) else {
        return Ok(false);
    };
    let mut values = vec![0.0; rows as usize * columns];
    let mut decoded = values.clone();
    let mut bytes = vec![0; rows as usize * row_bytes];
    matrix.read(0..rows, &mut values)?;
    block::encode_rows(DType::MXFP4, columns, &values, None, &mut bytes)?;
    block::decode_rows(DType::MXFP4, &bytes, &mut decoded)?;
    Ok(values == decoded)
}
