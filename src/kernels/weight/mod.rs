//! How the blocks of each quantized type become vectors: one file per type, one row each in [`with`].
//!
//! Kernels compute with *steps*: 32 columns of as many rows as a vector has lanes. A step is eight vectors of unsigned bytes (vector `j`,
//! lane `r`: columns `4j..4j+4` of row `r`), a scale for each row, or two where a type has one for every 16 columns, and with some types
//! a minimum for each row. What the bytes range over decides the [`Class`], and so which matrix product fits.

mod grid;
mod iq4;
mod mxfp4;
mod nvfp4;
mod q2_k;
mod q3_k;
mod q4;
mod q4_k;
mod q6_k;
mod q8_0;

use super::isa::Isa;
use super::panel::{MAGIC, MAGIC_BITS};
use fourfold_quantize::block::{iq2, iq3};
use fourfold_quantize::dtype::DType;
use grid::OnGrid;

/// Columns of a step.
pub const STEP: usize = 32;

/// Scales are carried divided by 2^24 (and the inputs' scales multiplied by it), so that [`super::panel::MAGIC`] times a scale is finite for
/// every exponent of MXFP4. What this loses are MXFP4 blocks in chunks whose largest value is below 2^-96; they count as zero.
pub const SCALE_UNIT: f32 = 1.0 / 16777216.0;

/// What the unsigned bytes of a step stand for.
pub trait Class: 'static {
    /// Added to the signed weight to make it unsigned: 0, 16, 32 or 128.
    const OFFSET: i32;
    /// The largest unsigned byte.
    const LARGEST: u32;
    /// Whether each 16 columns have a scale (and a minimum) of their own.
    const SPLIT: bool;
    /// Whether a minimum is added to each weight.
    const MINIMA: bool;
    /// Whether scales are powers of two and computed with as in [`super::powers`].
    const POWERS: bool = false;
}

macro_rules! class {
    ($(#[$doc:meta])* $name:ident, $offset:expr, $largest:expr, $split:expr, $minima:expr) => {
        $(#[$doc])*
        pub struct $name;
        impl Class for $name {
            const OFFSET: i32 = $offset;
            const LARGEST: u32 = $largest;
            const SPLIT: bool = $split;
            const MINIMA: bool = $minima;
        }
    };
}

class!(
    /// Weights of -16 to 15.
    Small, 16, 31, false, false
);
/// Weights of -12 to 12 whose scales are powers of two.
pub struct Powers;
impl Class for Powers {
    const OFFSET: i32 = Small::OFFSET;
    const LARGEST: u32 = Small::LARGEST;
    const SPLIT: bool = false;
    const MINIMA: bool = false;
    const POWERS: bool = true;
}
class!(
    /// Weights of eight bits.
    Wide, 128, 255, false, false
);
class!(
    /// Unsigned weights of up to five bits with a minimum.
    Affine, 0, 31, false, true
);
class!(
    /// Weights of -32 to 31 with two scales.
    Split, 32, 63, true, false
);
class!(
    /// Weights of eight bits with two scales.
    SplitWide, 128, 255, true, false
);
class!(
    /// Unsigned weights of two bits with two scales and minima.
    SplitAffine, 0, 3, true, true
);

/// The unsigned bytes of one step of `LANES` rows: lane `r` of vector `j` holds columns `4j..4j+4` of row `r`.
pub type Step<I> = [<I as Isa>::Ints; 8];

/// `LANES` rows, or the part of them from some byte on.
#[derive(Clone, Copy)]
pub struct Rows {
    /// Where the first one starts.
    pub start: *const u8,
    /// Bytes from row to row.
    pub stride: usize,
}

impl Rows {
    /// One of the rows.
    #[inline(always)]
    pub fn row(self, index: usize) -> *const u8 {
        self.start.wrapping_add(index * self.stride)
    }
    /// The same rows from this byte on.
    #[inline(always)]
    pub fn at(self, byte: usize) -> Self {
        let start = self.start.wrapping_add(byte);
        Self { start, ..self }
    }
    /// Sixteen bytes of each row, turned.
    /// # Safety
    /// As for [`Isa::columns`].
    #[inline(always)]
    pub unsafe fn columns<I: Isa>(self, isa: I, byte: usize) -> [I::Ints; 4] {
        // SAFETY: promised by the caller.
        unsafe { isa.columns(self.start.add(byte), self.stride) }
    }
}

/// Where the raw scales and minima of one row go, or of a vector of rows.
#[derive(Clone, Copy)]
pub struct Codes {
    /// The row's first scale; the next one is `stride` further.
    pub scales: *mut u32,
    /// The row's first minimum.
    pub minima: *mut u32,
    /// Rows between two scales of one row.
    pub stride: usize,
}

impl Codes {
    /// Those `words` further.
    #[inline(always)]
    fn further(self, words: usize) -> Self {
        Self {
            scales: self.scales.wrapping_add(words),
            minima: self.minima.wrapping_add(words),
            ..self
        }
    }
    /// Sets the `index`-th scale of a vector of rows, as it will be used.
    /// # Safety
    /// There is room for it.
    #[inline(always)]
    unsafe fn set_scales<I: Isa>(self, isa: I, index: usize, scales: I::Floats) {
        let scales = isa.mul(scales, isa.splat(SCALE_UNIT));
        // SAFETY: promised by the caller.
        unsafe { isa.store(self.scales.add(index * self.stride).cast(), scales) }
    }
    /// Sets the `index`-th minimum of a vector of rows.
    /// # Safety
    /// There is room for it.
    #[inline(always)]
    unsafe fn set_minima<I: Isa>(self, isa: I, index: usize, minima: I::Floats) {
        // SAFETY: promised by the caller.
        unsafe { isa.store(self.minima.add(index * self.stride).cast(), minima) }
    }
    /// Sets the `index`-th raw scale of the row.
    /// # Safety
    /// There is room for it.
    #[inline(always)]
    pub unsafe fn set_scale(self, index: usize, code: u32) {
        // Volatile, or the compiler makes scatters of these stores, which cost five times as much.
        // SAFETY: promised by the caller.
        unsafe { self.scales.add(index * self.stride).write_volatile(code) }
    }
    /// Sets the `index`-th raw minimum of the row.
    /// # Safety
    /// There is room for it.
    #[inline(always)]
    pub unsafe fn set_minimum(self, index: usize, code: u32) {
        // SAFETY: promised by the caller.
        unsafe { self.minima.add(index * self.stride).write_volatile(code) }
    }
}

/// One quantized type.
pub trait Weight: 'static {
    /// What its bytes stand for.
    type Class: Class;

    /// Collects the raw scales (and minima) of `count` steps of one row, the `first` on: one each for a step, or two.
    /// # Safety
    /// `row` holds that many steps and `codes` has room for them.
    #[inline(always)]
    unsafe fn codes(_row: *const u8, _first: usize, _count: usize, _codes: Codes) {
        unreachable!("only gathered")
    }

    /// Does the same for `LANES` rows, whole blocks of them: 256 columns have their scales in a few bytes, which are best taken together.
    /// # Safety
    /// The rows hold that many steps and `codes` has room for them, a vector each.
    #[inline(always)]
    unsafe fn gather<I: Isa>(_isa: I, rows: Rows, first: usize, count: usize, codes: Codes) {
        // One row after the other would cost decoding NVFP4 a seventh of its speed.
        let halves = if Self::Class::SPLIT { 2 } else { 1 };
        for step in 0..count {
            for lane in 0..I::LANES {
                let codes = codes.further(step * halves * codes.stride + lane);
                // SAFETY: promised by the caller.
                unsafe { Self::codes(rows.row(lane), first + step, 1, codes) };
            }
        }
    }

    /// Makes scales, in units of 2^24, of raw ones: `SCALE_UNIT` is in them.
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats;

    /// Makes minima, with the sign with which they are added, of raw ones.
    #[inline(always)]
    fn minimum<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        isa.as_floats(codes)
    }

    /// Steps that are unpacked together, because they share bytes: one, or the eight of a block of 256 columns.
    const TOGETHER: usize = 1;

    /// Writes the unsigned bytes of the [`Weight::TOGETHER`] steps from `step` on.
    /// # Safety
    /// The rows hold those steps, and there is room for as many at `to`.
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>);

    /// Does it for a type whose scales are powers of two, each row's weights times 2^`shifts` (0 to 3), and moved up by 128.
    /// # Safety
    /// As for [`Weight::unpack`].
    #[inline(always)]
    unsafe fn unpack_shifted<I: Isa>(
        _isa: I,
        _rows: Rows,
        _step: usize,
        _shifts: I::Ints,
        _to: *mut Step<I>,
    ) {
        unreachable!("scales of any kind")
    }

    /// Bytes of a block where [`Weight::along`] is there: for types of 32 columns with one scale and no minimum. Else 0.
    const ALONG: usize = 0;

    /// The first sixteen unsigned bytes, and the last sixteen, of each of `LANES / 4` steps of one row.
    /// # Safety
    /// The row holds those steps.
    #[inline(always)]
    unsafe fn along<I: Isa>(_isa: I, _row: *const u8, _step: usize) -> [I::Ints; 2] {
        unreachable!("ALONG is 0")
    }
}

/// Something to do with the type that a tensor turns out to have.
pub trait Visitor {
    /// What it returns.
    type Out;
    /// Does it.
    fn visit<W: Weight>(self) -> Self::Out;
}

/// Calls the visitor with the type; `None` for types that are not quantized in blocks.
#[inline(always)]
pub fn with<V: Visitor>(dtype: DType, visitor: V) -> Option<V::Out> {
    Some(match dtype {
        DType::MXFP4 => visitor.visit::<mxfp4::Mxfp4>(),
        DType::NVFP4 => visitor.visit::<nvfp4::Nvfp4>(),
        DType::Q8_0 => visitor.visit::<q8_0::Q8>(),
        DType::Q4_0 => visitor.visit::<q4::Q45<false, false>>(),
        DType::Q4_1 => visitor.visit::<q4::Q45<false, true>>(),
        DType::Q5_0 => visitor.visit::<q4::Q45<true, false>>(),
        DType::Q5_1 => visitor.visit::<q4::Q45<true, true>>(),
        DType::Q2_K => visitor.visit::<q2_k::Q2K>(),
        DType::Q3_K => visitor.visit::<q3_k::Q3K>(),
        DType::Q4_K => visitor.visit::<q4_k::Q45K<false>>(),
        DType::Q5_K => visitor.visit::<q4_k::Q45K<true>>(),
        DType::Q6_K => visitor.visit::<q6_k::Q6K>(),
        DType::IQ4_NL => visitor.visit::<iq4::Nl>(),
        DType::IQ4_XS => visitor.visit::<iq4::Xs>(),
        DType::IQ2_XXS => visitor.visit::<OnGrid<iq2::BlockIq2Xxs, Wide>>(),
        DType::IQ2_XS => visitor.visit::<OnGrid<iq2::BlockIq2Xs, SplitWide>>(),
        DType::IQ2_S => visitor.visit::<OnGrid<iq2::BlockIq2S, SplitWide>>(),
        DType::IQ3_XXS => visitor.visit::<OnGrid<iq3::BlockIq3Xxs, Wide>>(),
        DType::IQ3_S => visitor.visit::<OnGrid<iq3::BlockIq3S, Small>>(),
        _ => return None,
    })
}

/// Scales that are IEEE binary16 numbers.
#[inline(always)]
fn f16_scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
    isa.mul(isa.widen_f16(codes), isa.splat(SCALE_UNIT))
}

/// Reads a 16-bit number.
/// # Safety
/// Two bytes are readable at `at`.
#[inline(always)]
unsafe fn read_u16(at: *const u8) -> u32 {
    // SAFETY: promised by the caller.
    u32::from(u16::from_le_bytes(unsafe { at.cast::<[u8; 2]>().read() }))
}

/// The four bytes of each lane as vectors of their own. Indices and shifts stay constants, whatever loops the compiler leaves.
#[inline(always)]
fn bytes<I: Isa>(isa: I, lanes: I::Ints) -> [I::Ints; 4] {
    let byte = |shift| isa.and(isa.shift_right(lanes, shift), isa.splat_int(255));
    [byte(0), byte(8), byte(16), byte(24)]
}

/// Lanes of 0 to 2^22 less `offset`, as floats.
#[inline(always)]
fn floats<I: Isa>(isa: I, lanes: I::Ints, offset: i32) -> I::Floats {
    let moved = isa.as_floats(isa.or(lanes, isa.splat_int(MAGIC_BITS)));
    isa.sub(moved, isa.splat(MAGIC + offset as f32))
}

/// Sixteen bytes of nibbles looked up: the low ones are columns 0 to 15, the high ones 16 to 31.
/// # Safety
/// As for [`Isa::columns`].
#[inline(always)]
unsafe fn nibbles<I: Isa>(isa: I, rows: Rows, table: I::Ints) -> Step<I> {
    // SAFETY: promised by the caller.
    let raw = unsafe { rows.columns(isa, 0) };
    let mut out = [table; 8];
    for j in 0..4 {
        out[j] = isa.look_up_low(table, raw[j]);
        out[j + 4] = isa.look_up_high(table, raw[j]);
    }
    out
}

/// As [`nibbles`], for consecutive blocks of one row.
/// # Safety
/// As for [`Isa::pieces`].
#[inline(always)]
unsafe fn nibbles_along<I: Isa>(
    isa: I,
    row: *const u8,
    stride: usize,
    table: I::Ints,
) -> [I::Ints; 2] {
    // SAFETY: promised by the caller.
    let raw = unsafe { isa.pieces(row, stride) };
    [isa.look_up_low(table, raw), isa.look_up_high(table, raw)]
}

/// The table that turns nibble `n` into `n + offset`.
const fn ramp(offset: i8) -> [i8; 16] {
    let mut table = [0; 16];
    let mut n = 0;
    while n < 16 {
        table[n] = n as i8 + offset;
        n += 1;
    }
    table
}

/// Moves signed bytes to where [`Isa::dot16`] wants weights of eight bits.
#[inline(always)]
fn wide<I: Isa>(isa: I, signed: I::Ints) -> I::Ints {
    if I::PAIRS {
        signed
    } else {
        isa.add_bytes(signed, isa.splat_int(0x80808080u32 as i32))
    }
}

/// Thirty-two bytes of each row as eight vectors.
/// # Safety
/// 32 bytes are readable in each row.
#[inline(always)]
unsafe fn bytes32<I: Isa>(isa: I, rows: Rows) -> Step<I> {
    // SAFETY: promised by the caller.
    let (a, b) = unsafe { (rows.columns(isa, 0), rows.columns(isa, 16)) };
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

/// Bits `shift..` of each byte, `mask` of them, which must not reach into the next byte.
#[inline(always)]
fn field<I: Isa>(isa: I, bytes: I::Ints, shift: u32, mask: u8) -> I::Ints {
    isa.and(
        isa.shift_right(bytes, shift),
        isa.splat_int(i32::from_le_bytes([mask; 4])),
    )
}
