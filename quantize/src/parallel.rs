//! Work on many pieces in order, on several threads: whoever is free takes the next piece.
//!
//! rayon splits ranges in halves, so its threads would read and write a file at far-apart places; here they stay
//! within a few pieces of each other, which is what disks and the page cache like.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;

/// Calls `work` for every piece, with scratch space that each thread keeps. The first error stops all threads.
pub(crate) fn for_each<P: Sync, S: Default, E: Send>(
    threads: usize,
    pieces: &[P],
    work: impl Fn(&P, &mut S) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let run = || {
        let mut scratch = S::default();
        while !stop.load(Ordering::Relaxed) {
            let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = work(piece, &mut scratch) {
                stop.store(true, Ordering::Relaxed);
                if let Ok(mut failure) = failure.lock() {
                    failure.get_or_insert(error);
                }
            }
        }
    };
    // The scope waits for all of them, and passes a panic, which would be a bug, on.
    std::thread::scope(|scope| {
        for _ in 1..threads.min(pieces.len()) {
            // A system that refuses another thread has the others do the work, at least this one.
            if Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    match failure.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_worked_on_once_and_errors_stop() {
        let pieces: Vec<usize> = (0..1000).collect();
        let seen = Mutex::new(vec![0; 1000]);
        for_each(3, &pieces, |&piece, _: &mut ()| {
            seen.lock().unwrap()[piece] += 1;
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(seen.into_inner().unwrap(), vec![1; 1000]);

        let done = AtomicUsize::new(0);
        let outcome = for_each(2, &pieces, |&piece, _: &mut ()| {
            done.fetch_add(1, Ordering::Relaxed);
            if piece == 5 { Err(piece) } else { Ok(()) }
        });
        assert_eq!(outcome, Err(5));
        assert!(done.into_inner() < 1000);
    }
}
