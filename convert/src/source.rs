//! Where the rows of a GGUF tensor come from, and how they are read.

use std::ops::Range;
use std::path::Path;

use fourfold_quantize::block;
use fourfold_quantize::dtype::DType;

use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::Config;
use crate::experts::{CODES, repack, to_f32, turn};
use crate::names::{EMBEDDING, EXPERTS, ExpertName, LAYER, MODEL, Name, Part, Pick};
use crate::safetensors::SourceType;
use crate::{Error, Result};

/// The origin of one GGUF tensor.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// Its name in GGUF.
    pub name: String,
    /// Dimensions, slowest first; the last is the length of a row.
    pub shape: Vec<u64>,
    /// What its rows are made from.
    pub source: Source<'a>,
}

/// What the rows of a GGUF tensor are made from.
#[derive(Debug)]
pub enum Source<'a> {
    /// Numbers that are already row by row, perhaps with gaps.
    Strided(Strided<'a>),
    /// MXFP4 experts, output-major.
    Blocks {
        /// Codes, `[expert, row, block, 16]`.
        blocks: Tensor<'a>,
        /// One scale for each block.
        scales: Tensor<'a>,
        /// Which rows of the checkpoint's matrix.
        pick: Pick,
    },
    /// Un-quantized experts as transformers keeps them: `[expert, input, output]`.
    InputMajor {
        /// The numbers.
        tensor: Tensor<'a>,
        /// Which outputs.
        pick: Pick,
    },
}

/// Rows at regular distances, from one tensor or from one of each expert.
#[derive(Debug)]
pub struct Strided<'a> {
    tensors: Vec<Tensor<'a>>,
    /// Rows of the result in each tensor.
    rows_each: u64,
    /// Numbers in a row of the tensor.
    width: u64,
    /// First row, and rows from one to the next.
    rows: (u64, u64),
    /// First number, and numbers from one to the next.
    columns: (u64, u64),
}

impl Matrix<'_> {
    /// Numbers in a row.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.shape.iter().rev().skip(1).product()
    }

    /// Numbers in all.
    pub fn weights(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Norms, biases, sinks and the router: they are small, and every program expects them in F32.
    pub fn stays_f32(&self) -> bool {
        self.shape.len() < 2
            || !self.name.ends_with(".weight")
            || self.name.ends_with("ffn_gate_inp.weight")
    }

    /// Dimensions in GGML's order, fastest first.
    pub fn dims(&self) -> Vec<u64> {
        self.shape.iter().rev().copied().collect()
    }

    /// The type that holds these numbers without changing any.
    pub fn own_type(&self) -> DType {
        match &self.source {
            Source::Blocks { .. } => DType::MXFP4,
            Source::Strided(Strided { tensors, .. }) => float_type(tensors[0].dtype),
            Source::InputMajor { tensor, .. } => float_type(tensor.dtype),
        }
    }

    /// How many rows may be read at once: not more than one expert has, where its rows lie in another order.
    pub fn rows_at_once(&self) -> u64 {
        match &self.source {
            Source::InputMajor { .. } => self.shape[self.shape.len() - 2],
            _ => self.rows(),
        }
    }

    /// Where the rows from `row` on lie, for reading a file from front to back.
    pub fn place(&self, row: u64) -> (usize, u64) {
        let (tensor, fraction) = match &self.source {
            Source::Strided(strided) => {
                let (tensor, row) = strided.locate(row);
                let byte = row * strided.width * tensor.dtype.bytes();
                return (tensor.place.0, tensor.place.1 + byte);
            }
            Source::Blocks { blocks, .. } => (blocks, row as f64 / self.rows() as f64),
            Source::InputMajor { tensor, .. } => (tensor, row as f64 / self.rows() as f64),
        };
        let byte = fraction * tensor.bytes.len() as f64;
        (tensor.place.0, tensor.place.1 + byte as u64)
    }

    /// The file and name to blame for a bad number.
    pub fn blame(&self) -> (&Path, &str) {
        let tensor = match &self.source {
            Source::Strided(strided) => &strided.tensors[0],
            Source::Blocks { scales, .. } => scales,
            Source::InputMajor { tensor, .. } => tensor,
        };
        (tensor.path, tensor.name)
    }

    /// Rows as numbers; `out` has room for them.
    pub fn read(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        if matches!(self.source, Source::Blocks { .. }) {
            let mut packed = vec![0; out.len() / 32 * DType::MXFP4.block_bytes()];
            self.copy(rows, &mut packed)?;
            block::decode_rows(DType::MXFP4, &packed, out)?;
        } else {
            self.read_columns(rows.start, self.columns() as usize, out);
        }
        Ok(())
    }

    /// The first `columns` numbers of each of the rows from `row` on, as many as `out` has room for.
    fn read_columns(&self, row: u64, columns: usize, out: &mut [f32]) {
        match &self.source {
            Source::Blocks { .. } => {}
            Source::Strided(strided) => {
                for (row, values) in (row..).zip(out.chunks_mut(columns)) {
                    strided.read(row, values);
                }
            }
            Source::InputMajor { tensor, pick } => {
                let rows_each = self.shape[self.shape.len() - 2];
                let (expert, row) = (row / rows_each, row % rows_each);
                let width = rows_each * pick.step();
                let size = (self.columns() * width * tensor.dtype.bytes()) as usize;
                let source = &tensor.bytes[expert as usize * size..][..size];
                let first = (row * pick.step() + pick.first()) as usize;
                let picked = (first, pick.step() as usize);
                turn(tensor.dtype, source, width as usize, picked, columns, out);
            }
        }
    }

    /// Whether an un-quantized expert matrix holds what MXFP4 can hold, judged by the first block of a few rows of a
    /// few experts. A matrix that was trained on fails at its first block; reading all of it would take as long as
    /// converting it, and the conversion counts what it changes anyway.
    pub fn is_mxfp4_in_disguise(&self) -> Result<bool> {
        const BLOCK: usize = 32;
        let (experts, rows) = (self.shape[0], self.shape[1]);
        if !self.columns().is_multiple_of(BLOCK as u64) {
            return Ok(false);
        }
        let mut values = [0.0; 8 * BLOCK];
        let values = &mut values[..BLOCK * rows.min(8) as usize];
        let mut decoded = values.to_vec();
        let mut packed = vec![0; values.len() / BLOCK * DType::MXFP4.block_bytes()];
        for expert in (0..experts).step_by(experts.div_ceil(4) as usize) {
            self.read_columns(expert * rows, BLOCK, values);
            block::encode_rows(DType::MXFP4, BLOCK, values, None, &mut packed)?;
            block::decode_rows(DType::MXFP4, &packed, &mut decoded)?;
            if values != decoded {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows in the tensor's own type, unchanged; `out` has room for them.
    pub fn copy(&self, rows: Range<u64>, out: &mut [u8]) -> Result<()> {
        let columns = self.columns() as usize;
        match &self.source {
            Source::Strided(strided) => {
                let size = strided.tensors[0].dtype.bytes() as usize;
                for (row, bytes) in rows.zip(out.chunks_mut(columns * size)) {
                    strided.copy(row, bytes);
                }
            }
            Source::Blocks {
                blocks,
                scales,
                pick,
            } => {
                let per_row = columns / 32;
                let row_bytes = per_row * DType::MXFP4.block_bytes();
                for (row, packed) in rows.zip(out.chunks_mut(row_bytes)) {
                    let from = (row * pick.step() + pick.first()) as usize * per_row;
                    let codes = &blocks.bytes[from * CODES..][..per_row * CODES];
                    repack(codes, &scales.bytes[from..][..per_row], packed);
                }
            }
            Source::InputMajor { .. } => {
                // Numbers of 16 bits survive the way through 32 unchanged, so nothing is special about this one.
                let mut values = vec![0.0; (rows.end - rows.start) as usize * columns];
                self.read(rows, &mut values)?;
                block::encode_rows(self.own_type(), columns, &values, None, out)?;
            }
        }
        Ok(())
    }
}

fn float_type(dtype: SourceType) -> DType {
    match dtype {
        SourceType::BF16 => DType::BF16,
        SourceType::F16 => DType::F16,
        SourceType::F32 => DType::F32,
        SourceType::U8 => DType::I8,
    }
}

impl<'a> Strided<'a> {
    fn locate(&self, row: u64) -> (&Tensor<'a>, u64) {
        let tensor = &self.tensors[(row / self.rows_each) as usize];
        (tensor, self.rows.0 + row % self.rows_each * self.rows.1)
    }

    fn read(&self, row: u64, out: &mut [f32]) {
        let (tensor, row) = self.locate(row);
        let size = tensor.dtype.bytes() as usize;
        let bytes = &tensor.bytes[(row * self.width) as usize * size..];
        let (first, step) = (self.columns.0 as usize, self.columns.1 as usize);
        if step == 1 {
            to_f32(
                tensor.dtype,
                &bytes[first * size..][..out.len() * size],
                out,
            );
            return;
        }
        for (column, value) in out.iter_mut().enumerate() {
            let at = (first + column * step) * size;
            to_f32(
                tensor.dtype,
                &bytes[at..at + size],
                std::slice::from_mut(value),
            );
        }
    }

    fn copy(&self, row: u64, out: &mut [u8]) {
        let (tensor, row) = self.locate(row);
        let size = tensor.dtype.bytes() as usize;
        let bytes = &tensor.bytes[(row * self.width) as usize * size..];
        let (first, step) = (self.columns.0 as usize, self.columns.1 as usize);
        if step == 1 {
            out.copy_from_slice(&bytes[first * size..][..out.len()]);
            return;
        }
        for (column, number) in out.chunks_mut(size).enumerate() {
            let at = (first + column * step) * size;
            number.copy_from_slice(&bytes[at..at + size]);
        }
    }
}

/// Finds every tensor that the model needs; checks types and shapes, and that nothing in the checkpoint is left over.
pub fn find<'a>(checkpoint: &'a Checkpoint, config: &Config) -> Result<Vec<Matrix<'a>>> {
    let mut finder = Finder {
        checkpoint,
        config,
        used: Default::default(),
    };
    let mut matrices = Vec::new();
    for name in &MODEL {
        matrices.push(finder.dense(name, None)?);
    }
    for layer in 0..config.num_hidden_layers {
        for name in &LAYER {
            matrices.push(finder.dense(name, Some(layer))?);
        }
        for name in &EXPERTS {
            matrices.push(finder.expert_weights(name, layer)?);
            matrices.push(finder.expert_bias(name, layer)?);
        }
    }
    finder.refuse_leftovers()?;
    Ok(matrices)
}

struct Finder<'a, 'c> {
    checkpoint: &'a Checkpoint,
    config: &'c Config,
    used: std::collections::HashSet<&'a str>,
}

impl<'a> Finder<'a, '_> {
    fn floats(&mut self, name: &str, shape: &[u64]) -> Result<Tensor<'a>> {
        let tensor = self.checkpoint.floats(name, shape)?;
        self.used.insert(tensor.name);
        Ok(tensor)
    }

    fn packed(&mut self, name: &str, shape: &[u64]) -> Result<Tensor<'a>> {
        let tensor = self.checkpoint.packed(name, shape)?;
        self.used.insert(tensor.name);
        Ok(tensor)
    }

    fn dense(&mut self, name: &Name, layer: Option<u32>) -> Result<Matrix<'a>> {
        let shape: Vec<u64> = name.shape.iter().map(|dim| dim.of(self.config)).collect();
        let (theirs, part) = self.name_in_checkpoint(name, layer);
        let (before, total) = self.part(part, shape[0]);
        let mut their_shape = shape.clone();
        their_shape[0] = total;
        let tensor = self.floats(&theirs, &their_shape)?;
        let matrix = shape.len() > 1;
        let strided = Strided {
            tensors: vec![tensor],
            rows_each: if matrix { shape[0] } else { 1 },
            width: if matrix { shape[1] } else { total },
            rows: (if matrix { before } else { 0 }, 1),
            columns: (if matrix { 0 } else { before }, 1),
        };
        Ok(Matrix {
            name: gguf_name(layer, name.gguf),
            shape,
            source: Source::Strided(strided),
        })
    }

    fn name_in_checkpoint(&self, name: &Name, layer: Option<u32>) -> (String, Part) {
        if self.config.original {
            let prefix = layer.map_or(String::new(), |layer| format!("block.{layer}."));
            return (prefix + name.original.0, name.original.1);
        }
        let prefix = layer.map_or(String::new(), |layer| format!("model.layers.{layer}."));
        let mut names = name
            .hugging_face
            .iter()
            .map(|name| format!("{prefix}{name}"));
        let usual = names.next().unwrap_or_default();
        if self.checkpoint.contains(&usual) {
            return (usual, Part::All);
        }
        if self.config.tie_word_embeddings && name.gguf == "output.weight" {
            let tied = MODEL.iter().find(|name| name.gguf == EMBEDDING);
            let tied = tied.map_or(usual, |name| name.hugging_face[0].to_owned());
            return (tied, Part::All);
        }
        let other = names.find(|name| self.checkpoint.contains(name));
        (other.unwrap_or(usual), Part::All)
    }

    /// Rows before the part, and rows of the fused tensor.
    fn part(&self, part: Part, rows: u64) -> (u64, u64) {
        use crate::names::Dim;
        let (query, kv) = (Dim::Query.of(self.config), Dim::KeyValue.of(self.config));
        match part {
            Part::All => (0, rows),
            Part::Query => (0, query + 2 * kv),
            Part::Key => (query, query + 2 * kv),
            Part::Value => (query + kv, query + 2 * kv),
        }
    }

    fn expert_weights(&mut self, name: &ExpertName, layer: u32) -> Result<Matrix<'a>> {
        let experts = u64::from(self.config.num_experts);
        let (rows, columns) = name.size(self.config);
        let their_rows = rows * name.pick.step();
        let base = self.expert_base(name, layer, "_weight");
        let (codes, scales) = match self.config.original {
            true => (format!("{base}.blocks"), format!("{base}.scales")),
            false => (format!("{base}_blocks"), format!("{base}_scales")),
        };
        let first_module = format!("{base}s.0.weight");
        let source = if self.checkpoint.contains(&codes) {
            if !columns.is_multiple_of(32) {
                let message =
                    format!("has rows of {columns} numbers, which is not a multiple of 32");
                return Err(Error::tensor(&self.checkpoint.folder, &codes, message));
            }
            let blocks = columns / 32;
            Source::Blocks {
                blocks: self.packed(&codes, &[experts, their_rows, blocks, 16])?,
                scales: self.packed(&scales, &[experts, their_rows, blocks])?,
                pick: name.pick,
            }
        } else if self.checkpoint.contains(&first_module) {
            let tensors = (0..experts)
                .map(|expert| {
                    self.floats(&format!("{base}s.{expert}.weight"), &[their_rows, columns])
                })
                .collect::<Result<_>>()?;
            Source::Strided(Strided {
                tensors,
                rows_each: rows,
                width: columns,
                rows: (name.pick.first(), name.pick.step()),
                columns: (0, 1),
            })
        } else if self.checkpoint.contains(&base) {
            Source::InputMajor {
                tensor: self.floats(&base, &[experts, columns, their_rows])?,
                pick: name.pick,
            }
        } else {
            return Err(self.no_experts(&base, &codes));
        };
        Ok(Matrix {
            name: gguf_name(Some(layer), &format!("{}.weight", name.gguf)),
            shape: vec![experts, rows, columns],
            source,
        })
    }

    fn expert_bias(&mut self, name: &ExpertName, layer: u32) -> Result<Matrix<'a>> {
        let experts = u64::from(self.config.num_experts);
        let (rows, _) = name.size(self.config);
        let width = rows * name.pick.step();
        let base = self.expert_base(name, layer, "");
        let modules = self.checkpoint.contains(&format!("{base}s.0.bias"));
        let tensors = if modules {
            (0..experts)
                .map(|expert| self.floats(&format!("{base}s.{expert}.bias"), &[width]))
                .collect::<Result<_>>()?
        } else {
            vec![self.floats(&format!("{base}_bias"), &[experts, width])?]
        };
        Ok(Matrix {
            name: gguf_name(Some(layer), &format!("{}.bias", name.gguf)),
            shape: vec![experts, rows],
            source: Source::Strided(Strided {
                tensors,
                rows_each: if modules { 1 } else { experts },
                width,
                rows: (0, 1),
                columns: (name.pick.first(), name.pick.step()),
            }),
        })
    }

    fn expert_base(&self, name: &ExpertName, layer: u32, suffix: &str) -> String {
        match self.config.original {
            true => format!("block.{layer}.mlp.{}{suffix}", name.original),
            false => format!("model.layers.{layer}.mlp.experts.{}", name.hugging_face),
        }
    }

    /// Says which other layout the experts are in, if a name gives it away.
    fn no_experts(&self, base: &str, expected: &str) -> Error {
        const SIGNS: [(&str, &str); 5] = [
            ("weight_packed", "the compressed-tensors format"),
            ("weight_scale_2", "NVIDIA ModelOpt's NVFP4 format"),
            (".quant_map", "bitsandbytes' 4-bit format"),
            (".absmax", "bitsandbytes' 4-bit format"),
            ("gate_proj.scales", "MLX's format"),
        ];
        let found = SIGNS
            .iter()
            .find(|(sign, _)| self.checkpoint.names().any(|name| name.contains(sign)));
        let Some((_, what)) = found else {
            return Error::MissingTensor {
                path: self.checkpoint.folder.clone(),
                tensor: expected.to_owned(),
                advice: "nor are these experts there in BF16, F16 or F32; the download is incomplete",
            };
        };
        let what = format!("a checkpoint with experts in {what} (no `{base}`)");
        let instead = "download the MXFP4 original (openai/gpt-oss-20b or -120b) or, of a fine-tune, the BF16 upload";
        Error::unsupported(&self.checkpoint.folder, what, instead)
    }

    /// A weight that nothing asked for means that this is not the model config.json describes.
    fn refuse_leftovers(&self) -> Result<()> {
        let known = |name: &str| self.used.contains(name) || name.ends_with("rotary_emb.inv_freq");
        match self.checkpoint.names().find(|name| !known(name)) {
            Some(name) => Err(Error::tensor(
                &self.checkpoint.folder,
                name,
                "is not part of the model that config.json describes; the two do not belong together",
            )),
            None => Ok(()),
        }
    }
}

fn gguf_name(layer: Option<u32>, name: &str) -> String {
    match layer {
        Some(layer) => format!("blk.{layer}.{name}"),
        None => name.to_owned(),
    }
}
