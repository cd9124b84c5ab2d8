//! One token times a panel of any quantized type: what is unpacked, a step or a block of eight, is multiplied at once.
//!
//! Same arithmetic, same order as in [`super::panel`]. Types whose blocks are simple take the faster way of [`super::along`].

use super::activations::{Record, away};
use super::isa::{Isa, Task, prefetch, prefetch_near};
use super::panel::{CHUNK, MAGIC, Panel, ROWS, halves, start};
use super::powers;
use super::weight::{Class, Codes, Weight};

/// The class of a type.
type C<W> = <W as Weight>::Class;

/// One token times the rows of a panel.
pub(super) struct Single<W> {
    pub panel: Panel,
    pub record: *const Record,
    /// A float for each row.
    pub results: *mut f32,
    pub weight: std::marker::PhantomData<W>,
}

#[repr(C, align(64))]
struct Scales {
    scales: [u32; 16 * CHUNK * 2],
    minima: [u32; 16 * CHUNK * 2],
}

impl<W: Weight> Task for Single<W> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { panel, record, .. } = self;
        let halves = halves::<W::Class>();
        let groups = ROWS / I::LANES;
        let mut buffer = std::mem::MaybeUninit::<Scales>::uninit();
        let buffer = buffer.as_mut_ptr();
        // The next panel is fetched to the second-level cache as one run of lines; what the next chunk of this panel needs is moved from
        // there to the first level row by row. One without the other costs a quarter of the speed.
        let per_step = (ROWS * panel.stride).div_ceil(64 * panel.steps * groups);
        let mut ahead = panel.next;
        let near_lines = (CHUNK * panel.stride / panel.steps).div_ceil(64);
        for group in 0..groups {
            let rows = panel.group::<I>(group);
            let mut total = isa.splat(0.0);
            let mut sum = total;
            for first in (0..panel.steps).step_by(CHUNK) {
                let steps = CHUNK.min(panel.steps - first);
                let near = rows
                    .row(0)
                    .wrapping_add((first + CHUNK) * panel.stride / panel.steps);
                // SAFETY: the buffer has room for a chunk; the caller of `multiply` promises the rows and records.
                unsafe {
                    let scales = (&raw mut (*buffer).scales).cast::<u32>();
                    let minima = (&raw mut (*buffer).minima).cast::<u32>();
                    let codes = Codes {
                        scales,
                        minima,
                        stride: I::LANES,
                    };
                    W::gather(isa, rows, first, steps, codes);
                    let mut base = isa.splat_int(0);
                    if C::<W>::POWERS {
                        base = powers::base(isa, scales, steps).exponent;
                        sum = isa.splat(away(record.add(first), first, panel.steps));
                    }
                    let mut unpacked = [[isa.splat_int(0); 8]; 8];
                    for step in 0..steps {
                        for _ in 0..per_step {
                            prefetch(ahead);
                            ahead = ahead.wrapping_add(64);
                        }
                        for row in (step..I::LANES).step_by(CHUNK) {
                            let row = near.wrapping_add(row * panel.stride);
                            for line in 0..near_lines {
                                prefetch_near(row.wrapping_add(line * 64));
                            }
                        }
                        let record = record.add(first + step);
                        if step % W::TOGETHER == 0 {
                            W::unpack(isa, rows, first + step, unpacked.as_mut_ptr());
                        }
                        let weights = unpacked[step % W::TOGETHER];
                        let mut sums = [isa.splat_int(0); 2];
                        for half in 0..2 {
                            if half == 0 || C::<W>::SPLIT {
                                sums[half] = isa.splat_int(start::<I, C<W>>(record, half, false));
                            }
                            for j in 0..4 {
                                let at = half * 16 + j * 4;
                                let input = (&raw const (*record).values).cast::<u8>().add(at);
                                let input = isa.splat_int(input.cast::<i32>().read_unaligned());
                                let weights = weights[half * 4 + j];
                                sums[half] = isa.dot(sums[half], weights, input, C::<W>::LARGEST);
                            }
                        }
                        if !C::<W>::SPLIT {
                            sums[0] = isa.add_ints(sums[0], sums[1]);
                        }
                        for half in 0..halves {
                            let at = (step * halves + half) * I::LANES;
                            let code = isa.load_ints(scales.add(at).cast());
                            if C::<W>::POWERS {
                                let dot = isa.as_floats(sums[half]);
                                let value = powers::value(isa, dot, code, base);
                                sum = isa.fma(value, isa.splat((*record).scale), sum);
                                continue;
                            }
                            let scale = W::scale(isa, code);
                            let away = isa.mul(scale, isa.splat(-MAGIC));
                            let value = isa.fma(isa.as_floats(sums[half]), scale, away);
                            total = isa.fma(value, isa.splat((*record).scale), total);
                            if C::<W>::MINIMA {
                                let minimum = W::minimum(isa, isa.load_ints(minima.add(at).cast()));
                                let weighted = if C::<W>::SPLIT {
                                    (*record).weighted_halves[half]
                                } else {
                                    (*record).weighted
                                };
                                total = isa.fma(minimum, isa.splat(weighted), total);
                            }
                        }
                    }
                    if C::<W>::POWERS {
                        total = isa.fma(sum, W::scale(isa, base), total);
                    }
                }
            }
            // SAFETY: the results have room for every row.
            unsafe { isa.store(self.results.add(group * I::LANES), total) };
        }
    }
}
