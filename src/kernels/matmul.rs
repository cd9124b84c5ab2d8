//! Products of one input with several matrices, such as q, k and v, in one region of the pool.

use super::activations::Activations;
use super::isa::{Isa, Task};
use super::panel::{self, BATCH, Inputs, Panel, ROWS, Results, Tokens};
use super::{Kernels, Matrix, float};
use crate::threads::Pool;
use crate::work::Runs;

/// One matrix of a call of [`Kernels::matmul`].
pub struct Product<'a> {
    /// The weights: as many columns as the input.
    pub weight: Matrix<'a>,
    /// A factor of each row's result, which some NVFP4 files keep beside a matrix; 1 otherwise.
    pub scale: f32,
    /// Added to each row's result.
    pub bias: Option<&'a [f32]>,
    /// The results: for each token a value for each row of the matrix.
    pub out: &'a mut [f32],
    /// Whether to add to what `out` holds.
    pub add: bool,
}

/// The input of products, in both forms it may have.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub activations: &'a Activations,
    pub exact: bool,
}

impl Input<'_> {
    /// Multiplies a panel of a matrix with up to [`BATCH`] tokens.
    #[inline(always)]
    pub fn multiply<I: Isa>(
        &self,
        isa: I,
        rows: &PanelRows,
        tokens: Tokens,
        count: usize,
        results: &mut Results,
    ) {
        let columns = self.activations.columns();
        assert!(count <= BATCH && (0..count).all(|i| tokens.at(i) < self.activations.tokens()));
        if self.exact || rows.panel.dtype.is_float() {
            let values = self.activations.values();
            let values =
                values.expect("inputs of float matrices are kept: Activations::keep_values");
            // SAFETY: PanelRows holds a panel of a matrix with as many columns as the input.
            unsafe {
                float::multiply(isa, rows.panel, values, columns, tokens, count, results);
            }
        } else {
            let (records, stride) = self.activations.records();
            let inputs = Inputs {
                records: records.as_ptr(),
                stride,
                tokens,
            };
            // SAFETY: PanelRows holds a panel of a matrix with as many columns as the input; the tokens were checked above.
            unsafe { panel::multiply(isa, rows.panel, inputs, count, results) }
        }
    }
}

/// The rows of a panel: in place, or, where the matrix ends before, copied beside rows of zeros.
pub(super) struct PanelRows {
    pub panel: Panel,
    /// How many of the rows the matrix has.
    pub rows: usize,
    _copy: Vec<u8>,
}

impl PanelRows {
    /// Panel `index` of the matrix; `next` is the panel that the same worker computes after it.
    #[inline(always)]
    pub fn new(matrix: &Matrix, index: usize, next: Option<*const u8>) -> Self {
        let stride = matrix.row_bytes();
        let rows = ROWS.min(matrix.rows - index * ROWS);
        let bytes = &matrix.bytes[index * ROWS * stride..][..rows * stride];
        let mut copy = Vec::new();
        if rows < ROWS {
            copy.extend_from_slice(bytes);
            copy.resize(ROWS * stride, 0);
        }
        let start = if rows < ROWS {
            copy.as_ptr()
        } else {
            bytes.as_ptr()
        };
        Self {
            panel: Panel {
                rows: start,
                stride,
                dtype: matrix.dtype,
                steps: matrix.columns / super::weight::STEP,
                next: next.unwrap_or(start),
            },
            rows,
            _copy: copy,
        }
    }
}

/// The first byte of a panel.
pub(super) fn panel_start(matrix: &Matrix, index: usize) -> *const u8 {
    let offset = index * ROWS * matrix.row_bytes();
    matrix.bytes.as_ptr().wrapping_add(offset)
}

/// Results that workers write at the same time, each its own rows.
#[derive(Clone, Copy)]
pub(super) struct SharedOut {
    pub start: *mut f32,
    pub rows: usize,
}
// SAFETY: workers write disjoint rows.
unsafe impl Send for SharedOut {}
// SAFETY: as above.
unsafe impl Sync for SharedOut {}

impl SharedOut {
    /// Rows `first..first + count` of a token.
    /// # Safety
    /// They are inside, and nobody else uses them meanwhile.
    #[inline(always)]
    pub unsafe fn row<'a>(self, token: usize, first: usize, count: usize) -> &'a mut [f32] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(token * self.rows + first), count) }
    }
}

impl Kernels {
    /// `out[token][row] = weight[row] · input[token] + bias[row]` for each product.
    ///
    /// Panics if a shape does not fit: shapes are checked when a model is loaded.
    pub fn matmul(&self, pool: &Pool, input: &Activations, products: &mut [Product]) {
        let shares: Vec<Share> = products
            .iter_mut()
            .map(|product| {
                let Matrix { rows, columns, .. } = product.weight;
                assert_eq!(
                    columns,
                    input.columns(),
                    "columns of a matrix and its input"
                );
                assert_eq!(
                    product.out.len(),
                    input.tokens() * rows,
                    "tokens x rows results"
                );
                assert!(
                    product.bias.is_none_or(|bias| bias.len() == rows),
                    "a bias for each row"
                );
                Share {
                    weight: product.weight,
                    scale: product.scale,
                    bias: product.bias,
                    add: product.add,
                    out: SharedOut {
                        start: product.out.as_mut_ptr(),
                        rows,
                    },
                }
            })
            .collect();
        let panels: usize = shares.iter().map(Share::panels).sum();
        let batches = input.tokens().div_ceil(BATCH);
        let input = Input {
            activations: input,
            exact: self.exact,
        };
        let runs = Runs::new(panels * batches, 1, pool.threads());
        pool.run(|_| {
            self.call(Work {
                input,
                shares: &shares,
                panels,
                runs: &runs,
            });
        });
    }
}

/// A product as the workers see it.
struct Share<'a> {
    weight: Matrix<'a>,
    scale: f32,
    bias: Option<&'a [f32]>,
    add: bool,
    out: SharedOut,
}

impl Share<'_> {
    fn panels(&self) -> usize {
        self.weight.rows.div_ceil(ROWS)
    }
}

/// What a worker does: runs of panels of all products, counted through once for each batch.
///
/// Batches outside, panels inside: a batch's inputs stay in the second-level cache, the weights come from memory anyway.
struct Work<'a> {
    input: Input<'a>,
    shares: &'a [Share<'a>],
    /// Panels of all products.
    panels: usize,
    runs: &'a Runs,
}

impl<'a> Work<'a> {
    /// The product that an item belongs to, and the panel of its matrix.
    fn panel(&self, item: usize) -> (&'a Share<'a>, usize) {
        let mut index = item % self.panels;
        for share in self.shares {
            if index < share.panels() {
                return (share, index);
            }
            index -= share.panels();
        }
        unreachable!("an item is one of the products' panels")
    }
}

impl Task for Work<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut results = Results([[0.0; ROWS]; BATCH]);
        let total = self.input.activations.tokens();
        let mut run = self.runs.next();
        while !run.is_empty() {
            // Taken before it is needed, because its first panel is fetched during the last one of this run.
            let following = self.runs.next();
            for item in run.clone() {
                let after = if item + 1 < run.end {
                    item + 1..run.end
                } else {
                    following.clone()
                };
                let next = (!after.is_empty()).then(|| {
                    let (share, index) = self.panel(after.start);
                    panel_start(&share.weight, index)
                });
                let (share, index) = self.panel(item);
                let rows = PanelRows::new(&share.weight, index, next);
                let batch = item / self.panels * BATCH;
                let count = BATCH.min(total - batch);
                let tokens = Tokens::From(batch);
                self.input.multiply(isa, &rows, tokens, count, &mut results);
                for (token, results) in results.0[..count].iter().enumerate() {
                    // SAFETY: `matmul` checked the size of `out`; an item has one worker.
                    let out = unsafe { share.out.row(batch + token, index * ROWS, rows.rows) };
                    finish(out, results, share, index);
                }
            }
            run = following;
        }
    }
}

#[inline(always)]
fn finish(out: &mut [f32], results: &[f32; ROWS], share: &Share, panel: usize) {
    let zeros = [0.0; ROWS];
    let bias = share.bias.map_or(&zeros[..], |bias| &bias[panel * ROWS..]);
    for ((out, result), bias) in out.iter_mut().zip(results).zip(bias) {
        let value = result.mul_add(share.scale, *bias);
        *out = if share.add { *out + value } else { value };
    }
}
