//! Which tensors of a checkpoint the model is made of, in whichever of its layouts.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::Config;
use crate::layout;
use crate::names::{Dim, EMBEDDING, EXPERTS, ExpertName, LAYER, MODEL, Name, Part};
use crate::safetensors::SourceType;
use crate::source::{Matrix, Source, Strided};
use crate::{Error, Result};

/// Finds every tensor that the model needs; checks types and shapes, and that nothing in the checkpoint is left over.
pub fn matrices<'a>(checkpoint: &'a Checkpoint, config: &Config) -> Result<Vec<Matrix<'a>>> {
    layout::check(checkpoint, config)?;
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
        self.expect(name)?;
        let tensor = self.checkpoint.floats(name, shape)?;
        self.used.insert(tensor.name);
        Ok(tensor)
    }

    fn packed(&mut self, name: &str, shape: &[u64]) -> Result<Tensor<'a>> {
        self.expect(name)?;
        let tensor = self.checkpoint.packed(name, shape)?;
        self.used.insert(tensor.name);
        Ok(tensor)
    }

    fn expect(&self, name: &str) -> Result<()> {
        match self.checkpoint.contains(name) {
            true => Ok(()),
            false => Err(layout::missing(self.checkpoint, self.config, name)),
        }
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
        let dense = match self.are_numbers(&codes) && !self.checkpoint.contains(&scales) {
            true => &codes,
            false => &base,
        };
        let source = if self.checkpoint.contains(dense) {
            Source::InputMajor {
                tensor: self.floats(dense, &[experts, columns, their_rows])?,
                pick: name.pick,
            }
        } else if self.checkpoint.contains(&codes) {
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
        } else {
            return Err(layout::no_experts(self.checkpoint, self.config, &codes));
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

    /// transformers 5 saves experts that it dequantized when it loaded them, `[experts, inputs, outputs]` as ever,
    /// under the name of the blocks they were made from.
    fn are_numbers(&self, blocks: &str) -> bool {
        self.checkpoint.record(blocks).is_some_and(|record| {
            record.shape.len() == 3 && record.dtype().is_some_and(SourceType::is_float)
        })
    }

    fn expert_base(&self, name: &ExpertName, layer: u32, suffix: &str) -> String {
        match self.config.original {
            true => format!("block.{layer}.mlp.{}{suffix}", name.original),
            false => format!("model.layers.{layer}.mlp.experts.{}", name.hugging_face),
        }
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
