//! How rows of the float types become vectors of f32, lanes being rows.

use crate::kernels::isa::Isa;
use crate::kernels::weight::Rows;

/// A float type, as vectors of rows.
pub trait Float {
    /// Bytes of a weight.
    const BYTES: usize;
    /// Eight columns of `LANES` rows, turned.
    /// # Safety
    /// The rows hold them.
    unsafe fn eight<I: Isa>(isa: I, rows: Rows) -> [I::Floats; 8];
}

/// f32
pub struct F32;
/// IEEE binary16
pub struct F16;
/// The upper half of an f32
pub struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn eight<I: Isa>(isa: I, rows: Rows) -> [I::Floats; 8] {
        let mut out = [isa.splat(0.0); 8];
        for half in 0..2 {
            // SAFETY: promised by the caller.
            let four = unsafe { rows.columns(isa, 16 * half) };
            for j in 0..4 {
                out[4 * half + j] = isa.as_floats(four[j]);
            }
        }
        out
    }
}

impl Float for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn eight<I: Isa>(isa: I, rows: Rows) -> [I::Floats; 8] {
        let mut out = [isa.splat(0.0); 8];
        // SAFETY: promised by the caller.
        let pairs = unsafe { rows.columns(isa, 0) };
        for j in 0..4 {
            let low = isa.and(pairs[j], isa.splat_int(0xffff));
            out[2 * j] = isa.widen_f16(low);
            out[2 * j + 1] = isa.widen_f16(isa.shift_right(pairs[j], 16));
        }
        out
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn eight<I: Isa>(isa: I, rows: Rows) -> [I::Floats; 8] {
        let mut out = [isa.splat(0.0); 8];
        // SAFETY: promised by the caller.
        let pairs = unsafe { rows.columns(isa, 0) };
        for j in 0..4 {
            out[2 * j] = isa.as_floats(isa.shift_left(pairs[j], 16));
            out[2 * j + 1] = isa.as_floats(isa.and(pairs[j], isa.splat_int(!0xffff)));
        }
        out
    }
}
