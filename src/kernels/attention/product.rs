//! The small matrix products of attention, whose sums stay in registers.

use crate::kernels::isa::Isa;

/// Rows that are computed together: with four vectors each, 16 sums hide the latency of the additions.
const ROWS: usize = 4;

/// `out = shrink * out + a . b`, row by row; without `shrink`, `out = a . b`.
/// `a` is `(rows, depth)`, `b` is `(depth, width)`; the width is a multiple of 16.
#[inline(always)]
pub fn multiply<I: Isa>(
    isa: I,
    a: &[f32],
    depth: usize,
    b: &[f32],
    width: usize,
    out: &mut [f32],
    shrink: Option<&[f32]>,
) {
    let rows = a.len() / depth;
    assert!(b.len() == depth * width && out.len() == rows * width && width.is_multiple_of(16));
    assert!(a.len() == rows * depth && shrink.is_none_or(|shrink| shrink.len() == rows));
    let mut row = 0;
    while row < rows {
        let count = ROWS.min(rows - row);
        let a = &a[row * depth..(row + count) * depth];
        let out = &mut out[row * width..(row + count) * width];
        let shrink = shrink.map(|shrink| &shrink[row..row + count]);
        match count {
            4 => multiply_rows::<I, 4>(isa, a, depth, b, width, out, shrink),
            3 => multiply_rows::<I, 3>(isa, a, depth, b, width, out, shrink),
            2 => multiply_rows::<I, 2>(isa, a, depth, b, width, out, shrink),
            _ => multiply_rows::<I, 1>(isa, a, depth, b, width, out, shrink),
        }
        row += count;
    }
}

#[inline(always)]
fn multiply_rows<I: Isa, const R: usize>(
    isa: I,
    a: &[f32],
    depth: usize,
    b: &[f32],
    width: usize,
    out: &mut [f32],
    shrink: Option<&[f32]>,
) {
    let mut column = 0;
    while column < width {
        let left = (width - column) / I::LANES;
        if left >= 4 {
            multiply_tile::<I, R, 4>(isa, a, depth, b, width, column, out, shrink);
            column += 4 * I::LANES;
        } else {
            multiply_tile::<I, R, 1>(isa, a, depth, b, width, column, out, shrink);
            column += I::LANES;
        }
    }
}

/// `R` rows by `V` vectors of the product, all sums in registers.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "inlined into its one caller, which packs nothing"
)]
fn multiply_tile<I: Isa, const R: usize, const V: usize>(
    isa: I,
    a: &[f32],
    depth: usize,
    b: &[f32],
    width: usize,
    column: usize,
    out: &mut [f32],
    shrink: Option<&[f32]>,
) {
    assert!(a.len() == R * depth && out.len() == R * width);
    assert!(b.len() == depth * width && column + V * I::LANES <= width);
    let mut sums = [[isa.splat(0.0); V]; R];
    if let Some(shrink) = shrink {
        for (r, sums) in sums.iter_mut().enumerate() {
            let shrink = isa.splat(shrink[r]);
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: inside row `r` of `out` by the assertions above.
                let old = unsafe { isa.load(out.as_ptr().add(r * width + column + v * I::LANES)) };
                *sum = isa.mul(old, shrink);
            }
        }
    }
    for k in 0..depth {
        // SAFETY: row `k` of `b` has `width` numbers, of which these are inside by the assertion above.
        let b: [I::Floats; V] = std::array::from_fn(|v| unsafe {
            isa.load(b.as_ptr().add(k * width + column + v * I::LANES))
        });
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `a` has `R` rows of `depth`.
            let a = isa.splat(unsafe { *a.get_unchecked(r * depth + k) });
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = isa.fma(a, b, *sum);
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: as for the loads.
            unsafe {
                isa.store(out.as_mut_ptr().add(r * width + column + v * I::LANES), sum);
            }
        }
    }
}
