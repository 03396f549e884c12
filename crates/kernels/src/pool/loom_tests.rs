//! The pool in every order in which its threads may run and see each other's writes: no task is lost or run twice, no
//! thread reads a closure whose job is over, and no wake-up is missed (the checker reports threads that all sleep).

use loom::model::Builder;

use super::*;

/// Tries all orders with at most so many switches away from a thread that could go on: more find nothing new, and take
/// hours.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// What the tasks of a job write, each its own; the checker sees accesses that nothing orders.
struct Results(Vec<UnsafeCell<usize>>);

// SAFETY: the checker fails a test in which accesses to a cell overlap.
unsafe impl Sync for Results {}

/// Runs a job on `pool`, whose closure and results are gone afterwards.
fn check_a_job(pool: &Pool, tasks: usize) {
    let results = Results((0..tasks).map(|_| UnsafeCell::new(0)).collect());
    let results_of = &results;
    pool.run(tasks, move |_, task| {
        // SAFETY: see `Results`.
        results_of.0[task].with_mut(|count| unsafe { *count += task + 1 });
    });
    for (task, result) in results.0.iter().enumerate() {
        // SAFETY: see `Results`.
        assert_eq!(result.with(|count| unsafe { *count }), task + 1);
    }
}

#[test]
fn loom_jobs_of_two_threads_follow_one_another() {
    check(2, || {
        let pool = Pool::new(2);
        check_a_job(&pool, 2);
        check_a_job(&pool, 2);
    });
}

#[test]
fn loom_three_threads_share_the_tasks_of_a_job() {
    check(2, || {
        let pool = Pool::new(3);
        check_a_job(&pool, 2);
    });
}

#[test]
fn loom_callers_on_two_threads_take_turns() {
    check(2, || {
        let pool = Arc::new(Pool::new(2));
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || check_a_job(&pool, 2))
        };
        check_a_job(&pool, 2);
        other.join().expect("the other caller's job is done");
    });
}

#[test]
fn loom_a_panic_reaches_the_caller_and_the_pool_lives_on() {
    check(2, || {
        let pool = Pool::new(2);
        let job = || {
            pool.run(2, |_, task| {
                if task == 0 {
                    resume_unwind(Box::new("task 0"))
                }
            })
        };
        let payload = catch_unwind(AssertUnwindSafe(job)).expect_err("the job panics");
        assert_eq!(payload.downcast_ref(), Some(&"task 0"));
        check_a_job(&pool, 2);
    });
}

#[test]
fn loom_a_pool_without_a_job_ends() {
    check(2, || drop(Pool::new(3)));
}
