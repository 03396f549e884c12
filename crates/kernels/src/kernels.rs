//! What every operator runs on: an instruction set and a pool of threads.

use crate::disjoint::DisjointRows;
use crate::pool::Pool;
use crate::simd::Isa;

/// Multiply-adds below which a job is not worth sharing out: about a microsecond of one core.
const SERIAL_WORK: usize = 16 << 10;

/// Tasks to a thread that rows are shared out in: more than one, as a thread may be held up.
const ROW_TASKS: usize = 2;

/// An instruction set and the threads to run it on. Results do not depend on either.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    pool: Pool,
}

impl Kernels {
    /// The best instruction set of this CPU on `threads` threads, the caller's included.
    pub fn new(threads: usize) -> Self {
        Self::with_isa(Isa::detect(), threads)
    }

    /// A chosen instruction set on `threads` threads, the caller's included.
    pub fn with_isa(isa: Isa, threads: usize) -> Self {
        Self { isa, pool: Pool::new(threads) }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Calls `f(thread, task)` once for each task, each of about `task_work` multiply-adds, in parallel if that pays.
    /// No two calls at the same time have the same `thread`, which is below [`Kernels::threads`].
    pub fn run(&self, tasks: usize, task_work: usize, f: impl Fn(usize, usize) + Sync) {
        if tasks.saturating_mul(task_work) < SERIAL_WORK {
            (0..tasks).for_each(|task| f(0, task));
        } else {
            self.pool.run(tasks, f);
        }
    }

    /// Calls `f(row, slices)` for each of `rows` rows of the slices (values, and how many a row), each of about
    /// `row_work` multiply-adds, in parallel if that pays.
    ///
    /// # Panics
    /// If a slice has not `rows` rows.
    pub fn for_each_row<const N: usize>(
        &self,
        rows: usize,
        row_work: usize,
        slices: [(&mut [f32], usize); N],
        f: impl Fn(usize, [&mut [f32]; N]) + Sync,
    ) {
        let slices = DisjointRows::new(slices, rows);
        self.run_rows(rows, row_work, |row| {
            // SAFETY: each row is handed out once.
            f(row, unsafe { slices.row(row) });
        });
    }

    /// Calls `f` once for each of `rows` rows, each of about `row_work` multiply-adds, in parallel if that pays. A task has
    /// rows that follow one another, as what two threads write side by side shares lines of the cache.
    pub(crate) fn run_rows(&self, rows: usize, row_work: usize, f: impl Fn(usize) + Sync) {
        let task_rows = rows.div_ceil(ROW_TASKS * self.threads()).max(1);
        self.run(rows.div_ceil(task_rows), task_rows.saturating_mul(row_work), |_, task| {
            let first = task * task_rows;
            (first..rows.min(first + task_rows)).for_each(&f);
        });
    }
}
