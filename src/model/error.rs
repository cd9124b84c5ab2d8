//! What can be wrong with a model file or with what is asked of it: one sentence each.

use fourfold_quantize::gguf;

use crate::kernels;

/// Why a model cannot be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container itself is damaged, or a metadata key is missing or of another type.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// A hyper-parameter that no model can have.
    #[error("{key} is {found}, expected {expected}: the file is damaged or not a gpt-oss model")]
    HyperParameter {
        /// The metadata key.
        key: String,
        /// What the file says.
        found: String,
        /// What would be possible.
        expected: String,
    },
    /// A tensor that the model needs is not in the file.
    #[error("tensor {name} is missing: the file is incomplete or not a gpt-oss model")]
    MissingTensor {
        /// Its name in the file.
        name: String,
    },
    /// A tensor that no gpt-oss model has.
    #[error(
        "tensor {name} is not part of a gpt-oss model of {layers} layers: the file is of another model, or its number of layers is wrong"
    )]
    UnknownTensor {
        /// Its name in the file.
        name: String,
        /// Layers that the file says it has.
        layers: usize,
    },
    /// A tensor whose shape or type does not fit the hyper-parameters.
    #[error("tensor {name} has {found}, expected {expected}: convert the model again")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What the file holds.
        found: String,
        /// What the hyper-parameters ask for.
        expected: String,
    },
    /// A tensor whose bytes cannot be a matrix.
    #[error("tensor {name}: {error}")]
    Matrix {
        /// Its name in the file.
        name: String,
        /// What is wrong with it.
        error: kernels::Error,
    },
    /// The environment asks for kernels that are not there.
    #[error(transparent)]
    Kernels(#[from] kernels::Error),
    /// A token that the vocabulary does not have.
    #[error("token {token} is not in the vocabulary: ids run from 0 to {}", vocabulary - 1)]
    Token {
        /// The id that was given.
        token: u32,
        /// How many ids there are.
        vocabulary: usize,
    },
    /// More positions than the model or the caller's own limit allows.
    #[error(
        "{needed} tokens do not fit into the context of {limit}: shorten the text or raise the limit, which the model caps at {model}"
    )]
    Context {
        /// Positions that would be needed.
        needed: usize,
        /// Positions that this sequence may have.
        limit: usize,
        /// Positions that the model was made for.
        model: usize,
    },
    /// The cache would not fit into memory.
    #[error(
        "the cache for {tokens} tokens needs {needed_mib} MiB more, but only {available_mib} MiB of memory are free: use a shorter context or --kv-type q8_0, or close other programs"
    )]
    Memory {
        /// Length of the sequence that was asked for.
        tokens: usize,
        /// Missing space.
        needed_mib: u64,
        /// Free space.
        available_mib: u64,
    },
    /// A rollback or restore to a position whose window is no longer kept.
    #[error(
        "position {position} is out of reach: this sequence holds {length} tokens and can return to positions from {earliest}, or to a snapshot"
    )]
    Rollback {
        /// The position asked for.
        position: usize,
        /// Tokens in the sequence.
        length: usize,
        /// The first position that can be returned to.
        earliest: usize,
    },
    /// A batch whose tokens do not continue their sequences.
    #[error("the batch is malformed: {0}")]
    Batch(String),
    /// Values that are not numbers came out of a layer.
    #[error(
        "the values after {place} are not finite: its weights are damaged (fourfold inspect --check names the tensor)"
    )]
    NotFinite {
        /// The part of the model, in words.
        place: String,
    },
    /// The GPU could not do its part; what it held is lost.
    #[error("{0}; --no-gpu computes on the processor")]
    Device(String),
    /// Layers that do not fit on the GPU.
    #[error(transparent)]
    Placement(#[from] super::offload::PlanError),
    /// A combination that this program does not compute.
    #[error("{0}")]
    Unsupported(String),
}
