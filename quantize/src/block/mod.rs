//! Block formats: how 32 or 256 numbers become bytes, and back.
//!
//! One file per type holds its layout, its decoder and its encoder. What makes encoders slow, the scale
//! searches, lives in [`search`], once as specification and once many groups at a time; both give the
//! same bytes. `codec` is the only list of types here: see docs/adding-a-quant.md.

pub mod float;
pub mod grid;
pub mod iq2;
pub mod iq3;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod lanes;
pub mod mxfp4;
pub mod number;
pub mod nvfp4;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
pub mod scales6;
pub mod search;
pub mod super_block;

use crate::dtype::DType;
use lanes::Level;
use search::{Scalar, Search};

/// A block of `LEN` elements as it lies in a file.
///
/// # Safety
/// The type is `repr(C)` and made of bytes only: no padding, alignment 1, every bit pattern valid.
pub unsafe trait Block<const LEN: usize>: Copy + 'static {
    /// Encodes whole blocks of one row.
    fn encode_row<S: Search>(search: S, row: Row<'_>, out: &mut [Self]);
    /// The values of this block.
    fn decode(&self, out: &mut [f32; LEN]);
    /// What is wrong with this block, if anything, in words that follow "block 7: ".
    fn check(&self) -> Result<(), &'static str>;
}

/// Values to encode, from one row of a matrix.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The values.
    pub x: &'a [f32],
    /// How much each value matters; as many as there are values.
    pub importance: Option<&'a [f32]>,
}

/// Values that are searched together: eight super-blocks, so that even their scales fill 16 lanes,
/// and small enough that values and weights stay in the first-level cache.
pub const BATCH: usize = 2048;

impl<'a> Row<'a> {
    /// Splits a row and its blocks into batches of at most [`BATCH`] values.
    #[inline(always)]
    pub fn batches<const LEN: usize, B: Block<LEN>>(
        self,
        out: &'a mut [B],
    ) -> impl Iterator<Item = (Row<'a>, &'a mut [B])> {
        out.chunks_mut(BATCH / LEN)
            .enumerate()
            .map(move |(i, out)| {
                let range = i * BATCH..i * BATCH + out.len() * LEN;
                let row = Row {
                    x: &self.x[range.clone()],
                    importance: self.importance.map(|importance| &importance[range]),
                };
                (row, out)
            })
    }

    /// Weights of the values in the error when there is importance: `q * sqrt(mean_square + x * x)`.
    #[inline(always)]
    pub fn weigh(x: &[f32], importance: &[f32], mean_square: f32, w: &mut [f32]) {
        for ((&x, &q), w) in x.iter().zip(importance).zip(w) {
            *w = q * (mean_square + x * x).sqrt();
        }
    }
}

/// Views bytes as blocks; `None` unless they are whole blocks.
pub fn cast<const LEN: usize, B: Block<LEN>>(bytes: &[u8]) -> Option<&[B]> {
    const { assert!(align_of::<B>() == 1 && size_of::<B>() > 0) };
    bytes.len().is_multiple_of(size_of::<B>()).then(|| {
        // SAFETY: Block promises that any bytes are valid and that alignment is 1; the length is whole blocks.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<B>()) }
    })
}

/// [`cast`] for writing.
pub fn cast_mut<const LEN: usize, B: Block<LEN>>(bytes: &mut [u8]) -> Option<&mut [B]> {
    const { assert!(align_of::<B>() == 1 && size_of::<B>() > 0) };
    bytes.len().is_multiple_of(size_of::<B>()).then(|| {
        let blocks = bytes.len() / size_of::<B>();
        // SAFETY: as in `cast`, and blocks are plain bytes, so writing one leaves valid bytes.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), blocks) }
    })
}

/// A block that no encoder should write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {index}: {what}")]
pub struct BadBlock {
    /// Its number, counted from the first block of the bytes given.
    pub index: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// A slice that does not fit the type or the other slices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Integers and F64 have no decoder.
    #[error("{0:?} holds no weights: it can be copied, not encoded or decoded")]
    NotWeights(DType),
    /// IQ2 and IQ3 have no encoder.
    #[error("weights in {0:?} can be read, but not made")]
    NotWritten(DType),
    /// The row length is not whole blocks.
    #[error("a row of {columns} values is not whole blocks of {dtype:?} ({} values each)", dtype.block_len())]
    Columns {
        /// The type.
        dtype: DType,
        /// Row length given.
        columns: usize,
    },
    /// A slice has another length than the others ask for.
    #[error("{what} has length {found}, {expected} was expected")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
    },
}

/// A checked call of [`encode_rows`].
#[derive(Clone, Copy)]
struct Rows<'a> {
    columns: usize,
    source: &'a [f32],
    importance: Option<&'a [f32]>,
}

/// What can be done with one type.
struct Codec {
    encode: fn(Level, Rows<'_>, &mut [u8]),
    decode: fn(Level, &[u8], &mut [f32]),
    check: fn(&[u8]) -> Result<(), BadBlock>,
}

/// The only list of types in this module: one row each.
fn codec(dtype: DType) -> Option<Codec> {
    Some(match dtype {
        DType::F32 => Codec::of::<1, float::F32>(),
        DType::F16 => Codec::of::<1, float::F16>(),
        DType::BF16 => Codec::of::<1, float::Bf16>(),
        DType::Q8_0 => Codec::of::<32, q8_0::BlockQ8_0>(),
        DType::Q4_0 => Codec::of::<32, q4_0::BlockQ4_0>(),
        DType::Q4_1 => Codec::of::<32, q4_1::BlockQ4_1>(),
        DType::Q5_0 => Codec::of::<32, q5_0::BlockQ5_0>(),
        DType::Q5_1 => Codec::of::<32, q5_1::BlockQ5_1>(),
        DType::Q2_K => Codec::of::<256, q2_k::BlockQ2K>(),
        DType::Q3_K => Codec::of::<256, q3_k::BlockQ3K>(),
        DType::Q4_K => Codec::of::<256, q4_k::BlockQ4K>(),
        DType::Q5_K => Codec::of::<256, q5_k::BlockQ5K>(),
        DType::Q6_K => Codec::of::<256, q6_k::BlockQ6K>(),
        DType::IQ4_NL => Codec::of::<32, iq4_nl::BlockIq4Nl>(),
        DType::IQ4_XS => Codec::of::<256, iq4_xs::BlockIq4Xs>(),
        DType::IQ2_XXS => Codec::of::<256, iq2::BlockIq2Xxs>(),
        DType::IQ2_XS => Codec::of::<256, iq2::BlockIq2Xs>(),
        DType::IQ2_S => Codec::of::<256, iq2::BlockIq2S>(),
        DType::IQ3_XXS => Codec::of::<256, iq3::BlockIq3Xxs>(),
        DType::IQ3_S => Codec::of::<256, iq3::BlockIq3S>(),
        DType::MXFP4 => Codec::of::<32, mxfp4::BlockMxfp4>(),
        DType::NVFP4 => Codec::of::<64, nvfp4::BlockNvfp4>(),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 => return None,
    })
}

impl Codec {
    fn of<const LEN: usize, B: Block<LEN>>() -> Self {
        Self {
            encode: |level, rows, out| {
                let out = cast_mut::<LEN, B>(out).unwrap_or_default();
                #[cfg(target_arch = "x86_64")]
                match level {
                    Level::Avx512 => {
                        if let Some(isa) = lanes::x86::Avx512::detect() {
                            // SAFETY: just detected.
                            return unsafe { encode_avx512(isa, rows, out) };
                        }
                    }
                    Level::Avx2 => {
                        if let Some(isa) = lanes::x86::Avx2::detect() {
                            // SAFETY: just detected.
                            return unsafe { encode_avx2(isa, rows, out) };
                        }
                    }
                    Level::Scalar => {}
                }
                encode(Scalar, rows, out);
            },
            decode: |level, bytes, out| {
                let blocks = cast::<LEN, B>(bytes).unwrap_or_default();
                #[cfg(target_arch = "x86_64")]
                if level != Level::Scalar && lanes::x86::Avx2::detect().is_some() {
                    // SAFETY: just detected.
                    return unsafe { decode_avx2(blocks, out) };
                }
                decode(blocks, out);
            },
            check: |bytes| {
                let blocks = cast::<LEN, B>(bytes).unwrap_or_default();
                for (index, block) in blocks.iter().enumerate() {
                    block.check().map_err(|what| BadBlock { index, what })?;
                }
                Ok(())
            },
        }
    }
}

#[inline(always)]
fn encode<const LEN: usize, B: Block<LEN>, S: Search>(search: S, rows: Rows<'_>, out: &mut [B]) {
    let blocks = out.chunks_exact_mut(rows.columns / LEN);
    for (x, out) in rows.source.chunks_exact(rows.columns).zip(blocks) {
        let importance = rows.importance;
        B::encode_row(search, Row { x, importance }, out);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
fn encode_avx512<const LEN: usize, B: Block<LEN>>(
    isa: lanes::x86::Avx512,
    rows: Rows<'_>,
    out: &mut [B],
) {
    encode(search::Wide(isa), rows, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn encode_avx2<const LEN: usize, B: Block<LEN>>(
    isa: lanes::x86::Avx2,
    rows: Rows<'_>,
    out: &mut [B],
) {
    encode(search::Wide(isa), rows, out);
}

#[inline(always)]
fn decode<const LEN: usize, B: Block<LEN>>(blocks: &[B], out: &mut [f32]) {
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<LEN>().0) {
        block.decode(out);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn decode_avx2<const LEN: usize, B: Block<LEN>>(blocks: &[B], out: &mut [f32]) {
    decode(blocks, out);
}

fn expect(what: &'static str, found: usize, expected: usize) -> Result<(), Mismatch> {
    if found == expected {
        Ok(())
    } else {
        Err(Mismatch::Length {
            what,
            found,
            expected,
        })
    }
}

/// Encodes whole rows. `importance` has one weight per column, the same for every row.
pub fn encode_rows(
    dtype: DType,
    columns: usize,
    source: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), Mismatch> {
    encode_rows_on(Level::best(), dtype, columns, source, importance, out)
}

/// [`encode_rows`] on a given code path; all give the same bytes. A path this CPU lacks becomes the scalar one.
pub fn encode_rows_on(
    level: Level,
    dtype: DType,
    columns: usize,
    source: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), Mismatch> {
    let codec = codec(dtype).ok_or(Mismatch::NotWeights(dtype))?;
    if !dtype.can_be_written() {
        return Err(Mismatch::NotWritten(dtype));
    }
    let row_bytes = match dtype.row_bytes(columns) {
        Some(bytes) if bytes > 0 => bytes,
        _ => return Err(Mismatch::Columns { dtype, columns }),
    };
    let count = source.len() / columns;
    expect("the source", source.len(), count * columns)?;
    expect("the output", out.len(), count * row_bytes)?;
    if let Some(importance) = importance {
        expect("the importance", importance.len(), columns)?;
    }
    let rows = Rows {
        columns,
        source,
        importance,
    };
    (codec.encode)(level, rows, out);
    Ok(())
}

/// Decodes whole blocks.
pub fn decode_rows(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), Mismatch> {
    decode_rows_on(Level::best(), dtype, bytes, out)
}

/// [`decode_rows`] on a given code path; all give the same values.
pub fn decode_rows_on(
    level: Level,
    dtype: DType,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), Mismatch> {
    let codec = codec(dtype).ok_or(Mismatch::NotWeights(dtype))?;
    let blocks = out.len() / dtype.block_len();
    expect("the output", out.len(), blocks * dtype.block_len())?;
    expect("the input", bytes.len(), blocks * dtype.block_bytes())?;
    (codec.decode)(level, bytes, out);
    Ok(())
}

/// Looks for the first block that no encoder should write: a scale that is not finite, a NaN.
/// Types without a decoder, and a last block that is cut off, are not looked at.
pub fn check(dtype: DType, bytes: &[u8]) -> Result<(), BadBlock> {
    let whole = bytes.len() - bytes.len() % dtype.block_bytes();
    codec(dtype).map_or(Ok(()), |codec| (codec.check)(&bytes[..whole]))
}
