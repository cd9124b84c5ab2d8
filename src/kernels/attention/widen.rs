//! The keys and values of a page as f32, whatever type the cache keeps them in.

use super::value_stride;
use crate::kernels::isa::Isa;
use crate::kernels::page::{BLOCK, KvType, PAGE, PageLayout};

/// The keys of a page as f32, `(head_dim, 64)`.
#[inline(always)]
pub fn keys<I: Isa>(isa: I, layout: &PageLayout, keys: &[u8], out: &mut [f32]) {
    assert!(keys.len() == layout.half_bytes() && out.len() >= layout.head_dim * PAGE);
    match layout.kv_type {
        KvType::Q8_0 => {
            let (numbers, scales) = keys.split_at(layout.head_dim * PAGE);
            for d in 0..layout.head_dim {
                for slot in (0..PAGE).step_by(I::LANES) {
                    // SAFETY: a vector inside row `d` of the keys, of `out`, and of its block's scales.
                    unsafe {
                        let scale = scales.as_ptr().cast::<u16>().add(d / BLOCK * PAGE + slot);
                        let number = numbers.as_ptr().cast::<i8>().add(d * PAGE + slot);
                        let key = isa.mul(isa.load_bytes(number), isa.load_f16(scale));
                        isa.store(out.as_mut_ptr().add(d * PAGE + slot), key);
                    }
                }
            }
        }
        kv_type => floats(isa, kv_type, keys, out),
    }
}

/// The values of a page as f32, `(64, value_stride)`.
#[inline(always)]
pub fn values<I: Isa>(isa: I, layout: &PageLayout, values: &[u8], out: &mut [f32]) {
    let head_dim = layout.head_dim;
    let stride = value_stride(head_dim);
    assert!(values.len() == layout.half_bytes());
    match layout.kv_type {
        KvType::Q8_0 => {
            let (numbers, scales) = values.split_at(head_dim * PAGE);
            for (slot, out) in out.chunks_exact_mut(stride).enumerate() {
                for d in (0..head_dim).step_by(I::LANES) {
                    let scale = &scales[2 * (slot * head_dim / BLOCK + d / BLOCK)..];
                    let scale = half::f16::from_le_bytes([scale[0], scale[1]]).to_f32();
                    // SAFETY: a vector inside this position's value; a block is a multiple of the lanes.
                    unsafe {
                        let number = numbers.as_ptr().cast::<i8>().add(slot * head_dim + d);
                        let value = isa.mul(isa.load_bytes(number), isa.splat(scale));
                        isa.store(out.as_mut_ptr().add(d), value);
                    }
                }
            }
        }
        kv_type if stride == head_dim => floats(isa, kv_type, values, out),
        kv_type => {
            let row_bytes = values.len() / PAGE;
            for (row, out) in values
                .chunks_exact(row_bytes)
                .zip(out.chunks_exact_mut(stride))
            {
                for (d, out) in out[..head_dim].iter_mut().enumerate() {
                    *out = match kv_type {
                        KvType::F32 => f32::from_ne_bytes([
                            row[4 * d],
                            row[4 * d + 1],
                            row[4 * d + 2],
                            row[4 * d + 3],
                        ]),
                        _ => half::f16::from_ne_bytes([row[2 * d], row[2 * d + 1]]).to_f32(),
                    };
                }
            }
        }
    }
}

/// As many numbers as `out` has, a multiple of the lanes.
#[inline(always)]
fn floats<I: Isa>(isa: I, kv_type: KvType, source: &[u8], out: &mut [f32]) {
    let element = if kv_type == KvType::F32 { 4 } else { 2 };
    assert!(source.len() == element * out.len());
    for (source, out) in source
        .chunks_exact(element * I::LANES)
        .zip(out.chunks_exact_mut(I::LANES))
    {
        // SAFETY: both parts are one vector long; pages are aligned.
        unsafe {
            let numbers = match kv_type {
                KvType::F32 => isa.load(source.as_ptr().cast()),
                _ => isa.load_f16(source.as_ptr().cast()),
            };
            isa.store(out.as_mut_ptr(), numbers);
        }
    }
}
