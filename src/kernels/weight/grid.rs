//! IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S: weights from tables too large for vectors, looked up row by row.
//!
//! Models hold one small tensor in each layer in such a type, so all five share this one way, by the decoders' own functions.

use super::{Class, Codes, Rows, STEP, Step, Weight, bytes32, f16_scale, floats};
use crate::kernels::isa::Isa;
use crate::kernels::panel::halves;
use fourfold_quantize::block::grid::Grid;
use std::marker::PhantomData;

/// Most lanes of a vector.
const LANES: usize = 16;

/// Blocks of 256 that decode to weights of the class.
pub struct OnGrid<B, C>(PhantomData<(B, C)>);

/// The weights of a row's step, signed. Compiled once for all instruction sets: as a part of their kernels it is spread over vectors, with gathers
/// and bytes inserted one by one, and no faster.
/// # Safety
/// The row holds the step.
#[inline(never)]
unsafe fn weights<B: Grid>(row: *const u8, step: usize) -> [[u8; 8]; 4] {
    // SAFETY: any bytes are a block, at any address.
    unsafe { &*row.cast::<B>().add(step / 8) }.weights(step % 8)
}

/// The raw scales of a row's step: the bits of `d`, and above them four of a scale.
/// # Safety
/// The row holds the step.
#[inline(never)]
unsafe fn raw_scales<B: Grid>(row: *const u8, step: usize) -> [u32; 2] {
    // SAFETY: any bytes are a block, at any address.
    let block = unsafe { &*row.cast::<B>().add(step / 8) };
    let d = u32::from(u16::from_le_bytes(block.d()));
    block.codes(step % 8).map(|code| d | u32::from(code) << 16)
}

impl<B: Grid, C: Class> Weight for OnGrid<B, C> {
    type Class = C;

    #[inline(always)]
    unsafe fn codes(row: *const u8, first: usize, count: usize, codes: Codes) {
        for index in 0..count {
            // SAFETY: promised by the caller.
            unsafe {
                let raw = raw_scales::<B>(row, first + index);
                for half in 0..halves::<C>() {
                    codes.set_scale(index * halves::<C>() + half, raw[half]);
                }
            }
        }
    }

    #[inline(always)]
    fn scale<I: Isa>(isa: I, codes: I::Ints) -> I::Floats {
        let d = f16_scale(isa, isa.and(codes, isa.splat_int(0xffff)));
        let code = floats(isa, isa.shift_right(codes, 16), 0);
        let [least, each] = B::FACTORS;
        isa.mul(d, isa.fma(code, isa.splat(each), isa.splat(least)))
    }

    #[inline(always)]
    unsafe fn unpack<I: Isa>(isa: I, rows: Rows, step: usize, to: *mut Step<I>) {
        let mut signed = [[[0; 8]; 4]; LANES];
        for (lane, signed) in signed[..I::LANES].iter_mut().enumerate() {
            // SAFETY: the caller's rows hold the step's block.
            *signed = unsafe { weights::<B>(rows.row(lane), step) };
        }
        let start = signed.as_ptr().cast();
        let stride = STEP;
        // SAFETY: 32 bytes for each lane.
        let mut out = unsafe { bytes32(isa, Rows { start, stride }) };
        let offset = match C::OFFSET {
            128 if I::PAIRS => 0,
            offset => i32::from_le_bytes([offset as u8; 4]),
        };
        for vector in &mut out {
            *vector = isa.add_bytes(*vector, isa.splat_int(offset));
        }
        // SAFETY: promised by the caller.
        unsafe { to.write(out) };
    }
}
