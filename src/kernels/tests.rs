//! Every instruction set of this CPU, on the same cases, against the scalar one (equal bits) and against f64 (within the error of rounding).

use super::*;
use crate::kernels::panel::CHUNK;
use crate::kernels::weight::STEP;
use fourfold_quantize::block::decode_rows;

/// Numbers without a pattern: SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d049bb133111eb);
        z ^ z >> 31
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    /// Between -1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8388608.0 - 1.0
    }
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

const TYPES: [DType; 22] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::IQ2_XXS,
    DType::IQ2_XS,
    DType::IQ2_S,
    DType::IQ3_XXS,
    DType::IQ3_S,
    DType::MXFP4,
    DType::NVFP4,
];

#[test]
fn every_type_that_can_be_multiplied_is_tested() {
    let known = DType::TABLE.iter().map(|row| row.dtype);
    let known = known.filter(|&dtype| dtype.is_float() || is_quantized(dtype));
    assert_eq!(known.count(), TYPES.len());
}

/// Where the 16-bit floats of a block are, which random bits must not make infinite.
fn f16_fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q8_0 | DType::Q4_0 | DType::Q5_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S | DType::IQ3_XXS | DType::IQ3_S => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        _ => &[],
    }
}

/// Random bits with finite scales; every so often a block of zeros.
pub(super) fn random_rows(
    random: &mut Random,
    dtype: DType,
    rows: usize,
    columns: usize,
) -> Vec<u8> {
    let mut bytes = vec![0; dtype.row_bytes(columns).unwrap() * rows];
    match dtype {
        DType::F32 => {
            for field in bytes.as_chunks_mut::<4>().0 {
                *field = random.float().to_le_bytes();
            }
        }
        DType::F16 => {
            for field in bytes.as_chunks_mut::<2>().0 {
                *field = half::f16::from_f32(random.float()).to_le_bytes();
            }
        }
        DType::BF16 => {
            for field in bytes.as_chunks_mut::<2>().0 {
                *field = half::bf16::from_f32(random.float()).to_le_bytes();
            }
        }
        _ => {
            for block in bytes.chunks_mut(dtype.block_bytes()) {
                if random.below(17) == 0 {
                    continue;
                }
                block.fill_with(|| random.next() as u8);
                for &at in f16_fields(dtype) {
                    let scale = half::f16::from_f32(random.float() * 0.1);
                    block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                }
                if dtype == DType::MXFP4 {
                    block[0] = 115 + random.below(16) as u8;
                }
            }
        }
    }
    bytes
}

fn product(kernels: Kernels, pool: &Pool, matrix: Matrix, x: &[f32], tokens: usize) -> Vec<f32> {
    let mut activations = Activations::new();
    activations.keep_values(matrix.dtype.is_float());
    kernels.quantize(pool, x, tokens, matrix.columns, &mut activations);
    let mut out = vec![f32::NAN; tokens * matrix.rows];
    let product = Product {
        weight: matrix,
        scale: 1.0,
        bias: None,
        out: &mut out,
        add: false,
    };
    kernels.matmul(pool, &activations, &mut [product]);
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Inputs as the default arithmetic sees them, quantized here in the plainest way.
fn rounded(x: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    for step in x.chunks(STEP) {
        let largest = step.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let scale = f64::from(largest / 127.0);
        out.extend(
            step.iter()
                .map(|x| f64::from((x * inverse).round_ties_even()) * scale),
        );
    }
    out
}

/// What rounding may cost a row of MXFP4 beside roundings to f32: one and a half units for each step, a unit being the input's last bit times
/// half a weight's last bit at the chunk's base.
fn units(matrix: Matrix, row: usize, x: &[f64]) -> f64 {
    if matrix.dtype != DType::MXFP4 {
        return 0.0;
    }
    let blocks = &matrix.bytes[row * matrix.row_bytes()..][..matrix.row_bytes()];
    let chunks = blocks.chunks(CHUNK * 17).zip(x.chunks(CHUNK * STEP));
    let unit = |(blocks, x): (&[u8], &[f64])| {
        let exponent = blocks.iter().step_by(17).max().unwrap();
        let input = x.iter().fold(0f64, |largest, x| largest.max(x.abs())) / 127.0;
        1.5 * CHUNK as f64 * input * 2f64.powi(i32::from(*exponent) - 3 - 128)
    };
    chunks.map(unit).sum()
}

/// Compares with sums in f64; the error allowed is that of some 200 roundings to f32, and of the integers that MXFP4 is rounded to.
fn assert_close(matrix: Matrix, x: &[f64], got: &[f32], what: &str) {
    let Matrix { rows, columns, .. } = matrix;
    let mut weights = vec![0.0; rows * columns];
    decode_rows(matrix.dtype, matrix.bytes, &mut weights).unwrap();
    for (token, x) in x.chunks(columns).enumerate() {
        for (row, weights) in weights.chunks(columns).enumerate() {
            let terms = || weights.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
            let (expected, size): (f64, f64) = (terms().sum(), terms().map(f64::abs).sum());
            let got = f64::from(got[token * rows + row]);
            let error = (got - expected).abs();
            assert!(
                error <= 1e-5 * size + units(matrix, row, x) + 1e-30,
                "{what} {} token {token} row {row}: {got} is not {expected}",
                matrix.dtype.name()
            );
        }
    }
}

/// Shapes with and without tails: of rows, of columns in a chunk, of tokens in a tile and in a batch.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 256, 1),
    (33, 256, 2),
    (32, 2048, 7),
    (47, 512, 17),
    (5, 768, 3),
    (64, 256, 5),
    (16, 1280, 6),
    (3, 256, 301),
];

#[test]
fn every_type_agrees_on_all_instruction_sets_and_with_f64() {
    let pool = Pool::new(2);
    let mut random = Random::new(1);
    for dtype in TYPES {
        for (rows, columns, tokens) in SHAPES {
            let bytes = random_rows(&mut random, dtype, rows, columns);
            let matrix = Matrix::new(dtype, rows, columns, &bytes).unwrap();
            let x = random.floats(tokens * columns);
            let scalar = *Kernels::available().last().unwrap();
            let expected = product(scalar, &pool, matrix, &x, tokens);
            if dtype.is_float() {
                let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                assert_close(matrix, &x, &expected, "scalar");
            } else {
                assert_close(matrix, &rounded(&x), &expected, "scalar");
            }
            for kernels in Kernels::available() {
                let got = product(kernels, &pool, matrix, &x, tokens);
                assert_eq!(
                    bits(&got),
                    bits(&expected),
                    "{} {} {rows}x{columns} {tokens}",
                    kernels.isa(),
                    dtype.name()
                );
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_batch_or_the_number_of_threads() {
    let (one, three) = (Pool::new(1), Pool::new(3));
    let mut random = Random::new(2);
    for dtype in TYPES {
        // The second has more blocks of 32 than are summed in one go.
        let columns = if dtype.block_len() == 32 { 4128 } else { 512 };
        let (rows, tokens) = (77, 19);
        let bytes = random_rows(&mut random, dtype, rows, columns);
        let matrix = Matrix::new(dtype, rows, columns, &bytes).unwrap();
        let x = random.floats(tokens * columns);
        for kernels in Kernels::available() {
            let together = bits(&product(kernels, &three, matrix, &x, tokens));
            for (token, together) in together.chunks(rows).enumerate() {
                let x = &x[token * columns..][..columns];
                let alone = product(kernels, &one, matrix, x, 1);
                assert_eq!(bits(&alone), together, "{} {}", kernels.isa(), dtype.name());
            }
        }
    }
}

#[test]
fn blocks_of_32_work_at_any_number_of_blocks() {
    let pool = Pool::new(2);
    let mut random = Random::new(3);
    for dtype in TYPES.into_iter().filter(|dtype| dtype.block_len() <= 64) {
        for columns in [64, 128, 192, 576, 2880, 4160] {
            let bytes = random_rows(&mut random, dtype, 35, columns);
            let matrix = Matrix::new(dtype, 35, columns, &bytes).unwrap();
            for tokens in [1, 2, 9] {
                let x = random.floats(tokens * columns);
                let scalar = *Kernels::available().last().unwrap();
                let expected = product(scalar, &pool, matrix, &x, tokens);
                for kernels in Kernels::available() {
                    let got = product(kernels, &pool, matrix, &x, tokens);
                    assert_eq!(
                        bits(&got),
                        bits(&expected),
                        "{} {}",
                        kernels.isa(),
                        dtype.name()
                    );
                }
            }
        }
    }
}

#[test]
fn factors_of_mxfp4_carried_by_bytes_give_the_same_bits() {
    let pool = Pool::new(2);
    let mut random = Random::new(4);
    // Up to four neighbouring exponents are carried, where an instruction set can; one more in one row of many, and none of its panel's are.
    for (exponents, far) in [(1, None), (4, None), (5, None), (2, Some(70)), (4, Some(9))] {
        for (rows, columns, tokens) in [(32, 512, 7), (47, 2880, 13), (64, 1056, 1), (35, 96, 6)] {
            let mut bytes = random_rows(&mut random, DType::MXFP4, rows, columns);
            for block in bytes.chunks_mut(17) {
                block[0] = 118 + random.below(exponents) as u8;
            }
            if let Some(row) = far {
                bytes[row % rows * (columns / 32 * 17)] = 100;
            }
            let matrix = Matrix::new(DType::MXFP4, rows, columns, &bytes).unwrap();
            let x = random.floats(tokens * columns);
            let scalar = *Kernels::available().last().unwrap();
            let expected = product(scalar, &pool, matrix, &x, tokens);
            assert_close(matrix, &rounded(&x), &expected, "scalar");
            for kernels in Kernels::available() {
                let got = product(kernels, &pool, matrix, &x, tokens);
                let isa = kernels.isa();
                assert_eq!(
                    bits(&got),
                    bits(&expected),
                    "{isa} {rows}x{columns} {tokens}"
                );
            }
        }
    }
}

#[test]
fn every_exponent_of_mxfp4_scales_or_vanishes() {
    let pool = Pool::new(1);
    let columns = 64;
    for exponent in 0..=255u8 {
        let mut bytes = vec![0x72; 34];
        (bytes[0], bytes[17]) = (exponent, exponent);
        let matrix = Matrix::new(DType::MXFP4, 1, columns, &bytes).unwrap();
        let x = vec![1.0; columns];
        // Codes 2 and 7 are 1 and 6; half of the columns each.
        let expected = 32.0 * 7.0 * 2f64.powi(i32::from(exponent) - 127);
        for kernels in Kernels::available() {
            let got = f64::from(product(kernels, &pool, matrix, &x, 1)[0]);
            if expected > f64::from(f32::MAX) {
                assert_eq!(got, f64::INFINITY, "{} {exponent}", kernels.isa());
            } else if exponent > 28 {
                let error = (got - expected).abs() / expected;
                assert!(error < 1e-6, "{} {exponent}: {got}", kernels.isa());
            } else {
                assert_eq!(got, 0.0, "{} {exponent}", kernels.isa());
            }
        }
    }
}

#[test]
fn the_largest_bytes_do_not_overflow() {
    let pool = Pool::new(1);
    let mut bytes = vec![0x80; 34 * 3];
    for block in bytes.chunks_mut(34) {
        block[..2].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
    }
    let matrix = Matrix::new(DType::Q8_0, 3, 32, &bytes).unwrap();
    for sign in [1.0, -1.0] {
        for kernels in Kernels::available() {
            for tokens in [1, 5] {
                let got = product(kernels, &pool, matrix, &vec![sign; 32 * tokens], tokens);
                for got in got {
                    assert!(
                        (got + sign * 4096.0).abs() < 0.01,
                        "{}: {got}",
                        kernels.isa()
                    );
                }
            }
        }
    }
}

#[test]
fn the_largest_products_of_small_weights_do_not_overflow() {
    let pool = Pool::new(1);
    // Blocks of the smallest weight there is, -12 and -16 in units of its type, and of the largest.
    let mut blocks = [[126; 17], [126; 17]];
    blocks[0][1..].fill(0xff);
    blocks[1][1..].fill(0x77);
    let mxfp4 = (DType::MXFP4, blocks.concat(), [-6.0 / 2.0, 6.0 / 2.0]);
    let mut blocks = [[0; 22], [0xff; 22]];
    for block in &mut blocks {
        block[..2].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
    }
    let q5_0 = (DType::Q5_0, blocks.concat(), [-16.0, 15.0]);
    for (dtype, bytes, weights) in [mxfp4, q5_0] {
        let matrix = Matrix::new(dtype, 2, 32, &bytes).unwrap();
        for sign in [1.0, -1.0] {
            for kernels in Kernels::available() {
                for tokens in [1, 5] {
                    let got = product(kernels, &pool, matrix, &vec![sign; 32 * tokens], tokens);
                    for (index, got) in got.into_iter().enumerate() {
                        let expected = sign * 32.0 * weights[index % 2];
                        let (isa, error) = (kernels.isa(), (got - expected).abs());
                        assert!(error < 0.01, "{isa} {}: {got} {expected}", dtype.name());
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_reaches_the_result() {
    let pool = Pool::new(1);
    let mut random = Random::new(4);
    let bytes = random_rows(&mut random, DType::Q8_0, 32, 256);
    let matrix = Matrix::new(DType::Q8_0, 32, 256, &bytes).unwrap();
    for kernels in Kernels::available() {
        for (index, bad) in [(0, f32::NAN), (77, -f32::NAN), (255, f32::INFINITY)] {
            let mut x = random.floats(256);
            x[index] = bad;
            let got = product(kernels, &pool, matrix, &x, 1);
            assert!(
                got.iter().all(|y| !y.is_finite()),
                "{} {bad}",
                kernels.isa()
            );
        }
        let tiny = vec![1e-38; 256];
        let got = product(kernels, &pool, matrix, &tiny, 1);
        assert!(got.iter().all(|y| *y == 0.0), "{}", kernels.isa());
    }
}

/// A mapping whose end is the end of what may be read.
#[cfg(target_os = "linux")]
struct Guarded(*mut u8, usize);

#[cfg(target_os = "linux")]
impl Guarded {
    fn new(bytes: &[u8]) -> Self {
        let length = bytes.len().next_multiple_of(4096);
        // SAFETY: a fresh mapping of `length` bytes and a page that nobody may touch.
        unsafe {
            let (access, kind) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            let map =
                libc::mmap(std::ptr::null_mut(), length + 4096, access, kind, -1, 0).cast::<u8>();
            assert!(map.cast() != libc::MAP_FAILED);
            assert_eq!(
                libc::mprotect(map.add(length).cast(), 4096, libc::PROT_NONE),
                0
            );
            map.add(length - bytes.len())
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Self(map, length)
        }
    }
    fn last(&self, count: usize) -> &[u8] {
        // SAFETY: the last bytes of the mapping.
        unsafe { std::slice::from_raw_parts(self.0.add(self.1 - count), count) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.0.cast(), self.1 + 4096) };
    }
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_beyond_the_last_row_is_read() {
    let pool = Pool::new(1);
    let mut random = Random::new(5);
    for dtype in TYPES {
        for (rows, columns) in [(33, 512), (128, 256), (64, 2816)] {
            let bytes = random_rows(&mut random, dtype, rows, columns);
            let guarded = Guarded::new(&bytes);
            let matrix = Matrix::new(dtype, rows, columns, guarded.last(bytes.len())).unwrap();
            for tokens in [1, 8] {
                let x = random.floats(tokens * columns);
                let plain = Matrix::new(dtype, rows, columns, &bytes).unwrap();
                for kernels in Kernels::available() {
                    let got = product(kernels, &pool, matrix, &x, tokens);
                    let expected = product(kernels, &pool, plain, &x, tokens);
                    assert_eq!(
                        bits(&got),
                        bits(&expected),
                        "{} {}",
                        kernels.isa(),
                        dtype.name()
                    );
                }
            }
        }
    }
}

#[test]
fn several_products_with_biases_and_sums_equal_single_ones() {
    let pool = Pool::new(3);
    let mut random = Random::new(6);
    let (columns, tokens) = (256, 4);
    let x = random.floats(tokens * columns);
    let parts = [
        (DType::Q8_0, 100),
        (DType::MXFP4, 64),
        (DType::Q4_K, 7),
        (DType::F32, 40),
    ];
    for kernels in Kernels::available() {
        let mut activations = Activations::new();
        activations.keep_values(true);
        kernels.quantize(&pool, &x, tokens, columns, &mut activations);
        let data: Vec<_> = parts
            .iter()
            .map(|&(dtype, rows)| {
                let bytes = random_rows(&mut random, dtype, rows, columns);
                (bytes, random.floats(rows), random.floats(rows * tokens))
            })
            .collect();
        let matrix = |index: usize| {
            let (dtype, rows) = parts[index];
            Matrix::new(dtype, rows, columns, &data[index].0).unwrap()
        };
        let mut outs: Vec<_> = data.iter().map(|(_, _, out)| out.clone()).collect();
        let mut products: Vec<_> = outs
            .iter_mut()
            .enumerate()
            .map(|(index, out)| Product {
                weight: matrix(index),
                scale: 1.0,
                bias: (index != 1).then_some(&data[index].1),
                out,
                add: index % 2 == 0,
            })
            .collect();
        kernels.matmul(&pool, &activations, &mut products);
        for (index, out) in outs.iter().enumerate() {
            let mut expected = product(kernels, &pool, matrix(index), &x, tokens);
            for (at, value) in expected.iter_mut().enumerate() {
                if index != 1 {
                    *value += data[index].1[at % parts[index].1];
                }
                if index % 2 == 0 {
                    *value += data[index].2[at];
                }
            }
            assert_eq!(bits(out), bits(&expected), "{} {index}", kernels.isa());
        }
    }
}

#[test]
fn exact_products_equal_sums_of_decoded_weights() {
    let pool = Pool::new(2);
    let mut random = Random::new(7);
    for dtype in TYPES {
        let (rows, columns, tokens) = (40, 768, 9);
        let bytes = random_rows(&mut random, dtype, rows, columns);
        let matrix = Matrix::new(dtype, rows, columns, &bytes).unwrap();
        let x = random.floats(tokens * columns);
        let exact: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mut decoded = vec![0.0; rows * columns];
        decode_rows(dtype, &bytes, &mut decoded).unwrap();
        let sum = |row: usize, token: usize| {
            let weights = &decoded[row * columns..][..columns];
            let inputs = &x[token * columns..][..columns];
            weights
                .iter()
                .zip(inputs)
                .fold(0f32, |sum, (w, x)| w.mul_add(*x, sum))
        };
        for kernels in Kernels::available() {
            let got = product(kernels.exact(), &pool, matrix, &x, tokens);
            assert_close(matrix, &exact, &got, "exact");
            for (at, got) in got.iter().enumerate() {
                let expected = sum(at % rows, at / rows);
                assert_eq!(
                    got.to_bits(),
                    expected.to_bits(),
                    "{} {}",
                    kernels.isa(),
                    dtype.name()
                );
            }
        }
    }
}

/// The experts as the paper has them, on decoded weights, in f64; hidden values are quantized where `rounding` says so.
fn plain_experts(
    experts: &Experts,
    x: &[f64],
    routes: &[(usize, f32)],
    used: usize,
    rounding: bool,
) -> Vec<f64> {
    let decoded = |matrix: &Matrix| {
        let mut weights = vec![0.0; matrix.rows * matrix.columns];
        decode_rows(matrix.dtype, matrix.bytes, &mut weights).unwrap();
        weights
    };
    let (gate, up, down) = (
        decoded(&experts.gate),
        decoded(&experts.up),
        decoded(&experts.down),
    );
    let dot = |weights: &[f32], x: &[f64]| -> f64 {
        weights.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()
    };
    let Experts { ff, columns, .. } = *experts;
    let limit = f64::from(experts.swiglu_limit);
    let mut out = vec![0.0; x.len()];
    for (index, &(expert, weight)) in routes.iter().enumerate() {
        let token = index / used;
        let x = &x[token * columns..][..columns];
        let hidden: Vec<f32> = (expert * ff..(expert + 1) * ff)
            .map(|row| {
                let gate =
                    dot(&gate[row * columns..][..columns], x) + f64::from(experts.gate_bias[row]);
                let up = dot(&up[row * columns..][..columns], x) + f64::from(experts.up_bias[row]);
                let (gate, up) = (gate.min(limit), up.clamp(-limit, limit));
                (gate / (1.0 + (-1.702 * gate).exp()) * (up + 1.0)) as f32
            })
            .collect();
        let hidden = if rounding {
            rounded(&hidden)
        } else {
            hidden.iter().map(|h| f64::from(*h)).collect()
        };
        for column in 0..columns {
            let row = expert * columns + column;
            let sum = dot(&down[row * ff..][..ff], &hidden) + f64::from(experts.down_bias[row]);
            out[token * columns + column] += f64::from(weight) * sum;
        }
    }
    out
}

#[test]
fn experts_equal_the_plain_feed_forward_for_any_batch_and_threads() {
    let mut random = Random::new(8);
    let (n_experts, used, ff, columns) = (5, 2, 96, 64);
    for dtype in [DType::MXFP4, DType::Q8_0, DType::BF16, DType::Q5_0] {
        let mut bytes =
            |rows: usize, columns: usize| random_rows(&mut random, dtype, rows, columns);
        let (gate, up, down) = (
            bytes(n_experts * ff, columns),
            bytes(n_experts * ff, columns),
            bytes(n_experts * columns, ff),
        );
        let biases: Vec<_> = [ff, ff, columns]
            .map(|n| random.floats(n_experts * n))
            .into();
        let experts = Experts {
            gate: Matrix::new(dtype, n_experts * ff, columns, &gate).unwrap(),
            up: Matrix::new(dtype, n_experts * ff, columns, &up).unwrap(),
            down: Matrix::new(dtype, n_experts * columns, ff, &down).unwrap(),
            gate_bias: &biases[0],
            up_bias: &biases[1],
            down_bias: &biases[2],
            n_experts,
            ff,
            columns,
            swiglu_limit: 7.0,
            swiglu_alpha: 1.702,
            scales: [None; 3],
        };
        let tokens = 31;
        let x = random.floats(tokens * columns);
        // Expert 3 gets nobody.
        let routes: Vec<_> = (0..tokens)
            .flat_map(|token| [(token % 3, 0.75), (4 - 4 * (token % 2), 0.25)])
            .collect();
        let run = |kernels: Kernels, threads: usize, x: &[f32], routes: &[(usize, f32)]| {
            let pool = Pool::new(threads);
            let mut input = Activations::new();
            input.keep_values(dtype.is_float());
            kernels.quantize(&pool, x, x.len() / columns, columns, &mut input);
            let mut out = vec![0.0; x.len()];
            kernels.experts(
                &pool,
                &experts,
                &input,
                routes,
                used,
                &mut out,
                &mut Scratch::new(),
            );
            out
        };
        let scalar = *Kernels::available().last().unwrap();
        let first = run(scalar, 1, &x, &routes);
        let float = dtype.is_float();
        let inputs = if float {
            x.iter().map(|x| f64::from(*x)).collect()
        } else {
            rounded(&x)
        };
        let expected = plain_experts(&experts, &inputs, &routes, used, !float);
        let size = expected
            .iter()
            .fold(0f64, |size, value| size.max(value.abs()));
        for (got, expected) in first.iter().zip(&expected) {
            // A hidden value at the edge between two steps may fall to either side; that is half a step of one of 96.
            let allowed = if float { 1e-5 } else { 3e-3 } * size;
            assert!(
                (f64::from(*got) - expected).abs() <= allowed,
                "{}: {got} {expected}",
                dtype.name()
            );
        }
        for kernels in Kernels::available() {
            for threads in [1, 3] {
                let got = run(kernels, threads, &x, &routes);
                assert_eq!(
                    bits(&got),
                    bits(&first),
                    "{} {}",
                    kernels.isa(),
                    dtype.name()
                );
            }
            let alone = run(kernels, 2, &x[7 * columns..8 * columns], &routes[14..16]);
            assert_eq!(
                bits(&alone),
                bits(&first[7 * columns..8 * columns]),
                "{}",
                kernels.isa()
            );
        }
    }
}

#[test]
fn a_matrix_that_does_not_fit_is_refused() {
    let bytes = [0; 34 * 4];
    assert!(Matrix::new(DType::Q8_0, 4, 32, &bytes).is_ok());
    assert!(matches!(
        Matrix::new(DType::Q8_0, 3, 32, &bytes),
        Err(Error::Size { .. })
    ));
    assert!(matches!(
        Matrix::new(DType::Q8_0, 4, 31, &bytes),
        Err(Error::Size { .. })
    ));
    assert!(matches!(
        Matrix::new(DType::Q8_0, usize::MAX, 32, &bytes),
        Err(Error::Size { .. })
    ));
    assert!(matches!(
        Matrix::new(DType::I32, 1, 32, &bytes[..128]),
        Err(Error::Type(_))
    ));
}
