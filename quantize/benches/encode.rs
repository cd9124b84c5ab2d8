//! Nanoseconds per weight of every encoder and decoder on every code path of this CPU, one thread.
//!
//! `cargo bench -p fourfold-quantize --bench encode [TYPE...]`. The values fit the second-level cache, so
//! that computing is measured and not memory. Each figure is the best of several runs.

use fourfold_quantize::block::lanes::Level;
use fourfold_quantize::block::{decode_rows_on, encode_rows_on};
use fourfold_quantize::dtype::DType;
use std::time::Instant;

const COLUMNS: usize = 4096;
const ROWS: usize = 32;
const RUNS: usize = 5;

/// Best time of a few runs, in nanoseconds per weight.
fn best(mut run: impl FnMut()) -> f64 {
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min) * 1e9 / (COLUMNS * ROWS) as f64
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut state = 1u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let x: Vec<f32> = (0..COLUMNS * ROWS)
        .map(|_| (0..6).map(|_| uniform() - 0.5).sum::<f32>() * 0.03)
        .collect();
    let importance: Vec<f32> = (0..COLUMNS).map(|_| uniform()).collect();

    println!("| type | path | encode | with importance | decode |");
    println!("|---|---|---|---|---|");
    for row in DType::TABLE {
        let dtype = row.dtype;
        let named = |name: &String| name.eq_ignore_ascii_case(row.name);
        let Some(row_bytes) = dtype.row_bytes(COLUMNS) else {
            continue;
        };
        if !wanted.is_empty() && !wanted.iter().any(named) {
            continue;
        }
        let mut bytes = vec![0; ROWS * row_bytes];
        let mut values = vec![0.0; COLUMNS * ROWS];
        for level in Level::available() {
            let mut encode = |importance: Option<&[f32]>| {
                best(|| {
                    // Integer types have no encoder; their line would be empty.
                    let _ = encode_rows_on(level, dtype, COLUMNS, &x, importance, &mut bytes);
                })
            };
            let (plain, important) = (encode(None), encode(Some(&importance)));
            let Ok(()) = decode_rows_on(level, dtype, &bytes, &mut values) else {
                break;
            };
            let decode = best(|| {
                let _ = decode_rows_on(level, dtype, &bytes, &mut values);
            });
            println!(
                "| {} | {level:?} | {plain:.2} | {important:.2} | {decode:.2} |",
                row.name
            );
        }
    }
}
