//! Block formats against golden bytes, the fast paths against the specification, and properties.

use fourfold_quantize::block::lanes::Level;
use fourfold_quantize::block::{Mismatch, check, decode_rows_on, encode_rows, encode_rows_on};
use fourfold_quantize::dtype::DType;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 512;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/quant")
}

fn read(name: &str) -> Option<Vec<u8>> {
    std::fs::read(vectors().join(name)).ok()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let values = bytes.as_chunks::<4>().0.iter();
    values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The types with an encoder.
fn types() -> impl Iterator<Item = DType> {
    decoded_types().filter(|&dtype| encode_rows(dtype, 256, &[], None, &mut []).is_ok())
}

/// Those and the types that are only read.
fn decoded_types() -> impl Iterator<Item = DType> {
    let all = DType::TABLE.iter().map(|row| row.dtype);
    all.filter(|&dtype| decode_rows_on(Level::Scalar, dtype, &[], &mut []).is_ok())
}

fn encode(
    level: Level,
    dtype: DType,
    columns: usize,
    x: &[f32],
    importance: Option<&[f32]>,
) -> Vec<u8> {
    let row_bytes = dtype.row_bytes(columns).unwrap();
    // Not zeros: an encoder must write every byte.
    let mut out = vec![0xa5; x.len() / columns * row_bytes];
    encode_rows_on(level, dtype, columns, x, importance, &mut out).unwrap();
    out
}

fn decode(level: Level, dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    decode_rows_on(level, dtype, bytes, &mut out).unwrap();
    out
}

fn same_blocks(dtype: DType, found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{dtype:?} {what}");
    let size = dtype.block_bytes();
    let blocks = found.chunks(size).zip(expected.chunks(size));
    for (index, (found, expected)) in blocks.enumerate() {
        assert_eq!(found, expected, "{dtype:?} {what}, block {index}");
    }
}

/// Files of encoded bytes, and of decoded values, that there are to compare with.
const ENCODED: usize = 27;
const RANDOM: usize = 35;

fn same_floats(dtype: DType, found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{dtype:?} {what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found == expected || found.is_nan() && expected.is_nan();
        assert!(
            same,
            "{dtype:?} {what}, element {index}: {found} instead of {expected}"
        );
    }
}

#[test]
fn encoding_gives_the_golden_bytes() {
    let x = floats(&read("input.f32").unwrap());
    let importance = floats(&read("imatrix.f32").unwrap());
    let mut compared = 0;
    for dtype in types() {
        for level in Level::available() {
            for source in ["py", "c"] {
                if let Some(golden) = read(&format!("{}.{source}.q", dtype.name())) {
                    let found = encode(level, dtype, COLUMNS, &x, None);
                    same_blocks(dtype, &found, &golden, &format!("{level:?} {source}"));
                    check(dtype, &found).unwrap();
                    compared += 1;
                }
            }
            if let Some(golden) = read(&format!("{}.c_im.q", dtype.name())) {
                let found = encode(level, dtype, COLUMNS, &x, Some(&importance));
                same_blocks(dtype, &found, &golden, &format!("{level:?} importance"));
                compared += 1;
            }
        }
    }
    // 16 types without importance (F32 has no golden file), 11 with.
    assert_eq!(compared, ENCODED * Level::available().count());
}

#[test]
fn decoding_gives_the_golden_values() {
    let mut compared = 0;
    for dtype in decoded_types() {
        for level in Level::available() {
            for source in ["py", "c", "rand"] {
                let name = format!("{}.{source}", dtype.name());
                let (Some(bytes), Some(golden)) =
                    (read(&format!("{name}.q")), read(&format!("{name}.f32")))
                else {
                    continue;
                };
                same_floats(
                    dtype,
                    &decode(level, dtype, &bytes),
                    &floats(&golden),
                    source,
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, RANDOM * Level::available().count());
}

/// A generator that is the same on every machine.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// In 0..1.
    fn uniform(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    /// About normal.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

/// Rows of every kind that has ever taken a quantizer off its path.
fn awkward_rows(seed: u64, columns: usize) -> Vec<(&'static str, Vec<f32>)> {
    let mut r = Random(seed);
    let mut row = |f: &mut dyn FnMut(&mut Random, usize) -> f32| -> Vec<f32> {
        (0..columns).map(|i| f(&mut r, i)).collect()
    };
    vec![
        ("normal", row(&mut |r, _| r.normal() * 0.02)),
        (
            "heavy tails",
            row(&mut |r, _| r.normal() / (r.uniform() + 1e-3)),
        ),
        ("all positive", row(&mut |r, _| r.uniform())),
        ("all negative", row(&mut |r, _| -r.uniform() - 0.5)),
        ("zeros", row(&mut |_, _| 0.0)),
        (
            "zeros of both signs",
            row(&mut |r, _| if r.bits() & 1 == 0 { 0.0 } else { -0.0 }),
        ),
        (
            "mostly zero",
            row(&mut |r, _| if r.bits() & 31 == 0 { r.normal() } else { 0.0 }),
        ),
        (
            "whole sub-blocks of zeros",
            row(&mut |r, i| if i / 16 % 3 == 0 { 0.0 } else { r.normal() }),
        ),
        ("constant", row(&mut |_, _| 0.37)),
        ("negative constant", row(&mut |_, _| -0.37)),
        ("tiny", row(&mut |r, _| r.normal() * 1e-14)),
        (
            "below the smallest half",
            row(&mut |r, _| r.normal() * 1e-9),
        ),
        ("huge", row(&mut |r, _| r.normal() * 1e30)),
        (
            "overflowing",
            row(&mut |r, _| (r.uniform() - 0.5) * f32::MAX * 2.0),
        ),
        (
            "denormal",
            row(&mut |r, _| f32::from_bits(r.bits() & 0x807f_ffff)),
        ),
        (
            "every magnitude",
            row(&mut |r, _| r.normal() * 2f32.powi((r.bits() % 200) as i32 - 100)),
        ),
        ("few values", row(&mut |r, _| (r.bits() % 5) as f32 - 2.0)),
        (
            "ties",
            row(&mut |r, _| ((r.bits() % 255) as f32 - 127.0 + 0.5) / 127.5),
        ),
        (
            "powers of two",
            row(&mut |r, _| {
                2f32.powi((r.bits() % 12) as i32 - 6) * if r.bits() & 1 == 0 { 1.0 } else { -1.0 }
            }),
        ),
        (
            "any finite bits",
            row(&mut |r, _| {
                let v = f32::from_bits(r.bits());
                if v.is_finite() { v } else { 0.0 }
            }),
        ),
        (
            "some NaN",
            row(&mut |r, _| {
                if r.bits() & 15 == 0 {
                    f32::NAN
                } else {
                    r.normal()
                }
            }),
        ),
        (
            "some infinite",
            row(&mut |r, _| {
                if r.bits() & 63 == 0 {
                    f32::INFINITY
                } else {
                    r.normal()
                }
            }),
        ),
        ("all NaN", row(&mut |_, _| f32::NAN)),
    ]
}

#[test]
fn every_path_gives_the_bytes_of_the_specification() {
    // Row lengths that leave lanes empty, fill them exactly, and span several batches.
    for (seed, columns) in [
        (1, 256),
        (2, 512),
        (3, 768),
        (4, 2048),
        (5, 2304),
        (6, 5120),
    ] {
        let mut r = Random(seed + 100);
        let mut importances = vec![None];
        importances.push(Some(
            (0..columns)
                .map(|_| r.uniform() * r.uniform())
                .collect::<Vec<_>>(),
        ));
        importances.push(Some(
            (0..columns)
                .map(|i| {
                    if i / 16 % 5 == 0 {
                        0.0
                    } else {
                        r.normal().powi(2)
                    }
                })
                .collect(),
        ));
        for (kind, x) in awkward_rows(seed, columns) {
            for importance in &importances {
                let importance = importance.as_deref();
                for dtype in types() {
                    let expected = encode(Level::Scalar, dtype, columns, &x, importance);
                    for level in Level::available() {
                        let found = encode(level, dtype, columns, &x, importance);
                        let what = format!(
                            "{level:?}, {columns} {kind}, importance {}",
                            importance.is_some()
                        );
                        same_blocks(dtype, &found, &expected, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_gpt_oss_length_work_where_blocks_fit() {
    let mut r = Random(9);
    let x: Vec<f32> = (0..3 * 2880).map(|_| r.normal()).collect();
    for dtype in types().filter(|dtype| dtype.block_len() <= 64) {
        let all = encode(Level::best(), dtype, 2880, &x, None);
        let one = encode(Level::Scalar, dtype, 2880, &x[2880..5760], None);
        let row = dtype.row_bytes(2880).unwrap();
        same_blocks(dtype, &all[row..2 * row], &one, "second row");
    }
}

#[test]
fn the_error_is_what_the_format_promises() {
    let mut r = Random(7);
    let x: Vec<f32> = (0..64 * 256).map(|_| r.normal() * 0.02).collect();
    let total: f32 = x.iter().map(|v| v * v).sum();
    let promised = [
        (DType::F32, 0.0),
        (DType::F16, 0.00025),
        (DType::BF16, 0.002),
        (DType::Q8_0, 0.0056),
        (DType::Q6_K, 0.019),
        (DType::Q5_K, 0.038),
        (DType::Q5_1, 0.040),
        (DType::Q5_0, 0.047),
        (DType::Q4_K, 0.074),
        (DType::Q4_1, 0.081),
        (DType::IQ4_XS, 0.083),
        (DType::IQ4_NL, 0.083),
        (DType::Q4_0, 0.090),
        (DType::NVFP4, 0.11),
        (DType::MXFP4, 0.12),
        (DType::Q3_K, 0.16),
        (DType::Q2_K, 0.33),
    ];
    assert_eq!(promised.len(), types().count());
    for (dtype, bound) in promised {
        let y = decode(
            Level::best(),
            dtype,
            &encode(Level::best(), dtype, 256, &x, None),
        );
        let error: f32 = x.iter().zip(&y).map(|(x, y)| (x - y) * (x - y)).sum();
        let relative = (error / total).sqrt();
        assert!(relative <= bound, "{dtype:?}: {relative}");
        assert!(
            relative >= bound * 0.7,
            "{dtype:?}: {relative} is too good to be this format"
        );
    }
}

#[test]
fn importance_lowers_the_error_where_it_is_high() {
    let mut r = Random(8);
    let x: Vec<f32> = (0..64 * 256).map(|_| r.normal()).collect();
    let importance: Vec<f32> = (0..256)
        .map(|i| if i % 4 == 0 { 100.0 } else { 0.1 })
        .collect();
    let error = |dtype, importance| {
        let y = decode(
            Level::best(),
            dtype,
            &encode(Level::best(), dtype, 256, &x, importance),
        );
        let pairs = x.iter().zip(&y).step_by(4);
        pairs.map(|(x, y)| (x - y) * (x - y)).sum::<f32>()
    };
    for dtype in [
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q2_K,
        DType::Q3_K,
    ]
    .into_iter()
    .chain([
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
        DType::IQ4_NL,
        DType::IQ4_XS,
    ]) {
        let (with, without) = (error(dtype, Some(&importance)), error(dtype, None));
        assert!(with < without, "{dtype:?}: {with} with, {without} without");
    }
}

#[test]
fn what_has_an_encoder_is_what_can_be_written() {
    let known: Vec<_> = DType::TABLE.iter().map(|row| row.dtype).collect();
    let written: Vec<_> = types().collect();
    let decoded: Vec<_> = decoded_types().collect();
    for dtype in known {
        assert_eq!(
            written.contains(&dtype),
            dtype.can_be_written(),
            "{dtype:?}"
        );
        assert_eq!(decoded.contains(&dtype), dtype.holds_weights(), "{dtype:?}");
    }
    let error = encode_rows(DType::IQ3_S, 256, &[0.0; 256], None, &mut [0; 110]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "weights in IQ3_S can be read, but not made"
    );
}

#[test]
fn bad_scales_are_found_and_named() {
    for dtype in decoded_types() {
        let x = vec![0.5; 4 * 256];
        let good = match dtype.can_be_written() {
            true => encode(Level::best(), dtype, 256, &x, None),
            false => vec![0; 4 * dtype.block_bytes()],
        };
        check(dtype, &good).unwrap();
        // Where each type keeps what must be finite: the byte that holds the exponent.
        let at: &[usize] = match dtype {
            DType::F32 => &[3],
            DType::F16 | DType::BF16 => &[1],
            DType::MXFP4 => &[0],
            DType::NVFP4 => &[0, 3],
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[1, 3],
            DType::Q2_K => &[81, 83],
            DType::Q3_K => &[109],
            DType::Q6_K => &[209],
            _ => &[1],
        };
        for offset in at {
            let mut bad = good.clone();
            let block = &mut bad[2 * dtype.block_bytes()..3 * dtype.block_bytes()];
            block[*offset] = 0xff;
            if *offset > 0 {
                block[*offset - 1] |= 0x80;
            }
            let error = check(dtype, &bad).unwrap_err();
            assert_eq!(error.index, 2, "{dtype:?}");
            assert!(error.to_string().starts_with("block 2: "), "{error}");
            // Cut off in the middle of the block, the rest is good.
            check(dtype, &bad[..3 * dtype.block_bytes() - 1]).unwrap();
        }
    }
    // What overflows a half is not hidden.
    let huge = encode(Level::best(), DType::Q8_0, 32, &[1e30; 32], None);
    assert_eq!(
        check(DType::Q8_0, &huge).unwrap_err().what,
        "the scale is NaN or infinite"
    );
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let x = [0.0; 512];
    let mut out = [0; 144];
    let error = encode_rows(DType::Q4_K, 255, &x[..255], None, &mut out).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a row of 255 values is not whole blocks of Q4_K (256 values each)"
    );
    assert!(matches!(
        encode_rows(DType::Q4_K, 0, &[], None, &mut []),
        Err(Mismatch::Columns { .. })
    ));
    assert!(matches!(
        encode_rows(DType::I32, 1, &[], None, &mut []),
        Err(Mismatch::NotWeights(_))
    ));
    for (source, importance, out) in [
        (300, None, 144),
        (512, None, 144),
        (256, None, 143),
        (256, Some(255), 144),
    ] {
        let (mut bytes, importance) = (vec![0; out], importance.map(|len| &x[..len]));
        let result = encode_rows(DType::Q4_K, 256, &x[..source], importance, &mut bytes);
        assert!(
            matches!(result, Err(Mismatch::Length { .. })),
            "{source} {out}"
        );
    }
}

fn any_type() -> impl Strategy<Value = DType> {
    prop::sample::select(types().collect::<Vec<_>>())
}

fn any_decoded_type() -> impl Strategy<Value = DType> {
    prop::sample::select(decoded_types().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_bytes_decode_and_check_without_panic(dtype in any_decoded_type(), seed: u64, blocks in 0..5usize) {
        let mut r = Random(seed);
        let bytes: Vec<u8> = (0..blocks * dtype.block_bytes()).map(|_| r.bits() as u8).collect();
        let _ = check(dtype, &bytes);
        let expected = decode(Level::Scalar, dtype, &bytes);
        for level in Level::available() {
            same_floats(dtype, &decode(level, dtype, &bytes), &expected, "random bytes");
        }
    }

    #[test]
    fn any_floats_encode_alike_on_every_path(dtype in any_type(), seed: u64, important: bool, bits in 1..32u32) {
        // Exponents from a band of random width: from values that are all alike to any float there is.
        let mut r = Random(seed);
        let fixed = r.bits() & 0x7f80_0000 & (u32::MAX << bits);
        let x: Vec<f32> = (0..512).map(|_| f32::from_bits(r.bits() & !(0x7f80_0000 & (u32::MAX << bits)) | fixed)).collect();
        let importance: Vec<f32> = (0..512).map(|_| r.uniform()).collect();
        let importance = important.then_some(&importance[..]);
        let expected = encode(Level::Scalar, dtype, 512, &x, importance);
        for level in Level::available() {
            same_blocks(dtype, &encode(level, dtype, 512, &x, importance), &expected, "random floats");
        }
    }

    #[test]
    fn no_value_moves_farther_than_a_step(dtype in any_type(), seed: u64, exponent in -4..6i32) {
        let mut r = Random(seed);
        let x: Vec<f32> = (0..256).map(|_| (r.uniform() - 0.5) * 2f32.powi(exponent)).collect();
        let y = decode(Level::best(), dtype, &encode(Level::best(), dtype, 256, &x, None));
        let range = 2f32.powi(exponent);
        // Distance between neighbouring levels at its widest, as a part of the range of the values.
        let step = match dtype {
            DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 => 0.01,
            DType::Q6_K | DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 0.07,
            DType::Q2_K => 0.5,
            DType::Q3_K | DType::MXFP4 | DType::NVFP4 => 0.26,
            _ => 0.15,
        };
        for (x, y) in x.iter().zip(&y) {
            prop_assert!((x - y).abs() <= step * range, "{dtype:?}: {x} became {y}, range {range}");
        }
    }

    #[test]
    fn what_mxfp4_can_hold_it_keeps(seed: u64, e in 4..250u8) {
        let mut r = Random(seed);
        let mut bytes = vec![e; 17];
        bytes[1..].fill_with(|| r.bits() as u8);
        let x = decode(Level::best(), DType::MXFP4, &bytes);
        let y = decode(Level::best(), DType::MXFP4, &encode(Level::best(), DType::MXFP4, 32, &x, None));
        prop_assert_eq!(x, y);
    }
}
