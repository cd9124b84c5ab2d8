//! The worker pool: threads that wait by spinning for a moment, so that a layer's few barriers cost microseconds, and then sleep.

mod global;

pub use global::start_rayon;

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker looks for the next region before it sleeps. Layers follow each other within microseconds; a sleeper costs
/// about 25 us to wake.
const SPIN: Duration = Duration::from_micros(80);

/// Most threads of a pool: twice the hardware threads of the largest machines with two sockets. Tens of thousands are more than a
/// process has memory maps for, and a thread that finds none for its stack's guard ends the program.
pub const MOST_THREADS: u16 = 1024;

/// A region: a function of the worker's index, its type and lifetime erased.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize),
}

struct Shared {
    /// Counts regions; a worker that sees it change runs `job`.
    region: AtomicUsize,
    /// Workers, besides the caller, that have not finished the region.
    busy: AtomicUsize,
    stop: AtomicBool,
    job: Mutex<Option<Job>>,
    /// One flag for each worker: it sleeps, or is about to.
    asleep: Vec<AtomicBool>,
    /// How long a worker spins.
    spin: Duration,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: a Job is only called between the start and the end of `Pool::run`, which borrows a `Sync` function for that long.
unsafe impl Send for Job {}

/// A fixed set of worker threads that run regions together with the thread that owns them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Thread)>,
    /// Regions do not nest and callers do not mix.
    running: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` workers, the caller of [`Pool::run`] being one of them; zero counts as one, and no more than
    /// [`MOST_THREADS`] are started.
    ///
    /// Workers are pinned when there are as many as the process may use CPUs: then the scheduler could only make it worse.
    pub fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, MOST_THREADS.into());
        let shared = Arc::new(Shared {
            region: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            job: Mutex::new(None),
            asleep: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            // Where threads take turns on a CPU, one that spins keeps another from its work: four on two busy CPUs made 47 tokens
            // a second of the demo model spinning and 350 sleeping, 1,024 of them 0.4 and 1.6.
            spin: match threads > num_cpus::get() {
                true => Duration::ZERO,
                false => SPIN,
            },
            panic: Mutex::new(None),
        });
        let cpus = cpus::allowed();
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let cpu = (cpus.len() == threads).then(|| cpus[index]);
                let builder = thread::Builder::new().name(format!("worker {index}"));
                let handle = builder.spawn(move || {
                    if let Some(cpu) = cpu {
                        cpus::pin(cpu);
                    }
                    work(&shared, index);
                });
                // A system that refuses another thread gets a smaller pool, whose workers still are numbered without a gap.
                handle.ok()
            })
            .map(|handle| {
                let thread = handle.thread().clone();
                (handle, thread)
            })
            .collect();
        Self {
            shared,
            workers,
            running: Mutex::new(()),
        }
    }

    /// The number of threads that fits this process: physical cores it may run on, and no more than its CPU quota.
    pub fn default_threads() -> usize {
        cpus::physical().min(num_cpus::get()).max(1)
    }

    /// The number of workers, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work(index)` once on each worker, the caller being worker 0, and returns when all are done.
    pub fn run<F: Fn(usize) + Sync>(&self, work: F) {
        if self.workers.is_empty() {
            return work(0);
        }
        /// # Safety
        /// `data` is a live `F`.
        unsafe fn call<F: Fn(usize)>(data: *const (), index: usize) {
            // SAFETY: promised by the caller.
            unsafe { (*data.cast::<F>())(index) }
        }
        let _running = self.running.lock().unwrap_or_else(|lock| lock.into_inner());
        let shared = &*self.shared;
        *lock(&shared.job) = Some(Job {
            data: (&raw const work).cast(),
            call: call::<F>,
        });
        shared.busy.store(self.workers.len(), Ordering::Relaxed);
        // Sequentially consistent with the worker that sets its flag and looks at the region again before it sleeps.
        shared.region.fetch_add(1, Ordering::SeqCst);
        for (asleep, (_, thread)) in shared.asleep[1..].iter().zip(&self.workers) {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| work(0)));
        let start = Instant::now();
        let mut turns = 0u32;
        while shared.busy.load(Ordering::Acquire) != 0 {
            turns += 1;
            // Where more threads run than there are CPUs, the one that is missing may need this one.
            if turns.is_multiple_of(64) && start.elapsed() > shared.spin {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        let theirs = lock(&shared.panic).take();
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// This worker's contiguous share of `items`, in multiples of `grain`.
    pub fn share(&self, worker: usize, items: usize, grain: usize) -> Range<usize> {
        let grains = items.div_ceil(grain);
        let at = |worker: usize| (grains * worker / self.threads() * grain).min(items);
        at(worker)..at(worker + 1)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.region.fetch_add(1, Ordering::SeqCst);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker catches the panics of its regions.
            let _ = handle.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = next_region(shared, index, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let job = *lock(&shared.job);
        if let Some(job) = job {
            // SAFETY: `run` keeps the function alive until `busy` is zero.
            let done = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.data, index) }));
            if let Err(panic) = done {
                *lock(&shared.panic) = Some(panic);
            }
        }
        shared.busy.fetch_sub(1, Ordering::Release);
    }
}

/// Waits until the region is another one than `seen`.
fn next_region(shared: &Shared, index: usize, seen: usize) -> usize {
    let start = Instant::now();
    let mut turns = 0u32;
    loop {
        let region = shared.region.load(Ordering::SeqCst);
        if region != seen {
            return region;
        }
        turns += 1;
        if turns.is_multiple_of(64) && start.elapsed() > shared.spin {
            shared.asleep[index].store(true, Ordering::SeqCst);
            while shared.region.load(Ordering::SeqCst) == seen {
                thread::park();
            }
            shared.asleep[index].store(false, Ordering::SeqCst);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Which CPUs this process may use.
mod cpus {
    /// The CPUs of the affinity mask; empty where that is not known.
    #[cfg(target_os = "linux")]
    pub fn allowed() -> Vec<usize> {
        // SAFETY: cpu_set_t is plain bits; the call writes no more than its size.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
                return Vec::new();
            }
            (0..libc::CPU_SETSIZE as usize)
                .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
                .collect()
        }
    }

    /// Binds the calling thread to one CPU; a refusal changes nothing but speed.
    #[cfg(target_os = "linux")]
    pub fn pin(cpu: usize) {
        // SAFETY: cpu_set_t is plain bits, and `cpu` came from one of its size.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
        }
    }

    /// Physical cores among the allowed CPUs: of hardware threads that share one, only the first allowed one counts.
    #[cfg(target_os = "linux")]
    pub fn physical() -> usize {
        let mut cores = std::collections::HashSet::new();
        for cpu in allowed() {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            cores.insert(std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string()));
        }
        if cores.is_empty() {
            num_cpus::get_physical()
        } else {
            cores.len()
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub fn allowed() -> Vec<usize> {
        Vec::new()
    }
    #[cfg(not(target_os = "linux"))]
    pub fn pin(_cpu: usize) {}
    #[cfg(not(target_os = "linux"))]
    pub fn physical() -> usize {
        num_cpus::get_physical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_runs_each_region_once() {
        let pool = Pool::new(4);
        let counts: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        for region in 1..200 {
            pool.run(|index| {
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
            if region % 50 == 0 {
                thread::sleep(4 * SPIN);
            }
            assert!(counts.iter().all(|n| n.load(Ordering::Relaxed) == region));
        }
    }

    #[test]
    fn shares_cover_all_items_without_overlap() {
        for threads in 1..6 {
            let pool = Pool::new(threads);
            for (items, grain) in [(0, 1), (1, 32), (90, 1), (2880, 32), (77, 16)] {
                let mut next = 0;
                for worker in 0..threads {
                    let share = pool.share(worker, items, grain);
                    assert_eq!(share.start, next);
                    assert!(share.end == items || share.end.is_multiple_of(grain));
                    next = share.end;
                }
                assert_eq!(next, items);
            }
        }
    }

    #[test]
    fn no_pool_has_more_threads_than_a_process_may() {
        let pool = Pool::new(usize::MAX);
        assert!(pool.threads() <= MOST_THREADS.into());
        let ran = AtomicUsize::new(0);
        pool.run(|_| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.into_inner(), pool.threads());
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(3);
        for bad in 0..3 {
            let region = || pool.run(|index| assert_ne!(index, bad, "as the test wants"));
            assert!(catch_unwind(AssertUnwindSafe(region)).is_err());
        }
        let ran = AtomicUsize::new(0);
        pool.run(|_| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.into_inner(), 3);
    }
}
