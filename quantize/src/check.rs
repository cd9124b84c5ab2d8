//! Looking at every block of a model for one that no encoder should have written: a NaN, an infinite scale.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::block;
use crate::gguf::{Gguf, TensorInfo};
use crate::parallel;

/// The first bad block of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTensor {
    /// The tensor's name.
    pub tensor: String,
    /// The block's number, counted from the first block of the tensor.
    pub block: u64,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The request to stop was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// About what a disk delivers in a millisecond; a multiple of nothing, so pieces are cut at blocks.
const PIECE_BYTES: usize = 4 << 20;

struct Piece<'a> {
    tensor: usize,
    info: TensorInfo<'a>,
    first_block: usize,
    bytes: &'a [u8],
}

/// Checks every tensor whose type has a decoder, and names the first bad block of each, in the order of the file.
/// Memory stays small whatever the size of the model.
pub fn check(
    gguf: &Gguf,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<BadTensor>, Cancelled> {
    let mut pieces = Vec::new();
    for (tensor, info) in gguf.infos().enumerate() {
        let block_bytes = info.tensor_type.block_bytes as usize;
        let blocks = (PIECE_BYTES / block_bytes).max(1);
        for (index, bytes) in info.bytes.chunks(blocks * block_bytes).enumerate() {
            pieces.push(Piece {
                tensor,
                info,
                first_block: index * blocks,
                bytes,
            });
        }
    }
    gguf.advise_sequential();
    let found: Mutex<BTreeMap<usize, BadTensor>> = Mutex::default();
    parallel::for_each(threads, &pieces, |piece, _: &mut ()| {
        if cancelled() {
            return Err(Cancelled);
        }
        if let Some(dtype) = piece.info.tensor_type.dtype
            && let Err(bad) = block::check(dtype, piece.bytes)
        {
            let bad = BadTensor {
                tensor: piece.info.name.to_owned(),
                block: (piece.first_block + bad.index) as u64,
                problem: bad.what,
            };
            if let Ok(mut found) = found.lock() {
                // Pieces are not finished in order.
                let first = found.entry(piece.tensor).or_insert_with(|| bad.clone());
                if bad.block < first.block {
                    *first = bad;
                }
            }
        }
        gguf.release(piece.bytes);
        progress(piece.bytes.len() as u64);
        Ok(())
    })?;
    Ok(found
        .into_inner()
        .unwrap_or_default()
        .into_values()
        .collect())
}
