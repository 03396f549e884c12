//! The engine's thread: takes jobs, steps the scheduler, sends events.
//!
//! A panic in a step costs the answers that were being made, no more: they end with an error, the scheduler starts again
//! without them, and whoever waits is served ([`EngineThread::recover`]).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use lookahead_engine::{FinishReason, RequestId, Scheduler};
use lookahead_model::LanguageModel;
use tokio::sync::watch;

use super::active::Active;
use super::job::{Failure, Job};
use super::load::{Load, QueuePlace};
use super::panics::Panics;
use super::phase::Phase;
use crate::metrics::Metrics;

/// Jobs of a request with their places in the queue.
pub(super) type Jobs = Vec<(Job, QueuePlace)>;

/// What the engine's thread owns.
pub(super) struct EngineThread<M: LanguageModel> {
    pub(super) scheduler: Scheduler<M>,
    pub(super) inbox: Receiver<Jobs>,
    pub(super) active: HashMap<RequestId, Active>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) load: Arc<Load>,
    pub(super) panics: Arc<Panics>,
    pub(super) metrics: Arc<Metrics>,
}

impl<M: LanguageModel> EngineThread<M> {
    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break,
                Err(_) => {
                    if self.recover().is_break() {
                        tracing::error!(
                            "the engine has panicked where no answer was to blame; it cannot go on"
                        );
                        break;
                    }
                }
            }
        }
        for (_, active) in self.active.drain() {
            active.fail(Failure::Stopping);
        }
    }

    /// Takes what has come, and makes a step; waits for something to do if there is nothing.
    fn turn(&mut self) -> ControlFlow<()> {
        if self.scheduler.is_idle() {
            match self.inbox.recv() {
                Ok(jobs) => self.take(jobs),
                Err(_) => return ControlFlow::Break(()),
            }
        }
        while let Ok(jobs) = self.inbox.try_recv() {
            self.take(jobs);
        }
        let phase = *self.phase.borrow();
        match phase {
            Phase::Open => {}
            Phase::Closing => self.refuse_waiting(),
            Phase::Ended => return ControlFlow::Break(()),
        }
        self.step();
        ControlFlow::Continue(())
    }

    fn take(&mut self, jobs: Jobs) {
        for (job, place) in jobs {
            let (submission, active) = Active::new(job, place);
            match self.scheduler.submit(submission) {
                Ok(id) => drop(self.active.insert(id, active)),
                Err(full) => tracing::error!("the scheduler's queue has a bound: {full}"),
            }
        }
    }

    /// Ends the jobs that have not begun, as the server is stopping.
    fn refuse_waiting(&mut self) {
        for id in self.scheduler.withdraw_waiting() {
            if let Some(active) = self.active.remove(&id) {
                active.fail(Failure::Stopping);
            }
        }
    }

    fn step(&mut self) {
        let (scheduler, active) = (&mut self.scheduler, &mut self.active);
        let (mut produced, began) = (0, Instant::now());
        let report = scheduler.step(|id, token| {
            produced += 1;
            active
                .get_mut(&id)
                .map_or(ControlFlow::Break(FinishReason::Cancelled), |active| active.push(token))
        });
        for id in &report.admitted {
            if let Some(active) = self.active.get_mut(id) {
                active.admit(began, &self.metrics);
            }
        }
        for (&id, active) in &mut self.active {
            if let Some(stats) = self.scheduler.stats(id) {
                active.tell_step(stats, &self.metrics);
            }
        }
        for (id, generation) in report.finished {
            let Some(active) = self.active.remove(&id) else { continue };
            match generation {
                Ok(generation) => active.finish(generation, &self.metrics),
                Err(error) => active.fail(Failure::Engine(error)),
            }
        }
        self.metrics.pass(&report.pass);
        self.metrics.generated_tokens.inc_by(produced);
        self.metrics.preemptions.inc_by(report.preempted as u64);
        self.tell_load();
    }

    /// Goes on after a panic: fails the answers that were being made, and starts again with those that wait. Breaks off if
    /// there was no such answer, as the panic would come again then.
    fn recover(&mut self) -> ControlFlow<()> {
        tracing::error!("the engine has panicked; the answers that were being made are lost");
        self.panics.note(Instant::now());
        self.metrics.engine_panics.inc();
        self.scheduler.abandon_batch();
        let waiting: HashSet<RequestId> = self.scheduler.waiting().collect();
        let lost: Vec<Active> =
            self.active.extract_if(|id, _| !waiting.contains(id)).map(|(_, active)| active).collect();
        self.tell_load();
        if lost.is_empty() {
            return ControlFlow::Break(());
        }
        for active in lost {
            active.fail(Failure::Panicked);
        }
        ControlFlow::Continue(())
    }

    fn tell_load(&self) {
        self.load.set(self.scheduler.running(), self.scheduler.cache_memory().used_tokens());
    }
}

impl<M: LanguageModel> Drop for EngineThread<M> {
    fn drop(&mut self) {
        self.load.set(0, 0);
    }
}
