//! The one matrix product behind everything: 64 rows of quantized weights times any number of tokens.
//!
//! Eight steps of 32 columns at a time are unpacked into a *chunk* that stays in the first-level cache, straight from the file's
//! blocks; then each tile of tokens is multiplied with it. Lanes are rows, so a result is one lane's sum in one fixed order:
//! for each step (or half step, where a type has two scales)
//!
//! ```text
//! dot    = exact integer sum of weight * input
//! result = fma(round(dot * scale of the row), scale of the input, result)
//! result = fma(minimum of the row, input scale * sum of the inputs, result)        where the type has minima
//! ```
//!
//! Scales that are powers of two are taken together for a chunk, and cost one instruction less, as [`super::powers`] explains.
//!
//! The bits do not depend on the number of tokens, threads or lanes: decoding, prefill and verification of guesses agree exactly.
//!
//! Two arithmetic instructions per eight products of bytes is what this costs beside them, which matters where additions, conversions and
//! byte products share two ports (Intel since Ice Lake server). The integer sum starts from `MAGIC_BITS - offset * sum of inputs`, a load; read as a
//! float the finished sum is then `MAGIC + dot`, exactly, and one fma with `-MAGIC * scale` gives `dot * scale`, rounded once, without a conversion.

mod product;
mod unpack;

use super::activations::Record;
use super::along::Along;
use super::isa::Isa;
use super::single::Single;
use super::weight::{Class, Rows, Visitor, Weight};
use fourfold_quantize::dtype::DType;
use product::{Multiply, TILE};
use unpack::{Chunk, Unpack};

/// Rows of a panel: with sixteen lanes, four vectors for a tile. Two records of the next product's input.
pub const ROWS: usize = 64;

/// Tokens whose results are held while a panel's chunks pass by: 64 KiB.
pub const BATCH: usize = 256;

/// Steps of a chunk: 16 KiB of bytes, and scales; the eight steps of a block of 256.
pub(super) const CHUNK: usize = 8;

/// From this number of tokens on, the product and not the unpacking hides the reading of the next panel.
const MANY: usize = 12;

/// 1.5 * 2^23: a float whose last bit is worth one, in the middle of the range where that is so.
pub const MAGIC: f32 = 12582912.0;
/// Its bits. Adding an integer below 2^22 in magnitude adds its value.
pub const MAGIC_BITS: i32 = MAGIC.to_bits() as i32;

/// Results of one panel, for each token.
#[repr(C, align(64))]
pub struct Results(pub [[f32; ROWS]; BATCH]);

/// [`ROWS`] rows of a matrix.
#[derive(Clone, Copy)]
pub struct Panel {
    /// The first row.
    pub rows: *const u8,
    /// Bytes from row to row.
    pub stride: usize,
    /// Their type.
    pub dtype: DType,
    /// Steps in a row.
    pub steps: usize,
    /// Where the panel starts that this worker computes next; it is fetched meanwhile.
    pub next: *const u8,
}

impl Panel {
    /// The `index`-th `LANES` rows.
    #[inline(always)]
    pub(super) fn group<I: Isa>(self, index: usize) -> Rows {
        let Self { rows, stride, .. } = self;
        let start = rows.wrapping_add(index * I::LANES * stride);
        Rows { start, stride }
    }
}

/// Tokens in some order.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The records of token 0.
    pub records: *const Record,
    /// Records from token to token.
    pub stride: usize,
    /// Which tokens.
    pub tokens: Tokens<'a>,
}

/// A choice of tokens.
#[derive(Clone, Copy)]
pub enum Tokens<'a> {
    /// Consecutive ones from this one on.
    From(usize),
    /// These.
    Listed(&'a [u32]),
}

impl Inputs<'_> {
    #[inline(always)]
    fn token(&self, index: usize) -> *const Record {
        self.records
            .wrapping_add(self.tokens.at(index) * self.stride)
    }
}

impl Tokens<'_> {
    /// The `index`-th token of the choice.
    #[inline(always)]
    pub fn at(&self, index: usize) -> usize {
        match self {
            Tokens::From(first) => first + index,
            Tokens::Listed(list) => list[index] as usize,
        }
    }
}

/// Multiplies a panel with `count` <= [`BATCH`] tokens.
/// # Safety
/// The panel's rows are readable and hold `steps` steps of its type, which is a quantized one; the inputs' tokens have as many records.
#[inline(always)]
pub unsafe fn multiply<I: Isa>(
    isa: I,
    panel: Panel,
    inputs: Inputs,
    count: usize,
    results: &mut Results,
) {
    struct Chosen<'a, I> {
        isa: I,
        panel: Panel,
        inputs: Inputs<'a>,
        count: usize,
        results: &'a mut Results,
    }
    impl<I: Isa> Visitor for Chosen<'_, I> {
        type Out = ();
        #[inline(always)]
        fn visit<W: Weight>(self) {
            // SAFETY: promised by the caller of `multiply`.
            unsafe { chunks::<I, W>(self.isa, self.panel, self.inputs, self.count, self.results) }
        }
    }
    let chosen = Chosen {
        isa,
        panel,
        inputs,
        count,
        results,
    };
    super::weight::with(panel.dtype, chosen);
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn chunks<I: Isa, W: Weight>(
    isa: I,
    panel: Panel,
    inputs: Inputs,
    count: usize,
    results: &mut Results,
) {
    debug_assert!(count <= BATCH);
    if count == 1 {
        let record = inputs.token(0);
        let results = results.0[0].as_mut_ptr();
        let weight = std::marker::PhantomData;
        return if W::ALONG > 0 && panel.steps >= I::LANES / 4 {
            isa.call(Along::<W> {
                panel,
                record,
                results,
                weight,
            })
        } else {
            isa.call(Single::<W> {
                panel,
                record,
                results,
                weight,
            })
        };
    }
    // Once for all chunks: every tile looks up its own tokens and, to fetch them, those of the next tile.
    let mut records = [std::ptr::null(); BATCH + TILE];
    for (index, record) in records[..count + TILE].iter_mut().enumerate() {
        *record = inputs.token(index.min(count - 1));
    }
    let mut chunk = std::mem::MaybeUninit::<Chunk>::uninit();
    let chunk = chunk.as_mut_ptr();
    for first in (0..panel.steps).step_by(CHUNK) {
        let steps = CHUNK.min(panel.steps - first);
        // With few tokens unpacking is all there is to do while memory is read; with many, fetching all of the next
        // panel in that short time would wait for memory, and the product has time to spare.
        let lines = (ROWS * panel.stride).div_ceil(64).div_ceil(panel.steps);
        let ahead = panel.next.wrapping_add(first * lines * 64);
        let many = count >= MANY;
        let carried = isa.call(Unpack::<W> {
            panel,
            first,
            steps,
            ahead: (!many).then_some((ahead, lines)),
            chunk,
            weight: std::marker::PhantomData,
        });
        isa.call(Multiply::<W::Class> {
            chunk,
            carried,
            records: &records[..count + TILE],
            first,
            steps,
            all_steps: panel.steps,
            ahead: many.then_some((ahead, lines)),
            count,
            results: results.0.as_mut_ptr().cast(),
            class: std::marker::PhantomData,
        });
    }
}

pub(super) const fn halves<C: Class>() -> usize {
    if C::SPLIT { 2 } else { 1 }
}

/// Whether a step's products are added up in pairs of 16 bits: those of weights from -16 to 15 with 16 inputs stay below 2^15.
pub(super) const fn in_pairs<I: Isa, C: Class>() -> bool {
    I::PAIRS && C::OFFSET == 16
}

/// What the integer sum of a step, or a half step, starts from. `other`: the bytes carry a factor and are moved up by 128, or what starts is a sum of
/// pairs of 16 bits; no instruction set has both.
/// # Safety
/// The record is readable.
#[inline(always)]
pub(super) unsafe fn start<I: Isa, C: Class>(
    record: *const Record,
    half: usize,
    other: bool,
) -> i32 {
    // SAFETY: promised by the caller.
    unsafe {
        match C::OFFSET {
            _ if other => (*record).start128,
            16 => (*record).start16,
            32 => (*record).start32[half],
            // Four times what 32 would take off: no record has a number of its own for this.
            128 if !I::PAIRS && C::SPLIT => {
                let by32 = (*record).start32[half].wrapping_sub(MAGIC_BITS);
                MAGIC_BITS.wrapping_add(by32.wrapping_mul(4))
            }
            128 if !I::PAIRS => (*record).start128,
            _ => MAGIC_BITS,
        }
    }
}
