//! rayon's threads, which read vocabularies and convert models.

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// Starts rayon's global pool: the caller and as many more as make `threads`, or as the system grants. To be called before
/// anything else uses rayon, which is panicked by a system that refuses a thread and cannot be started twice.
pub fn start_rayon(threads: usize) {
    let (to_threads, jobs) = mpsc::channel::<ThreadBuilder>();
    let jobs = Arc::new(Mutex::new(jobs));
    // They are there before rayon counts on them.
    let started = (1..threads).map_while(|index| {
        let jobs = Arc::clone(&jobs);
        let name = format!("rayon {index}");
        let spawned = thread::Builder::new().name(name).spawn(move || {
            // Nothing that can panic runs under this lock. A job that never comes leaves nothing to do.
            let job = jobs.lock().unwrap_or_else(|lock| lock.into_inner()).recv();
            if let Ok(job) = job {
                job.run();
            }
        });
        spawned.ok()
    });
    let started = started.count();
    // An error says that there is a pool already, which does as well.
    let _ = ThreadPoolBuilder::new()
        .num_threads(1 + started)
        .use_current_thread()
        .spawn_handler(|job| (to_threads.send(job)).map_err(|_| io::ErrorKind::BrokenPipe.into()))
        .build_global();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_its_threads_and_works() {
        start_rayon(3);
        // A second call changes nothing.
        start_rayon(2);
        assert_eq!(rayon::join(|| 1, || 2), (1, 2));
    }
}
