//! How much memory refusing takes: an allocator that counts, for each thread, what the test on it holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::*;
use crate::assert_fault;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    // Below zero where a thread gives back what another took.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: all memory comes from and goes back to the system's allocator; counting touches none of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // While a thread ends there is nothing left to count with.
        let _ = HELD.try_with(|held| {
            held.set(held.get() + layout.size() as isize);
            MOST.with(|most| most.set(most.get().max(held.get())));
        });
        // SAFETY: the caller keeps the promises of this function, which are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = HELD.try_with(|held| held.set(held.get() - layout.size() as isize));
        // SAFETY: as above; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work` and fails if it takes more than 64 MiB beside the `size` bytes of the file.
pub fn within_limit<T>(size: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.with(Cell::get);
    MOST.with(|most| most.set(before));
    let result = work();
    let taken = MOST.with(Cell::get) - before;
    let limit = (64 << 20) + size as isize;
    assert!(taken <= limit, "{taken} bytes to refuse a file of {size}");
    result
}

#[test]
fn the_limit_is_measured() {
    let take = |size: usize| drop(std::hint::black_box(vec![1u8; size]));
    assert!(std::panic::catch_unwind(|| within_limit(9, || take((64 << 20) + 10))).is_err());
    within_limit(9, || take((64 << 20) + 9));
}

// Counts that the file has room for, so that only their contents show the lie.
#[test]
fn counts_as_large_as_the_file_allows() {
    let room = vec![0; 48 << 20];
    assert_fault!(
        Bytes::header(3, 0, 1 << 12).raw(&room).fault(),
        Fault::EmptyKey { index: 0 }
    );
    assert_fault!(
        Bytes::header(3, 1 << 17, 0).raw(&room).fault(),
        Fault::EmptyTensorName { index: 0 }
    );
    // Six million empty strings, and then no second key.
    let strings = key("list", ARRAY).u32(STRING).u64(6 << 20);
    let strings = Bytes::header(3, 0, 2).raw(&strings.0[24..]).raw(&room);
    assert_fault!(
        strings.fault(),
        Fault::Truncated { .. } | Fault::EmptyKey { index: 1 }
    );
}
