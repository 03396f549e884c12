//! A persistent pool of threads for operators that take microseconds.
//!
//! A decode step runs hundreds of operators; starting and joining threads, or even waking them, would cost more than
//! the work. Workers therefore spin for a while after the last job before they sleep, and a job is nothing but a count
//! of tasks that threads claim from. The caller works too and waits for *tasks*, never for workers: a worker that
//! sleeps, or that the system took off its core between two tasks, delays nothing. A worker that loses its core within a
//! task delays that task, which nobody else can finish; the caller then sleeps after [`CALLER_SPINS`] and leaves its own
//! core to whichever thread needs one.
//!
//! A panic of a task is caught on its thread and continues on the caller's, once all other tasks are done.

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
mod wait_queue;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use self::wait_queue::WaitQueue;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, UnsafeCell, lock, spin, thread};

/// How long a worker spins for the next job before it sleeps: longer than what lies between two operators, or between
/// two forward passes (retrieval and sampling), and short enough not to burn a core when the engine is idle.
const WORKER_SPINS: Duration = Duration::from_millis(1);

/// How long the caller spins for tasks that workers have begun before it sleeps: longer than most tasks take, and short
/// beside the milliseconds for which the system takes a thread off its core.
const CALLER_SPINS: Duration = Duration::from_micros(200);

/// Threads that share out the tasks of an operator.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// One job at a time.
    turn: Mutex<()>,
    workers: Vec<thread::JoinHandle<()>>,
}

/// A job's closure: called with the number of the thread (`0..threads`) and of the task. It does not panic.
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Shared {
    /// How many tasks of the job no thread has claimed. A thread that takes one off has claimed the task whose number
    /// remains, and knows that the job is not over until it has finished it.
    unclaimed: AtomicUsize,
    /// How many tasks of the job are not finished.
    unfinished: AtomicUsize,
    job: UnsafeCell<*const Job<'static>>,
    stop: AtomicBool,
    /// Workers that found no task.
    idle: WaitQueue,
    /// The caller, while workers finish the last tasks.
    caller: WaitQueue,
}

// SAFETY: `job` is written only while no task is unclaimed or unfinished (the caller holds `turn` and has waited for the
// last job's tasks), and read only by threads that have claimed a task; `unclaimed` and `unfinished` order the two.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `job` points to a closure that is `Sync`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller among them: `threads - 1` are started. 0 counts as 1.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            unclaimed: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            job: UnsafeCell::new(&|_, _| {}),
            stop: AtomicBool::new(false),
            idle: WaitQueue::new(),
            caller: WaitQueue::new(),
        });
        let workers = (1..threads)
            .filter_map(|thread| {
                let shared = Arc::clone(&shared);
                // Fewer threads than asked for still give the same bits, only later.
                thread::Builder::new()
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
    /// `thread` is in `0..self.threads()` and no two calls at the same time have the same. `f` itself must not call this.
    ///
    /// # Panics
    /// If `f` panics, with the payload of the first panic, after the other tasks are done.
    pub(crate) fn run(&self, tasks: usize, f: impl Fn(usize, usize) + Sync) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(|task| f(0, task));
            return;
        }
        let turn = lock(&self.turn);
        let panic = Mutex::new(None);
        self.shared.run(tasks, &|thread, task| {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(thread, task))) {
                keep_first(&panic, payload);
            }
        });
        drop(turn);
        if let Some(payload) = panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }
}

type Payload = Box<dyn Any + Send>;

fn keep_first(panic: &Mutex<Option<Payload>>, payload: Payload) {
    let mut first = lock(panic);
    if first.is_none() {
        *first = Some(payload);
    } else {
        // Its destructor could panic too.
        std::mem::forget(payload);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.idle.wake();
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
    /// Runs the tasks of `job`, of which there is no other; it does not panic.
    fn run(&self, tasks: usize, job: &Job<'_>) {
        // SAFETY: only the lifetime changes; no thread uses the closure after this function has seen all tasks finished.
        let job: *const Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: no task is unclaimed or unfinished, so no thread reads `job` (see `Sync`).
        self.job.with_mut(|current| unsafe { *current = job });
        self.unfinished.store(tasks, Ordering::Relaxed);
        self.unclaimed.store(tasks, Ordering::Release);
        self.idle.wake();
        self.run_tasks(0);
        let is_finished = || self.unfinished.load(Ordering::Acquire) == 0;
        if !spin(CALLER_SPINS, is_finished) {
            self.caller.wait(is_finished);
        }
    }

    /// Claims and runs tasks until none is left.
    fn run_tasks(&self, thread: usize) {
        let mut unclaimed = self.unclaimed.load(Ordering::Relaxed);
        while unclaimed != 0 {
            let rest = unclaimed - 1;
            match self.unclaimed.compare_exchange_weak(unclaimed, rest, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => {
                    self.run_task(thread, rest);
                    unclaimed = self.unclaimed.load(Ordering::Relaxed);
                }
                Err(current) => unclaimed = current,
            }
        }
    }

    fn run_task(&self, thread: usize, task: usize) {
        self.job.with(|job| {
            // SAFETY: this thread has claimed a task that is not finished, so `run` has written the job before (the
            // exchange of `unclaimed` acquires it) and keeps the closure alive until `unfinished` is 0.
            let job = unsafe { &**job };
            job(thread, task);
        });
        if self.unfinished.fetch_sub(1, Ordering::Release) == 1 {
            self.caller.wake();
        }
    }

    /// A worker's life.
    fn work(&self, thread: usize) {
        let has_work = || self.unclaimed.load(Ordering::Relaxed) != 0 || self.stop.load(Ordering::Relaxed);
        while !self.stop.load(Ordering::Relaxed) {
            self.run_tasks(thread);
            if !spin(WORKER_SPINS, has_work) {
                self.idle.wait(has_work);
            }
        }
    }
}
