//! What `convert` and `quantize` say of a file before they write it.

use super::terminal;
use fourfold_quantize::dtype::DType;
use std::collections::BTreeMap;

/// How much of a file is of each type.
#[derive(Default)]
pub struct Types(BTreeMap<DType, Sums>);

#[derive(Default)]
struct Sums {
    tensors: u64,
    weights: u64,
    bytes: u64,
}

impl Types {
    /// Counts a tensor.
    pub fn add(&mut self, dtype: DType, weights: u64, bytes: u64) {
        let sums = self.0.entry(dtype).or_default();
        sums.tensors += 1;
        sums.weights += weights;
        sums.bytes += bytes;
    }

    /// Size and bits per weight.
    pub fn total(&self) -> String {
        let sum = |of: fn(&Sums) -> u64| self.0.values().map(of).sum::<u64>();
        let (weights, bytes) = (sum(|sums| sums.weights), sum(|sums| sums.bytes));
        format!(
            "{}, {:.2} bits per weight",
            terminal::bytes(bytes),
            bytes as f64 * 8.0 / weights.max(1) as f64
        )
    }

    /// A line for each type.
    pub fn table(&self) -> String {
        let mut text = "  type    tensors    weights        size\n".to_owned();
        for (dtype, sums) in &self.0 {
            text += &format!(
                "  {:<7} {:>7} {:>10} {:>11}\n",
                dtype.name(),
                sums.tensors,
                terminal::count(sums.weights),
                terminal::bytes(sums.bytes)
            );
        }
        text
    }
}
