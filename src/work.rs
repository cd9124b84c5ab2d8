//! What the workers of a region share: slices of which each writes its own parts, and a counter that hands out work.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A slice that several workers write to, each its own parts.
pub struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: only the unsafe methods touch the elements, and their callers see to it that no two overlap.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Borrows the whole slice until all workers are done.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrowed: PhantomData,
        }
    }

    /// One element.
    ///
    /// # Safety
    /// Nobody else uses it while the reference lives.
    #[allow(
        clippy::mut_from_ref,
        reason = "the caller promises that it is the only one"
    )]
    pub unsafe fn element(&self, index: usize) -> &mut T {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: inside the slice, and the caller promises that it is not shared.
        unsafe { &mut *self.start.add(index) }
    }

    /// Some neighbouring elements.
    ///
    /// # Safety
    /// Nobody else uses any of them while the reference lives.
    #[allow(
        clippy::mut_from_ref,
        reason = "the caller promises that it is the only one"
    )]
    pub unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {}",
            self.len
        );
        // SAFETY: inside the slice, and the caller promises that it is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Numbers of work items, handed out to whoever asks next.
pub struct Items {
    next: AtomicUsize,
    count: usize,
}

impl Items {
    /// The numbers from 0 to below `count`.
    pub fn new(count: usize) -> Self {
        Self {
            next: AtomicUsize::new(0),
            count,
        }
    }

    /// The next number, unless all are taken.
    pub fn next(&self) -> Option<usize> {
        let item = self.next.fetch_add(1, Ordering::Relaxed);
        (item < self.count).then_some(item)
    }
}
