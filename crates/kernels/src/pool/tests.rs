use std::panic::panic_any;
use std::sync::{Barrier, mpsc};
use std::time::Instant;

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

/// That a job of some tasks is the sum of them.
fn check_a_job(pool: &Pool) {
    let sum = AtomicUsize::new(0);
    pool.run(64, |_, task| {
        sum.fetch_add(task, Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 63 * 64 / 2);
}

#[test]
fn sleeping_workers_wake_for_the_next_job() {
    let pool = Pool::new(3);
    for _ in 0..5 {
        std::thread::sleep(WORKER_SPINS * 3);
        check_a_job(&pool);
    }
}

#[test]
fn callers_on_several_threads_take_turns() {
    let pool = Pool::new(2);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| check_a_job(&pool)));
        }
    });
}

/// Waits for `is_over`; `false` if that never comes.
fn comes(is_over: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !is_over() {
        if start.elapsed() > Duration::from_mins(1) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Runs a job of a task for each of two threads.
fn run_on_both(pool: &Pool, task: impl Fn(usize) + Sync) {
    let both = Barrier::new(2);
    pool.run(2, |thread, _| {
        both.wait();
        task(thread);
    });
}

#[test]
fn the_caller_sleeps_while_a_worker_cannot_finish_its_task() {
    let pool = Pool::new(2);
    for _ in 0..3 {
        // To the caller, a task that waits for it to sleep is one whose thread was taken off its core.
        run_on_both(&pool, |thread| {
            assert!(thread == 0 || comes(|| pool.shared.caller.has_sleepers()), "the caller spins on");
        });
        check_a_job(&pool);
    }
}

/// The payload with which a job on both threads panics if `task` does.
fn panic_of(pool: &Pool, task: impl Fn(usize) + Sync) -> Box<dyn Any + Send> {
    catch_unwind(AssertUnwindSafe(|| run_on_both(pool, task))).expect_err("the job panics")
}

#[test]
fn a_panic_on_any_thread_reaches_the_caller_with_its_payload() {
    let pool = Pool::new(2);
    for panicking in 0..2 {
        let payload = panic_of(&pool, |thread| {
            if thread == panicking {
                panic_any(format!("thread {thread}"));
            }
        });
        assert_eq!(payload.downcast_ref(), Some(&format!("thread {panicking}")));
        check_a_job(&pool);
    }
}

#[test]
fn a_panic_reaches_a_caller_that_sleeps() {
    let pool = Pool::new(2);
    let payload = panic_of(&pool, |thread| {
        if thread == 1 && comes(|| pool.shared.caller.has_sleepers()) {
            panic_any("late");
        }
    });
    assert_eq!(payload.downcast_ref(), Some(&"late"));
    check_a_job(&pool);
}

#[test]
fn the_other_tasks_of_a_job_that_panics_are_done_before_its_caller_goes_on() {
    for threads in 1..=3 {
        let pool = Pool::new(threads);
        let done = AtomicUsize::new(0);
        let job = || {
            pool.run(100, |_, task| {
                assert_ne!(task, 50, "task 50");
                done.fetch_add(1, Ordering::Relaxed);
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(job)).is_err());
        // One thread alone stops where it panics.
        assert_eq!(done.load(Ordering::Relaxed), if threads == 1 { 50 } else { 99 });
    }
}

#[test]
fn a_payload_that_panics_as_it_is_dropped_does_no_harm() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "the bomb");
        }
    }
    let pool = Pool::new(2);
    let payload = panic_of(&pool, |_| panic_any(Bomb));
    std::mem::forget(payload.downcast::<Bomb>().expect("one of the two payloads"));
    check_a_job(&pool);
}

/// Jobs of a caller in the test below.
const STRESS_JOBS: usize = 200;

/// Runs a job of some tasks, of which one may panic and one on a worker take longer than the caller spins; `job` says which.
fn check_a_stress_job(pool: &Pool, job: usize) {
    let tasks = job * 7 % 41;
    let is_shared = tasks > 1 && pool.threads() > 1;
    let panicking = Some(job % 11).filter(|&task| job.is_multiple_of(5) && task < tasks);
    let (is_slow, worker_began) = (is_shared && job % 16 == 3, AtomicBool::new(false));
    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    let busy: Vec<AtomicBool> = (0..pool.threads()).map(|_| AtomicBool::new(false)).collect();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        pool.run(tasks, |thread, task| {
            assert!(!busy[thread].swap(true, Ordering::Relaxed), "two tasks at a time on thread {thread}");
            counts[task].fetch_add(1, Ordering::Relaxed);
            (0..job).for_each(|_| std::hint::spin_loop()); // up to some microseconds
            if is_slow && thread == 0 {
                assert!(comes(|| worker_began.load(Ordering::Relaxed)), "no worker wakes");
            } else if is_slow {
                worker_began.store(true, Ordering::Relaxed);
                assert!(comes(|| pool.shared.caller.has_sleepers()), "the caller spins on");
            }
            busy[thread].store(false, Ordering::Relaxed);
            if panicking == Some(task) {
                resume_unwind(Box::new(job)); // without a message
            }
        });
    }));
    let payload = outcome.err().and_then(|payload| payload.downcast_ref().copied());
    assert_eq!(payload, panicking.map(|_| job), "what job {job} panics with");
    // One thread alone stops where it panics.
    let done = panicking.filter(|_| !is_shared).map_or(tasks, |task| task + 1);
    for (task, count) in counts.iter().enumerate() {
        let expected = usize::from(task < done);
        assert_eq!(count.load(Ordering::Relaxed), expected, "runs of task {task} of job {job}");
    }
}

#[test]
fn many_short_jobs_end_well_with_panics_sleep_and_several_callers_in_between() {
    for threads in 1..=8 {
        for callers in [1, 3] {
            let pool = Arc::new(Pool::new(threads));
            let (done, all_done) = mpsc::channel();
            for caller in 0..callers {
                let (pool, done) = (Arc::clone(&pool), done.clone());
                std::thread::spawn(move || {
                    for job in 0..STRESS_JOBS {
                        check_a_stress_job(&pool, job + caller);
                        // Other callers keep workers awake.
                        if callers == 1 && threads > 1 && job % 32 == 0 {
                            assert!(comes(|| pool.shared.idle.has_sleepers()), "workers spin on");
                        }
                    }
                    drop(pool);
                    done.send(caller).expect("the test waits");
                });
            }
            drop(done);
            // No scope, which would wait for ever for a caller that is never woken.
            for _ in 0..callers {
                let outcome = all_done.recv_timeout(Duration::from_mins(1));
                outcome
                    .unwrap_or_else(|_| panic!("{threads} threads: one of {callers} callers fails or hangs"));
            }
        }
    }
}
