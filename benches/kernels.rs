//! Each kernel beside what this machine can do at most, measured in the same run: `cargo bench --bench kernels [-- FILTER [THREADS]]`.

use fourfold::kernels::{Activations, Experts, Kernels, Matrix, Product, Scratch, ceilings};
use fourfold::threads::Pool;
use fourfold_quantize::dtype::DType;
use std::time::Instant;

const COLUMNS: usize = 2880;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'));
    let filter = arguments.next().unwrap_or_default();
    let threads = arguments.next().and_then(|n| n.parse().ok());
    let pool = Pool::new(threads.unwrap_or_else(Pool::default_threads));
    let kernels = Kernels::detect().expect("FOURFOLD_ISA names an instruction set of this CPU");
    println!("{}, {} threads", kernels.isa(), pool.threads());
    let wanted = |name: &str| name.contains(&filter);

    let gmac = (0..5)
        .map(|_| ceilings::multiply(&kernels, &pool, 0.05))
        .fold(0.0, f64::max);
    println!("ceiling: {gmac:.0} GMAC/s");
    // Larger than any cache that could keep it from one round to the next.
    let bytes = Bytes::new(768 << 20);
    let read = (0..5)
        .map(|_| ceilings::read(&kernels, &pool, bytes.get()))
        .fold(0.0, f64::max);
    println!("ceiling: {read:.1} GB/s");

    for dtype in [DType::MXFP4, DType::Q8_0] {
        if wanted("experts") && dtype == DType::MXFP4 {
            for tokens in [1, 16, 64, 128, 512] {
                experts(&kernels, &pool, &bytes, tokens, gmac, read);
            }
        }
        for tokens in [4, 8, 16, 32, 64, 128, 512] {
            if wanted("gemm") {
                gemm(&kernels, &pool, dtype, &bytes, tokens, gmac);
            }
        }
    }
    for dtype in DType::TABLE.iter().map(|row| row.dtype) {
        let columns = if dtype.block_len() == 256 {
            4096
        } else {
            COLUMNS
        };
        if Matrix::new(dtype, 0, columns, &[]).is_ok() && wanted("gemv") {
            for tokens in [1, 2, 4] {
                gemv(&kernels, &pool, dtype, columns, &bytes, tokens, read);
            }
        }
    }
}

/// Bytes that make finite weights in every type, in huge pages where the system gives them.
struct Bytes(Vec<u8>, usize);

impl Bytes {
    fn new(size: usize) -> Self {
        let mut bytes = Vec::<u8>::with_capacity(size + (2 << 20));
        let start = bytes.as_ptr().align_offset(2 << 20);
        #[cfg(target_os = "linux")]
        // SAFETY: advice about memory that the vector owns.
        unsafe {
            let from = bytes.as_mut_ptr().wrapping_add(start);
            libc::madvise(from.cast(), size, libc::MADV_HUGEPAGE);
        }
        let mut state = 1u64;
        bytes.resize_with(size + start, || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            // Floats of any of these bytes are below two and no denormals, which cost more; exponents of MXFP4 are small too.
            48 + (state >> 60) as u8
        });
        Self(bytes, start)
    }
    fn get(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

fn inputs(kernels: &Kernels, pool: &Pool, tokens: usize, columns: usize) -> Activations {
    let x: Vec<f32> = (0..tokens * columns)
        .map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 500.0)
        .collect();
    let mut activations = Activations::new();
    activations.keep_values(true);
    kernels.quantize(pool, &x, tokens, columns, &mut activations);
    activations
}

/// Seconds of the fastest of several rounds.
fn best(mut round: impl FnMut()) -> f64 {
    round();
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.25 {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// One matrix of an expert's shape that stays in the cache, as many tokens as one expert gets.
fn gemm(kernels: &Kernels, pool: &Pool, dtype: DType, bytes: &Bytes, tokens: usize, ceiling: f64) {
    let rows = 1920;
    let size = dtype.row_bytes(COLUMNS).unwrap() * rows;
    let matrix = Matrix::new(dtype, rows, COLUMNS, &bytes.get()[..size]).unwrap();
    let input = inputs(kernels, pool, tokens, COLUMNS);
    let mut out = vec![0.0; tokens * rows];
    let seconds = best(|| {
        let product = Product {
            weight: matrix,
            scale: 1.0,
            bias: None,
            out: &mut out,
            add: false,
        };
        kernels.matmul(pool, &input, &mut [product]);
    });
    let gmac = (rows * COLUMNS * tokens) as f64 / seconds / 1e9;
    println!(
        "gemm {:6} {tokens:4} tokens: {gmac:7.1} GMAC/s, {:3.0} %",
        dtype.name(),
        100.0 * gmac / ceiling
    );
}

/// A matrix too large for the caches.
fn gemv(
    kernels: &Kernels,
    pool: &Pool,
    dtype: DType,
    columns: usize,
    bytes: &Bytes,
    tokens: usize,
    ceiling: f64,
) {
    let row = dtype.row_bytes(columns).unwrap();
    let rows = bytes.get().len() / row / 64 * 64;
    let matrix = Matrix::new(dtype, rows, columns, &bytes.get()[..rows * row]).unwrap();
    let input = inputs(kernels, pool, tokens, columns);
    let mut out = vec![0.0; tokens * rows];
    let seconds = best(|| {
        let product = Product {
            weight: matrix,
            scale: 1.0,
            bias: None,
            out: &mut out,
            add: false,
        };
        kernels.matmul(pool, &input, &mut [product]);
    });
    let speed = (rows * row) as f64 / seconds / 1e9;
    println!(
        "gemv {:6} {tokens} tokens: {speed:5.1} GB/s, {:3.0} %",
        dtype.name(),
        100.0 * speed / ceiling
    );
}

/// A layer of gpt-oss-20b's experts; every call uses another one of the layers that the buffer holds.
fn experts(kernels: &Kernels, pool: &Pool, bytes: &Bytes, tokens: usize, gmac: f64, read: f64) {
    let (n_experts, used) = (32, 4);
    let expert = COLUMNS * DType::MXFP4.row_bytes(COLUMNS).unwrap();
    let matrices: Vec<_> = bytes.get().chunks_exact(n_experts * expert).collect();
    let biases = vec![0.125; n_experts * COLUMNS];
    let input = inputs(kernels, pool, tokens, COLUMNS);
    let mut out = vec![0.0; tokens * COLUMNS];
    let mut scratch = Scratch::new();
    let mut round = 0;
    let matrix = |index: usize| {
        let bytes = matrices[index % matrices.len()];
        Matrix::new(DType::MXFP4, n_experts * COLUMNS, COLUMNS, bytes).unwrap()
    };
    let seconds = best(|| {
        round += 3;
        let layer = Experts {
            gate: matrix(round),
            up: matrix(round + 1),
            down: matrix(round + 2),
            gate_bias: &biases,
            up_bias: &biases,
            down_bias: &biases,
            n_experts,
            ff: COLUMNS,
            columns: COLUMNS,
            swiglu_limit: 7.0,
            swiglu_alpha: 1.702,
            scales: [None; 3],
        };
        let routes: Vec<_> = (0..tokens * used)
            .map(|i| ((i * 5 + round * 11) % n_experts, 0.25))
            .collect();
        kernels.experts(pool, &layer, &input, &routes, used, &mut out, &mut scratch);
    });
    let macs = (3 * COLUMNS * COLUMNS * used * tokens) as f64 / seconds / 1e9;
    let touched = (3 * expert * n_experts.min(tokens * used)) as f64 / seconds / 1e9;
    println!(
        "experts {tokens:4} tokens: {macs:6.1} GMAC/s, {:3.0} %; {touched:5.1} GB/s, {:3.0} %",
        100.0 * macs / gmac,
        100.0 * touched / read
    );
}
