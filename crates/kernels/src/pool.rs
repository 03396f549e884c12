//! A persistent pool of threads for operators that take microseconds.
//!
//! A decode step runs hundreds of operators; starting and joining threads, or even waking them, would cost more than
//! the work. Workers therefore spin for a while after the last job before they park, and a job is nothing but one
//! atomic word that tasks are claimed from. The caller works too and waits for *tasks*, never for workers: a worker
//! that is parked, or that the system has taken off its core, delays nothing.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker spins for the next job before it parks: longer than what lies between two operators, or between
/// two forward passes (retrieval and sampling), and short enough not to burn a core when the engine is idle.
const SPIN_TIME: Duration = Duration::from_millis(1);

/// Threads that share out the tasks of an operator.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// One job at a time.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

/// A job's closure: called with the number of the thread (`0..threads`) and of the task.
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Shared {
    /// The job's number (upper half) and how many of its tasks are unclaimed (lower half). A successful exchange of
    /// this word claims a task and proves that the job is still the one that was seen.
    claim: AtomicU64,
    done: AtomicUsize,
    job: UnsafeCell<Option<*const Job<'static>>>,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written only while no task is unclaimed or running (the caller holds `turn` and has waited for
// `done`), and read only by threads that have claimed a task; `claim` and `done` order the two.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `job` points to a closure that is `Sync`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller among them: `threads - 1` are started. 0 counts as 1.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            claim: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads)
            .filter_map(|thread| {
                let shared = Arc::clone(&shared);
                // Fewer threads than asked for still give the same bits, only later.
                std::thread::Builder::new()
                    .name(format!("lookahead-{thread}"))
                    .spawn(move || shared.work(thread))
                    .ok()
            })
            .collect();
        Self { shared, turn: Mutex::new(()), workers }
    }

    /// Threads that work on a job, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(thread, task)` once for each task in `0..tasks`, on all threads, and returns when all are done.
    /// `thread` is in `0..self.threads()` and no two calls at the same time have the same.
    ///
    /// # Panics
    /// If `f` panics, after the other tasks are done.
    pub(crate) fn run(&self, tasks: usize, f: impl Fn(usize, usize) + Sync) {
        assert!(u32::try_from(tasks).is_ok(), "a job has fewer than 2^32 tasks");
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(|task| f(0, task));
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let job: &Job<'_> = &f;
        // SAFETY: only the lifetime changes; no thread uses the closure after this function has seen all tasks done.
        let job: *const Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: no task is unclaimed or running, so no thread reads `job` (see `Sync`).
        unsafe { *shared.job.get() = Some(job) };
        shared.done.store(0, Ordering::Relaxed);
        let number = (shared.claim.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.claim.store(number << 32 | tasks as u64, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(shared.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            shared.wake.notify_all();
        }
        shared.run_tasks(0);
        while shared.done.load(Ordering::Acquire) != tasks {
            std::hint::spin_loop();
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a task of a parallel operator panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            if let Err(panic) = worker.join()
                && !std::thread::panicking()
            {
                resume_unwind(panic);
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Shared {
    /// Claims and runs tasks until none is left.
    fn run_tasks(&self, thread: usize) {
        let mut claim = self.claim.load(Ordering::Acquire);
        while claim as u32 != 0 {
            match self.claim.compare_exchange_weak(claim, claim - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.run_task(thread, (claim as u32 - 1) as usize);
                    claim = self.claim.load(Ordering::Acquire);
                }
                Err(current) => claim = current,
            }
        }
    }

    fn run_task(&self, thread: usize, task: usize) {
        // SAFETY: this thread has claimed a task that is not done yet, so `run` has written the job before (the
        // exchange of `claim` acquires it) and keeps the closure alive until `done` counts the task.
        let job = unsafe { (*self.job.get()).map(|job| &*job) };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(thread, task))).is_err()
        {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.done.fetch_add(1, Ordering::Release);
    }

    /// A worker's life.
    fn work(&self, thread: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            self.run_tasks(thread);
            if !self.spin_for_a_job() {
                self.park();
            }
        }
    }

    fn is_idle(&self, order: Ordering) -> bool {
        self.claim.load(order) as u32 == 0 && !self.stop.load(order)
    }

    /// Spins until there is something to do; `false` if the time is over.
    fn spin_for_a_job(&self) -> bool {
        let start = Instant::now();
        loop {
            // Reading the clock costs as much as many looks at the word.
            for _ in 0..128 {
                if !self.is_idle(Ordering::Relaxed) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN_TIME {
                return false;
            }
        }
    }

    fn park(&self) {
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        // Announce first, look again, then sleep: `run` publishes the job first and looks for sleepers then.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.is_idle(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A slice whose disjoint parts the tasks of a job write.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    _slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts that the callers promise to be disjoint; sending `&mut T` needs `T: Send`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), _slice: std::marker::PhantomData }
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No other part in use overlaps it.
    ///
    /// # Panics
    /// If it does not lie within the slice.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a task's part lies outside the slice");
        // SAFETY: within the slice, which is borrowed mutably for 'a; the caller promises no overlap.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Slices of as many rows each, whose rows the tasks of a job write.
pub(crate) struct DisjointRows<'a, const N: usize>([(Disjoint<'a, f32>, usize); N]);

impl<'a, const N: usize> DisjointRows<'a, N> {
    /// `values` and their number in a row, for each slice.
    ///
    /// # Panics
    /// If a slice has not `rows` rows.
    pub(crate) fn new(slices: [(&'a mut [f32], usize); N], rows: usize) -> Self {
        Self(slices.map(|(values, width)| {
            assert_eq!(values.len(), rows * width, "{rows} rows of {width} values");
            (Disjoint::new(values), width)
        }))
    }

    /// Row `row` of each slice.
    ///
    /// # Safety
    /// No other use of this row is going on.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn row(&self, row: usize) -> [&mut [f32]; N] {
        // SAFETY: the caller's promise; rows do not overlap.
        self.0.each_ref().map(|(values, width)| unsafe { values.part(row * width, *width) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |thread, task| {
                    assert!(thread < threads);
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} x {tasks}");
            }
        }
    }

    #[test]
    fn parked_workers_wake_for_the_next_job() {
        let pool = Pool::new(3);
        for _ in 0..5 {
            std::thread::sleep(SPIN_TIME * 3);
            let sum = AtomicUsize::new(0);
            pool.run(64, |_, task| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 63 * 64 / 2);
        }
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        pool.run(16, |_, task| {
                            sum.fetch_add(task, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), 15 * 16 / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(8, |_, task| assert_ne!(task, 3))));
        assert!(result.is_err());
        pool.run(8, |_, _| {});
    }
}
