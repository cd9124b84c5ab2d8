//! Every instruction set of this CPU, on the same cases, against the scalar one (equal bits) and against f64 (within the error of rounding).

use super::*;
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

const TYPES: [DType; 17] = [
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
    DType::MXFP4,
    DType::NVFP4,
];

/// Where the 16-bit floats of a block are, which random bits must not make infinite.
fn f16_fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q8_0 | DType::Q4_0 | DType::Q5_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
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
    activations.keep_values(is_float(matrix.dtype));
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

/// Compares with sums in f64; the error allowed is that of some 200 roundings to f32.
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
                error <= 1e-5 * size + 1e-30,
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
            if is_float(dtype) {
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
