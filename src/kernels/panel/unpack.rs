//! A chunk of a panel, unpacked to where the first-level cache keeps it for all tokens.

use super::{CHUNK, Panel, ROWS, halves};
use crate::kernels::isa::{Isa, Task, prefetch};
use crate::kernels::powers::{self, Base};
use crate::kernels::weight::{Class, Codes, STEP, Step, Weight};

/// Some steps of all rows, group by group.
#[repr(C, align(64))]
pub struct Chunk {
    pub bytes: [u8; ROWS * STEP * CHUNK],
    /// By group of `LANES` rows, step and half step; raw until converted.
    pub scales: [u32; ROWS * CHUNK * 2],
    pub minima: [u32; ROWS * CHUNK * 2],
    /// Where scales are powers of two, what the steps' scales are factors of.
    pub bases: [f32; ROWS],
}

/// Fills a chunk.
pub struct Unpack<W> {
    pub panel: Panel,
    /// The chunk's first step, and how many it has.
    pub first: usize,
    pub steps: usize,
    /// Lines of the next panel to fetch, that many in a step.
    pub ahead: Option<(*const u8, usize)>,
    pub chunk: *mut Chunk,
    pub weight: std::marker::PhantomData<W>,
}

impl<W: Weight> Task for Unpack<W> {
    /// Whether all factors are whole (see [`powers`]): the bytes carry them then, or sums of pairs are multiplied by them.
    type Out = bool;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        let groups = ROWS / I::LANES;
        let mut exponents = [isa.splat_int(0); ROWS / 8];
        let mut carried = W::Class::POWERS;
        for group in 0..groups {
            // SAFETY: the chunk is the caller's own, with room for CHUNK steps of every group; the rows are readable.
            unsafe {
                let (rows, codes) = (self.panel.group::<I>(group), self.codes::<I>(group));
                W::gather(isa, rows, self.first, self.steps, codes);
                if W::Class::POWERS {
                    let Base { exponent, whole } = self.base(isa, group);
                    carried &= whole;
                    exponents[group] = exponent;
                }
            }
        }
        // The next panel is fetched as one run of lines: rows read side by side look like 64 streams to the hardware,
        // which follows few of them. Each group of rows fetches its part of a step's lines.
        let (mut ahead, lines) = self.ahead.unwrap_or((self.panel.next, 0));
        let lines = lines.div_ceil(groups) * W::TOGETHER;
        for group in 0..groups {
            for step in (0..self.steps).step_by(W::TOGETHER) {
                for _ in 0..lines {
                    prefetch(ahead);
                    ahead = ahead.wrapping_add(64);
                }
                // SAFETY: as above.
                unsafe {
                    if carried && !I::PAIRS {
                        self.shifted(isa, group, step, exponents[group]);
                    } else {
                        self.plain(isa, group, step);
                    }
                }
            }
            // Last, so that the single words that `gather` wrote have left the store buffer.
            // SAFETY: as above.
            unsafe {
                if !carried {
                    self.convert(isa, group, exponents[group]);
                } else if I::PAIRS {
                    self.multipliers(isa, group, exponents[group]);
                }
            }
        }
        carried
    }
}

impl<W: Weight> Unpack<W> {
    /// Where the scales and minima of a group of rows go.
    /// # Safety
    /// There is such a group.
    #[inline(always)]
    unsafe fn codes<I: Isa>(&self, group: usize) -> Codes {
        let at = group * CHUNK * 2 * I::LANES;
        // SAFETY: promised by the caller.
        unsafe {
            Codes {
                scales: (&raw mut (*self.chunk).scales).cast::<u32>().add(at),
                minima: (&raw mut (*self.chunk).minima).cast::<u32>().add(at),
                stride: I::LANES,
            }
        }
    }

    /// Where the bytes of a step of a group go.
    /// # Safety
    /// There is such a step.
    #[inline(always)]
    unsafe fn step<I: Isa>(&self, group: usize, step: usize) -> *mut Step<I> {
        // SAFETY: promised by the caller.
        unsafe {
            let bytes = (&raw mut (*self.chunk).bytes).cast::<Step<I>>();
            bytes.add(group * CHUNK + step)
        }
    }

    /// The base of a group's gathered exponents, which is kept as a scale as well.
    /// # Safety
    /// There is such a group.
    #[inline(always)]
    unsafe fn base<I: Isa>(&self, isa: I, group: usize) -> Base<I> {
        // SAFETY: promised by the caller.
        unsafe {
            let base = powers::base(isa, self.codes::<I>(group).scales, self.steps);
            let bases = (&raw mut (*self.chunk).bases).cast::<f32>();
            let scale = W::scale(isa, base.exponent);
            isa.store(bases.add(group * I::LANES), scale);
            base
        }
    }

    /// Unpacks steps whose bytes carry their factors.
    /// # Safety
    /// There are such steps, and their exponents are gathered.
    #[inline(always)]
    unsafe fn shifted<I: Isa>(&self, isa: I, group: usize, step: usize, base: I::Ints) {
        let rows = self.panel.group::<I>(group);
        // SAFETY: promised by the caller.
        unsafe {
            let exponents = self.codes::<I>(group).scales;
            let exponent = isa.load_ints(exponents.add(step * I::LANES).cast());
            let shifts = isa.sub_ints(exponent, base);
            let to = self.step::<I>(group, step);
            W::unpack_shifted(isa, rows, self.first + step, shifts, to);
        }
    }

    /// Unpacks steps as they are.
    /// # Safety
    /// There are such steps.
    #[inline(always)]
    unsafe fn plain<I: Isa>(&self, isa: I, group: usize, step: usize) {
        let rows = self.panel.group::<I>(group);
        // SAFETY: promised by the caller.
        unsafe { W::unpack(isa, rows, self.first + step, self.step::<I>(group, step)) }
    }

    /// Makes whole factors of a group's codes, each twice as a number of 16 bits.
    /// # Safety
    /// They are gathered.
    #[inline(always)]
    unsafe fn multipliers<I: Isa>(&self, isa: I, group: usize, base: I::Ints) {
        // SAFETY: promised by the caller.
        unsafe {
            let exponents = self.codes::<I>(group).scales;
            for step in 0..self.steps {
                let at = exponents.add(step * I::LANES).cast::<u8>();
                let shifts = isa.sub_ints(isa.load_ints(at), base);
                isa.store_ints(at, isa.shift_left_each(isa.splat_int(0x10001), shifts));
            }
        }
    }

    /// Makes factors, or scales and minima, of a group's codes.
    /// # Safety
    /// They are gathered.
    #[inline(always)]
    unsafe fn convert<I: Isa>(&self, isa: I, group: usize, base: I::Ints) {
        // SAFETY: promised by the caller.
        unsafe {
            let Codes { scales, minima, .. } = self.codes::<I>(group);
            for index in 0..self.steps * halves::<W::Class>() {
                let at = scales.add(index * I::LANES).cast::<u8>();
                let code = isa.load_ints(at);
                let scale = if W::Class::POWERS {
                    powers::factor(isa, code, base)
                } else {
                    W::scale(isa, code)
                };
                isa.store(at.cast(), scale);
                if <W::Class as Class>::MINIMA {
                    let at = minima.add(index * I::LANES).cast::<u8>();
                    isa.store(at.cast(), W::minimum(isa, isa.load_ints(at)));
                }
            }
        }
    }
}
