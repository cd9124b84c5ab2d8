//! Which type each tensor gets.

use fourfold_quantize::dtype::DType;

use crate::source::{Matrix, Source};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// Experts MXFP4, other matrices Q8_0: what is published.
    Mxfp4,
    /// MXFP4 experts stay; every other matrix gets this type.
    Plain(DType),
}

impl OutputType {
    /// The type of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "mxfp4" | "mxfp4_moe" => Some(Self::Mxfp4),
            "f32" => Some(Self::Plain(DType::F32)),
            "f16" => Some(Self::Plain(DType::F16)),
            "bf16" => Some(Self::Plain(DType::BF16)),
            "q8_0" => Some(Self::Plain(DType::Q8_0)),
            _ => None,
        }
    }

    /// How it is written on the command line and in file names.
    pub fn name(self) -> String {
        match self {
            Self::Mxfp4 => "mxfp4".to_owned(),
            Self::Plain(dtype) => dtype.name().to_ascii_lowercase(),
        }
    }
}

/// The type of one tensor.
pub fn assign(output: OutputType, matrix: &Matrix) -> DType {
    if !is_matrix(&matrix.name, matrix.shape.len()) {
        return DType::F32;
    }
    let experts = matrix.shape.len() == 3;
    let wanted = match output {
        OutputType::Mxfp4 if experts => DType::MXFP4,
        OutputType::Mxfp4 => DType::Q8_0,
        OutputType::Plain(_) if matches!(matrix.source, Source::Blocks { .. }) => DType::MXFP4,
        OutputType::Plain(dtype) => dtype,
    };
    match wanted.row_bytes(matrix.columns() as usize) {
        Some(_) => wanted,
        None => DType::F16,
    }
}

/// Norms, biases, sinks and the router stay F32: they are small, and every program expects them so.
fn is_matrix(name: &str, dims: usize) -> bool {
    dims > 1
        && name.ends_with(".weight")
        && !name.ends_with("_norm.weight")
        && !name.contains("ffn_gate_inp")
}

/// `general.file_type`, a label that some programs show.
pub fn file_type(output: OutputType, mxfp4_experts: bool) -> u32 {
    match output {
        OutputType::Mxfp4 => 38,
        OutputType::Plain(DType::Q8_0) => 7,
        OutputType::Plain(_) if mxfp4_experts => 38,
        OutputType::Plain(DType::BF16) => 32,
        OutputType::Plain(DType::F16) => 1,
        OutputType::Plain(_) => 0,
    }
}
