//! A chunk of unpacked weights times all tokens, in tiles whose sums stay in registers.

use super::unpack::Chunk;
use super::{CHUNK, MAGIC, MAGIC_BITS, ROWS, halves, in_pairs, start};
use crate::kernels::activations::{Record, away};
use crate::kernels::isa::{Isa, Task, prefetch, prefetch_near};
use crate::kernels::powers;
use crate::kernels::weight::Class;

/// Most tokens of a tile.
pub const TILE: usize = 6;

/// Multiplies a chunk with all tokens.
pub struct Multiply<'a, C> {
    pub chunk: *const Chunk,
    /// Whether the bytes carry the steps' factors.
    pub carried: bool,
    /// Where the tokens' records start, and for a tile's worth after them those of the last token.
    pub records: &'a [*const Record],
    /// The chunk's first step, and how many it has.
    pub first: usize,
    pub steps: usize,
    /// How many a row has.
    pub all_steps: usize,
    /// Lines of the next panel to fetch, that many for each step.
    pub ahead: Option<(*const u8, usize)>,
    pub count: usize,
    /// A panel of floats for each token.
    pub results: *mut f32,
    pub class: std::marker::PhantomData<C>,
}

impl<C: Class> Task for Multiply<'_, C> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // A tile holds 2 * G * T sums and results, G vectors of weights and one of input in registers.
        let mut done = 0;
        while done < self.count {
            let left = self.count - done;
            // SAFETY: the caller of `multiply` promises the records; results have room for every token.
            unsafe {
                if I::REGISTERS == 32 {
                    done += match left {
                        // Four vectors of rows for each input that is read: 3 % faster than two and six tokens.
                        3.. => self.tiles::<I, 4, 3>(isa, done),
                        2 => self.tiles::<I, 4, 2>(isa, done),
                        _ => self.tiles::<I, 4, 1>(isa, done),
                    };
                } else {
                    done += match left {
                        // AVX2: as many sums as there are registers beside three for rows and inputs, their totals in memory.
                        2.. if in_pairs::<I, C>() => self.tiles::<I, 4, 2>(isa, done),
                        1 if in_pairs::<I, C>() => self.tiles::<I, 4, 1>(isa, done),
                        // One instruction's latency wants many sums; three instructions leave no registers for them.
                        TILE.. if !I::PAIRS => self.tiles::<I, 1, TILE>(isa, done),
                        4.. => self.tiles::<I, 1, 4>(isa, done),
                        2.. => self.tiles::<I, 1, 2>(isa, done),
                        _ => self.tiles::<I, 1, 1>(isa, done),
                    };
                }
            }
        }
    }
}

impl<C: Class> Multiply<'_, C> {
    /// All rows times `T` tokens; returns `T`.
    /// # Safety
    /// `T` tokens are left.
    #[inline(always)]
    unsafe fn tiles<I: Isa, const G: usize, const T: usize>(&self, isa: I, first: usize) -> usize {
        // The lines of the next panel, spread over all tiles; the last ones may fetch a little too far.
        let (lines, fetched) = match self.ahead {
            Some((start, lines)) => {
                let per_step = (lines * T).div_ceil(self.count);
                let fetched = first * lines * self.steps / self.count;
                (per_step, start.wrapping_add(fetched * 64))
            }
            None => (0, std::ptr::null()),
        };
        let record = |index: usize| self.records[index].wrapping_add(self.first);
        let records = std::array::from_fn(|index| record(first + index));
        let ahead = std::array::from_fn(|index| record(first + T + index));
        let results = self.results.wrapping_add(first * ROWS);
        for group in (0..ROWS / I::LANES).step_by(G) {
            let fetch = (fetched, if group == 0 { lines } else { 0 });
            // SAFETY: promised by the caller.
            unsafe {
                if C::POWERS && self.carried {
                    self.tile::<I, true, G, T>(isa, group, records, ahead, fetch, results);
                } else {
                    self.tile::<I, false, G, T>(isa, group, records, ahead, fetch, results);
                }
            };
        }
        T
    }

    /// `G` groups of rows times `T` tokens. One function, because taken apart it kept some totals in memory, which cost prompts 2 %.
    /// # Safety
    /// The chunk holds the groups' steps, the records as many, `results` a panel of floats for each token.
    #[inline(always)]
    unsafe fn tile<I: Isa, const CARRIED: bool, const G: usize, const T: usize>(
        &self,
        isa: I,
        group: usize,
        records: [*const Record; T],
        ahead: [*const Record; T],
        (mut fetch, lines): (*const u8, usize),
        results: *mut f32,
    ) {
        let chunk = self.chunk;
        let mut totals = [[isa.splat(0.0); T]; G];
        // SAFETY: promised by the caller.
        unsafe {
            if C::POWERS {
                for t in 0..T {
                    let away = isa.splat(away(records[t], self.first, self.all_steps));
                    for g in 0..G {
                        totals[g][t] = away;
                    }
                }
            } else if self.first > 0 {
                for g in 0..G {
                    for t in 0..T {
                        totals[g][t] = isa.load(results.add(t * ROWS + (group + g) * I::LANES));
                    }
                }
            }
            let bytes = (&raw const (*chunk).bytes).cast::<u8>();
            let scales = (&raw const (*chunk).scales).cast::<f32>();
            let minima = (&raw const (*chunk).minima).cast::<f32>();
            for step in 0..self.steps {
                let mut sums = [[isa.splat_int(0); T]; G];
                for ahead in ahead {
                    prefetch_near(ahead.wrapping_add(step).cast());
                }
                for _ in 0..lines {
                    prefetch(fetch);
                    fetch = fetch.wrapping_add(64);
                }
                // The whole step, or one half after the other where each has a scale.
                for part in 0..halves::<C>() {
                    for t in 0..T {
                        let record = records[t].add(step);
                        let other = CARRIED || in_pairs::<I, C>();
                        let start = isa.splat_int(start::<I, C>(record, part, other));
                        for g in 0..G {
                            sums[g][t] = start;
                        }
                    }
                    for half in part..part + 2 / halves::<C>() {
                        let mut weights = [bytes; G];
                        for g in 0..G {
                            let vector = ((group + g) * CHUNK + step) * 8 + half * 4;
                            weights[g] = bytes.add(vector * 4 * I::LANES);
                        }
                        let mut inputs = [std::ptr::null(); T];
                        for t in 0..T {
                            let values = (&raw const (*records[t].add(step)).values).cast::<i8>();
                            inputs[t] = values.add(half * 16);
                        }
                        if in_pairs::<I, C>() {
                            isa.pairs16(&mut sums, weights, inputs);
                        } else {
                            isa.dot16(&mut sums, weights, inputs, C::LARGEST);
                        }
                    }
                    let index = step * halves::<C>() + part;
                    for g in 0..G {
                        let at = ((group + g) * CHUNK * 2 + index) * I::LANES;
                        if in_pairs::<I, C>() {
                            let factors = if CARRIED {
                                isa.load_ints(scales.add(at).cast())
                            } else {
                                isa.splat_int(0x10001)
                            };
                            for t in 0..T {
                                let sum = isa.add_pairs(sums[g][t], factors);
                                sums[g][t] = isa.add_ints(sum, isa.splat_int(MAGIC_BITS));
                            }
                        }
                        if CARRIED {
                            for t in 0..T {
                                let input_scale = isa.splat((*records[t].add(step)).scale);
                                let value = isa.as_floats(sums[g][t]);
                                totals[g][t] = isa.fma(value, input_scale, totals[g][t]);
                            }
                            continue;
                        }
                        let scale = isa.load(scales.add(at));
                        let away = if C::POWERS {
                            powers::back(isa, scale)
                        } else {
                            isa.mul(scale, isa.splat(-MAGIC))
                        };
                        for t in 0..T {
                            let value = isa.fma(isa.as_floats(sums[g][t]), scale, away);
                            let input_scale = isa.splat((*records[t].add(step)).scale);
                            totals[g][t] = isa.fma(value, input_scale, totals[g][t]);
                        }
                        if C::MINIMA {
                            let minimum = isa.load(minima.add(at));
                            for t in 0..T {
                                let record = records[t].add(step);
                                let weighted = if C::SPLIT {
                                    (*record).weighted_halves[part]
                                } else {
                                    (*record).weighted
                                };
                                totals[g][t] = isa.fma(minimum, isa.splat(weighted), totals[g][t]);
                            }
                        }
                    }
                }
            }
            for g in 0..G {
                let at = (group + g) * I::LANES;
                for t in 0..T {
                    let result = results.add(t * ROWS + at);
                    if C::POWERS {
                        let base = isa.load((&raw const (*chunk).bases).cast::<f32>().add(at));
                        let before = if self.first > 0 {
                            isa.load(result)
                        } else {
                            isa.splat(0.0)
                        };
                        totals[g][t] = isa.fma(totals[g][t], base, before);
                    }
                    isa.store(result, totals[g][t]);
                }
            }
        }
    }
}
