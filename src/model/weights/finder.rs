//! Tensors by their names, checked: the runner's only list of GGUF's names (`convert/src/names.rs` has them for writing).

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;

use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::{Gguf, TensorView};

use super::{Experts, Layer, Linear, Vector, Weights};
use crate::kernels::Matrix;
use crate::model::{Config, Error};

impl<'a> Weights<'a> {
    /// Reads the hyper-parameters and finds all tensors of `file`.
    pub fn find(file: &'a Gguf) -> Result<(Config, Self), Error> {
        let find = Finder {
            file,
            found: RefCell::default(),
        };
        Config::check_kind(file.metadata())?;
        let embedding = find.tensor("token_embd.weight")?;
        let &[_, vocabulary] = embedding.dims else {
            return Err(shape_error(&embedding, "two dimensions"));
        };
        let config = Config::read(file.metadata(), vocabulary as usize)?;
        let Config {
            dim, vocabulary, ..
        } = config;
        let layers = (0..config.layers)
            .map(|index| find.layer(&config, index))
            .collect::<Result<_, _>>()?;
        let weights = Self {
            embedding: find.matrix("token_embd.weight", vocabulary, dim)?,
            layers,
            norm: find.vector("output_norm.weight", dim)?,
            head: find.linear("output", vocabulary, dim, false)?,
        };
        find.refuse_others(&config)?;
        Ok((config, weights))
    }
}

/// Looks tensors up by name and checks them.
struct Finder<'a> {
    file: &'a Gguf,
    /// The names that were looked up.
    found: RefCell<HashSet<&'a str>>,
}

impl<'a> Finder<'a> {
    fn layer(&self, config: &Config, index: usize) -> Result<Layer<'a>, Error> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (dim, experts) = (config.dim, config.experts);
        let attention = config.heads * config.head_dim;
        let [query, key, value] = self.query_key_value(config, index)?;
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"), dim)?,
            query,
            key,
            value,
            sinks: self.vector(&name("attn_sinks.weight"), config.heads)?,
            output: self.linear(&name("attn_output"), dim, attention, true)?,
            ffn_norm: self.vector(&name("post_attention_norm.weight"), dim)?,
            router: self.floats(&name("ffn_gate_inp.weight"), experts, dim)?,
            router_bias: self.vector(&name("ffn_gate_inp.bias"), experts)?,
            experts: self.experts(config, index)?,
        })
    }

    /// The three projections: from one fused tensor, whose rows are query, key and value, or from three.
    fn query_key_value(&self, config: &Config, index: usize) -> Result<[Linear<'a>; 3], Error> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let kv_rows = config.kv_heads * config.head_dim;
        let parts = [
            (name("attn_q"), config.heads * config.head_dim),
            (name("attn_k"), kv_rows),
            (name("attn_v"), kv_rows),
        ];
        let fused = name("attn_qkv");
        let linears = if self.file.tensor(&format!("{fused}.weight")).is_some() {
            let all = parts.iter().map(|(_, rows)| rows).sum();
            let weight = self.matrix(&format!("{fused}.weight"), all, config.dim)?;
            let scale = self.scale(&fused)?;
            let bias = self.optional_vector(&format!("{fused}.bias"), all)?;
            let mut start = 0;
            parts.map(|(part, rows)| {
                let range = start..start + rows;
                start = range.end;
                let fused_bias = bias.as_ref().map(|bias| match bias {
                    Cow::Borrowed(bias) => Cow::Borrowed(&bias[range.clone()]),
                    Cow::Owned(bias) => Cow::Owned(bias[range.clone()].to_vec()),
                });
                let bias = match fused_bias {
                    None => self.optional_vector(&format!("{part}.bias"), rows)?,
                    fused => fused,
                };
                Ok(Linear {
                    weight: weight.slice(range.start, rows),
                    scale,
                    bias,
                })
            })
        } else {
            parts.map(|(part, rows)| self.linear(&part, rows, config.dim, false))
        };
        let [query, key, value] = linears;
        Ok([query?, key?, value?])
    }

    fn linear(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
        needs_bias: bool,
    ) -> Result<Linear<'a>, Error> {
        let bias_name = format!("{name}.bias");
        let bias = if needs_bias {
            Some(self.vector(&bias_name, rows)?)
        } else {
            self.optional_vector(&bias_name, rows)?
        };
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), rows, columns)?,
            scale: self.scale(name)?,
            bias,
        })
    }

    /// A matrix of any type that the kernels multiply with.
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix<'a>, Error> {
        let tensor = self.tensor(name)?;
        check_dims(&tensor, &[columns as u64, rows as u64])?;
        matrix_of(&tensor, rows, columns)
    }

    /// A list of numbers of any type, or of any shape with that many numbers in the same order.
    fn vector(&self, name: &str, len: usize) -> Result<Vector<'a>, Error> {
        let tensor = self.tensor(name)?;
        if tensor
            .dims
            .iter()
            .try_fold(1u64, |product, dim| product.checked_mul(*dim))
            != Some(len as u64)
        {
            return Err(shape_error(&tensor, &format!("{len} numbers")));
        }
        let columns = tensor.dims.first().map_or(1, |&dim| dim as usize);
        let matrix = matrix_of(&tensor, len / columns, columns)?;
        // SAFETY: any four bytes are an f32; the middle part is aligned.
        let (head, floats, tail) = unsafe { tensor.bytes.align_to::<f32>() };
        if tensor.dtype == DType::F32
            && cfg!(target_endian = "little")
            && head.is_empty()
            && tail.is_empty()
        {
            return Ok(Cow::Borrowed(floats));
        }
        let mut out = vec![0.0; len];
        let rows = matrix.rows();
        for (row, out) in (0..rows).zip(out.chunks_exact_mut(columns)) {
            matrix.decode_row(row, out);
        }
        Ok(Cow::Owned(out))
    }

    /// The numbers of a matrix that is multiplied in f32.
    fn floats(&self, name: &str, rows: usize, columns: usize) -> Result<Vector<'a>, Error> {
        check_dims(&self.tensor(name)?, &[columns as u64, rows as u64])?;
        self.vector(name, rows * columns)
    }

    fn optional_vector(&self, name: &str, len: usize) -> Result<Option<Vector<'a>>, Error> {
        match self.file.tensor(name) {
            None => Ok(None),
            Some(_) => self.vector(name, len).map(Some),
        }
    }

    /// The one factor beside a matrix, or 1.
    fn scale(&self, name: &str) -> Result<f32, Error> {
        let scale = self.optional_vector(&format!("{name}.scale"), 1)?;
        Ok(scale.map_or(1.0, |scale| scale[0]))
    }

    fn experts(&self, config: &Config, index: usize) -> Result<Experts<'a>, Error> {
        let name = |part: &str| format!("blk.{index}.ffn_{part}_exps");
        let Config {
            dim, ff, experts, ..
        } = *config;
        let matrix = |part: &str, rows: usize, columns: usize| {
            let tensor = self.tensor(&format!("{}.weight", name(part)))?;
            check_dims(&tensor, &[columns as u64, rows as u64, experts as u64])?;
            matrix_of(&tensor, rows * experts, columns)
        };
        let bias =
            |part: &str, rows: usize| self.vector(&format!("{}.bias", name(part)), rows * experts);
        let scales = |part: &str| self.optional_vector(&format!("{}.scale", name(part)), experts);
        Ok(Experts {
            gate: matrix("gate", ff, dim)?,
            up: matrix("up", ff, dim)?,
            down: matrix("down", dim, ff)?,
            gate_bias: bias("gate", ff)?,
            up_bias: bias("up", ff)?,
            down_bias: bias("down", dim)?,
            scales: [scales("gate")?, scales("up")?, scales("down")?],
            count: experts,
            ff,
            dim,
            swiglu_limit: config.swiglu_limit,
            swiglu_alpha: config.swiglu_alpha,
        })
    }

    fn tensor(&self, name: &str) -> Result<TensorView<'a>, Error> {
        let tensor = self.file.tensor(name);
        let tensor = tensor.ok_or_else(|| Error::MissingTensor { name: name.into() })?;
        self.found.borrow_mut().insert(tensor.name);
        Ok(tensor)
    }

    /// A tensor that nobody asked for is part of another model, whose results would not be these.
    fn refuse_others(&self, config: &Config) -> Result<(), Error> {
        let found = self.found.borrow();
        // Factors of NVFP4's inputs, which are not quantized that way here.
        let is_other = |name: &str| !found.contains(name) && !name.ends_with(".input_scale");
        match self.file.infos().find(|info| is_other(info.name)) {
            Some(info) => Err(Error::UnknownTensor {
                name: info.name.into(),
                layers: config.layers,
            }),
            None => Ok(()),
        }
    }
}

/// Checks that a tensor's type can be computed with and that its bytes are as many as its shape says.
fn matrix_of<'a>(
    tensor: &TensorView<'a>,
    rows: usize,
    columns: usize,
) -> Result<Matrix<'a>, Error> {
    Matrix::new(tensor.dtype, rows, columns, tensor.bytes).map_err(|error| Error::Matrix {
        name: tensor.name.into(),
        error,
    })
}

/// Compares dimensions; ones at the end are optional in the format.
fn check_dims(tensor: &TensorView, expected: &[u64]) -> Result<(), Error> {
    let longest = expected.len().max(tensor.dims.len());
    let dim = |dims: &[u64], i: usize| dims.get(i).copied().unwrap_or(1);
    if (0..longest).all(|i| dim(tensor.dims, i) == dim(expected, i)) {
        return Ok(());
    }
    Err(shape_error(tensor, &format!("shape {expected:?}")))
}

fn shape_error(tensor: &TensorView, expected: &str) -> Error {
    Error::Tensor {
        name: tensor.name.into(),
        found: format!("shape {:?} in {} bytes", tensor.dims, tensor.bytes.len()),
        expected: expected.into(),
    }
}
