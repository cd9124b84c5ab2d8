//! Keys and values of 64 neighbouring positions: the unit in which a cache grows, and a tile of attention.
//!
//! For every key-value head a page holds its keys turned around, `[head_dim][64 positions]`, then its values,
//! `[64 positions][head_dim]`. So both products of attention read rows of 64 numbers whose lanes are outputs:
//! scores of 64 positions, then `head_dim` sums. Nothing is transposed or reduced across lanes later.

use std::alloc::{Layout as Allocation, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Positions in a page.
pub const PAGE: usize = 64;
/// Elements that share a scale in a q8_0 cache.
pub(super) const BLOCK: usize = 32;

/// How a cache stores a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// As computed; for `--exact`.
    F32,
    /// Half precision: the default.
    F16,
    /// Eight bits, with a half-precision scale for 32 of them.
    Q8_0,
}

/// Where things are in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Type of the numbers.
    pub kv_type: KvType,
    /// Heads in the page.
    pub kv_heads: usize,
    /// Length of a key and of a value.
    pub head_dim: usize,
}

impl PageLayout {
    /// Bytes of a page.
    pub fn bytes(&self) -> usize {
        self.kv_heads * 2 * self.half_bytes()
    }

    /// Bytes of the keys, or the values, of one head.
    pub(super) fn half_bytes(&self) -> usize {
        let numbers = PAGE * self.head_dim;
        match self.kv_type {
            KvType::F32 => 4 * numbers,
            KvType::F16 => 2 * numbers,
            KvType::Q8_0 => {
                // The kernels read whole blocks. A model with other heads is refused when it is opened.
                assert!(self.head_dim.is_multiple_of(BLOCK));
                numbers + 2 * numbers / BLOCK
            }
        }
    }

    /// Stores the key and the value of one position.
    ///
    /// # Safety
    /// Nobody else may read the page, or write this head and slot of it, at the same time.
    pub unsafe fn store(&self, page: &Page, head: usize, slot: usize, key: &[f32], value: &[f32]) {
        assert!(head < self.kv_heads && slot < PAGE && page.bytes == self.bytes());
        assert!(key.len() == self.head_dim && value.len() == self.head_dim);
        let keys = head * 2 * self.half_bytes();
        let place = Place {
            page,
            head_dim: self.head_dim,
            slot,
            keys,
            values: keys + self.half_bytes(),
        };
        // SAFETY: the sizes were compared above; who else may be there is promised by the caller.
        unsafe {
            match self.kv_type {
                KvType::F32 => place.store_f32(key, value),
                KvType::F16 => place.store_f16(key, value),
                KvType::Q8_0 => place.store_q8_0(key, value),
            }
        }
    }

    /// The keys of one head as they are stored, then its values.
    ///
    /// # Safety
    /// Nobody may write to the page while the slices live.
    pub unsafe fn head<'a>(&self, page: &'a Page, head: usize) -> (&'a [u8], &'a [u8]) {
        assert!(head < self.kv_heads && page.bytes == self.bytes());
        // SAFETY: the page holds this many bytes, all initialised, and is not written to meanwhile.
        let all = unsafe { std::slice::from_raw_parts(page.start.as_ptr(), page.bytes) };
        all[head * 2 * self.half_bytes()..][..2 * self.half_bytes()].split_at(self.half_bytes())
    }
}

/// A slot of a head: where its key and its value go. A key's numbers are a page apart, a value's side by side.
struct Place<'a> {
    page: &'a Page,
    head_dim: usize,
    slot: usize,
    /// Where the head's keys begin in the page, and its values: multiples of 256 bytes, but for scales.
    keys: usize,
    values: usize,
}

impl Place<'_> {
    /// Writes one number.
    ///
    /// # Safety
    /// It lies inside the page, at a multiple of its size.
    unsafe fn write<T>(&self, offset: usize, number: T) {
        debug_assert!(offset + size_of::<T>() <= self.page.bytes);
        // SAFETY: promised by the caller.
        unsafe {
            self.page
                .start
                .as_ptr()
                .add(offset)
                .cast::<T>()
                .write(number)
        }
    }

    /// # Safety
    /// The page is of this type, and key and value are of this length.
    unsafe fn store_f32(&self, key: &[f32], value: &[f32]) {
        for (i, (k, v)) in key.iter().zip(value).enumerate() {
            // SAFETY: `i < head_dim` and `slot < PAGE`.
            unsafe {
                self.write(self.keys + 4 * (i * PAGE + self.slot), *k);
                self.write(self.values + 4 * (self.slot * self.head_dim + i), *v);
            }
        }
    }

    /// # Safety
    /// As for [`Place::store_f32`].
    unsafe fn store_f16(&self, key: &[f32], value: &[f32]) {
        let (mut k, mut v) = ([0u16; BLOCK], [0u16; BLOCK]);
        for start in (0..self.head_dim).step_by(BLOCK) {
            let end = (start + BLOCK).min(self.head_dim);
            half_bits(&key[start..end], &mut k);
            half_bits(&value[start..end], &mut v);
            for i in start..end {
                // SAFETY: as for f32, with two bytes.
                unsafe {
                    self.write(self.keys + 2 * (i * PAGE + self.slot), k[i - start]);
                    self.write(
                        self.values + 2 * (self.slot * self.head_dim + i),
                        v[i - start],
                    );
                }
            }
        }
    }

    /// # Safety
    /// As for [`Place::store_f32`], with a multiple of [`BLOCK`] numbers.
    unsafe fn store_q8_0(&self, key: &[f32], value: &[f32]) {
        let blocks = self.head_dim / BLOCK;
        let key_scales = self.keys + PAGE * self.head_dim;
        let value_scales = self.values + PAGE * self.head_dim;
        for block in 0..blocks {
            let range = block * BLOCK..(block + 1) * BLOCK;
            let (key_scale, k) = eight_bits(&key[range.clone()]);
            let (value_scale, v) = eight_bits(&value[range.clone()]);
            // SAFETY: the scales follow the `PAGE * head_dim` bytes of numbers, two bytes for each block of each slot.
            unsafe {
                self.write(
                    key_scales + 2 * (block * PAGE + self.slot),
                    key_scale.to_bits(),
                );
                self.write(
                    value_scales + 2 * (self.slot * blocks + block),
                    value_scale.to_bits(),
                );
                for (i, (k, v)) in range.zip(k.into_iter().zip(v)) {
                    self.write(self.keys + i * PAGE + self.slot, k);
                    self.write(self.values + self.slot * self.head_dim + i, v);
                }
            }
        }
    }
}

/// Half-precision bits; what would become infinite stays at the largest finite value,
/// because attention multiplies masked values by zero and infinity would make that NaN.
fn half_bits(source: &[f32], out: &mut [u16; BLOCK]) {
    let mut clamped = [0f32; BLOCK];
    for (to, from) in clamped.iter_mut().zip(source) {
        *to = from.clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
    }
    let mut halves = [f16::ZERO; BLOCK];
    halves.convert_from_f32_slice(&clamped);
    for (to, from) in out.iter_mut().zip(halves) {
        *to = from.to_bits();
    }
}

/// A block of a q8_0 cache: its scale and its numbers.
fn eight_bits(source: &[f32]) -> (f16, [i8; BLOCK]) {
    let largest = source
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let scale = f16::from_f32((largest / 127.0).min(f16::MAX.to_f32()));
    let inverse = match scale.to_f32() {
        0.0 => 0.0,
        scale => 1.0 / scale,
    };
    let mut out = [0; BLOCK];
    for (to, from) in out.iter_mut().zip(source) {
        *to = (from * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    (scale, out)
}

/// The memory of one page, aligned to a cache line.
///
/// It is written through a shared reference, because many workers store different heads and positions at once;
/// [`PageLayout::store`] and [`PageLayout::head`] say when that is allowed.
pub struct Page {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a page is plain memory; its users promise not to race on any byte of it.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros, or nothing if memory has run out.
    pub fn new(layout: &PageLayout) -> Option<Self> {
        let bytes = layout.bytes();
        let allocation = Allocation::from_size_align(bytes.max(64), 64).ok()?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(allocation) })?;
        Some(Self { start, bytes })
    }

    /// All of it.
    ///
    /// # Safety
    /// Nobody may write to the page while the slice lives.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation has this many bytes, all initialised, and is not written to meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// All of it, to be filled by the only one who knows it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the exclusive borrow keeps everybody else away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// A copy, or nothing if memory has run out.
    ///
    /// # Safety
    /// Nobody may write to the page meanwhile.
    pub unsafe fn try_clone(&self, layout: &PageLayout) -> Option<Self> {
        let copy = Self::new(layout)?;
        assert!(copy.bytes == self.bytes);
        // SAFETY: two different allocations of the same size.
        unsafe { copy.start.copy_from_nonoverlapping(self.start, self.bytes) };
        Some(copy)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let allocation = Allocation::from_size_align(self.bytes.max(64), 64)
            .expect("the same size was accepted at the allocation");
        // SAFETY: allocated with the same layout in `new`.
        unsafe { dealloc(self.start.as_ptr(), allocation) };
    }
}
