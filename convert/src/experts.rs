//! The experts' own rearrangements: MXFP4 blocks into GGML's order, and un-quantized matrices turned over.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::safetensors::SourceType;

/// Bytes of 32 codes.
pub const CODES: usize = 16;
/// Bytes of a GGML block: the scale, then the codes.
pub const BLOCK: usize = 17;

/// Turns MXFP4 blocks of a checkpoint into GGML's, bit for bit: 16 bytes and a scale become 17.
///
/// A checkpoint's byte `b` holds elements `2b` (low nibble) and `2b + 1`; GGML's byte `j` holds `j` and `j + 16`.
/// The low half of the elements is in the first eight bytes: their low nibbles are the even ones.
/// Written on arrays of eight so that the compiler makes it vector code: 10 instructions a block with plain SSE2.
pub fn repack(codes: &[u8], scales: &[u8], out: &mut [u8]) {
    let blocks = out.as_chunks_mut::<BLOCK>().0;
    for ((block, codes), &scale) in blocks
        .iter_mut()
        .zip(codes.as_chunks::<CODES>().0)
        .zip(scales)
    {
        let mut packed = [0; CODES];
        for j in 0..CODES / 2 {
            let (low, high) = (codes[j], codes[j + CODES / 2]);
            packed[2 * j] = (low & 0x0F) | (high << 4);
            packed[2 * j + 1] = (low >> 4) | (high & 0xF0);
        }
        block[0] = scale;
        block[1..].copy_from_slice(&packed);
    }
}

/// The numbers in `bytes`, as f32. There are as many as `out` has places.
pub fn to_f32(dtype: SourceType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        SourceType::BF16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        SourceType::F16 => {
            // The crate converts slices with the CPU's own instruction; 64 numbers at a time stay on the stack.
            for (values, bytes) in out.chunks_mut(64).zip(bytes.chunks(128)) {
                let mut halves = [f16::ZERO; 64];
                for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *half = f16::from_le_bytes(*bytes);
                }
                halves[..values.len()].convert_to_f32_slice(values);
            }
        }
        SourceType::F32 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        SourceType::U8 => {
            for (value, byte) in out.iter_mut().zip(bytes) {
                *value = f32::from(*byte);
            }
        }
    }
}

/// Rows of a matrix that is stored input-major: output row `r` is column `first + r * step` of the source.
///
/// `source` is one expert, `columns` inputs of `width` numbers each. Each input's numbers are read as one run and
/// spread over the rows of `out`, a tile of inputs at a time, so that the lines written to stay in the cache.
pub fn turn(
    dtype: SourceType,
    source: &[u8],
    width: usize,
    (first, step): (usize, usize),
    columns: usize,
    out: &mut [f32],
) {
    const TILE: usize = 16;
    let rows = out.len() / columns;
    let size = dtype.bytes() as usize;
    let run = (rows - 1) * step + 1;
    let mut tile = vec![0.0f32; TILE * run];
    for begin in (0..columns).step_by(TILE) {
        let inputs = TILE.min(columns - begin);
        for (input, numbers) in tile.chunks_mut(run).take(inputs).enumerate() {
            let at = ((begin + input) * width + first) * size;
            to_f32(dtype, &source[at..at + run * size], numbers);
        }
        for (row, values) in out.chunks_mut(columns).enumerate() {
            for (input, value) in values[begin..begin + inputs].iter_mut().enumerate() {
                *value = tile[input * run + row * step];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: &[u8] = include_bytes!("../tests/data/hf/gate_up_proj_blocks.u8");
    const SCALES: &[u8] = include_bytes!("../tests/data/hf/gate_up_proj_scales.u8");

    /// The rule of the format, one element at a time.
    fn repack_one_by_one(codes: &[u8], scale: u8) -> [u8; BLOCK] {
        let element = |k: usize| (codes[k / 2] >> (4 * (k % 2))) & 15;
        let mut block = [scale; BLOCK];
        for j in 0..CODES {
            block[1 + j] = element(j) | element(j + 16) << 4;
        }
        block
    }

    #[test]
    fn repacking_follows_the_rule_on_every_block() {
        let mut out = vec![0; SCALES.len() * BLOCK];
        repack(BLOCKS, SCALES, &mut out);
        for (index, (block, codes)) in out.chunks(BLOCK).zip(BLOCKS.chunks(CODES)).enumerate() {
            assert_eq!(block, repack_one_by_one(codes, SCALES[index]));
        }
    }

    #[test]
    fn turning_undoes_the_transposition() {
        let bytes = include_bytes!("../tests/data/hf/gate_up_proj_bf16_orientation.f32");
        let dense = include_bytes!("../tests/data/hf/gate_up_dense.f32");
        let mut expected = vec![0.0; 2 * 8 * 96];
        to_f32(SourceType::F32, dense, &mut expected);
        for (expert, source) in bytes.chunks(96 * 8 * 4).enumerate() {
            for parity in 0..2 {
                let mut rows = vec![0.0; 4 * 96];
                turn(SourceType::F32, source, 8, (parity, 2), 96, &mut rows);
                for row in 0..4 {
                    let at = (expert * 8 + 2 * row + parity) * 96;
                    assert_eq!(rows[row * 96..][..96], expected[at..][..96]);
                }
            }
        }
    }

    #[test]
    fn the_number_types_agree() {
        let values: Vec<f32> = (0..150).map(|i| i as f32 / 4.0 - 7.5).collect();
        let bytes = |convert: &dyn Fn(f32) -> Vec<u8>| -> Vec<u8> {
            values.iter().flat_map(|&value| convert(value)).collect()
        };
        let cases = [
            (SourceType::F32, bytes(&|v| v.to_le_bytes().to_vec())),
            (
                SourceType::F16,
                bytes(&|v| f16::from_f32(v).to_le_bytes().to_vec()),
            ),
            (
                SourceType::BF16,
                bytes(&|v| bf16::from_f32(v).to_le_bytes().to_vec()),
            ),
        ];
        for (dtype, bytes) in cases {
            let mut found = vec![0.0; values.len()];
            to_f32(dtype, &bytes, &mut found);
            assert_eq!(found, values, "{dtype:?}");
        }
    }
}
