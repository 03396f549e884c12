//! The thread that owns the engine: jobs in, events out.
//!
//! Events go through channels without a bound, which a job's `max_tokens` bounds all the same; so a client that does not
//! read makes nobody wait. A client that is gone is noticed by its closed channel, or by its cancel flag.

mod active;
mod engine_thread;
mod job;
mod load;
mod panics;
mod phase;

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lookahead_engine::Scheduler;
use lookahead_model::LanguageModel;
use tokio::sync::watch;

use self::engine_thread::{EngineThread, Jobs};
pub(crate) use self::job::{AnswerToken, Ending, Event, Failure, Job, JobTicket, Received, Refused, Step};
pub(crate) use self::load::Load;
pub(crate) use self::panics::Condition;
use self::panics::Panics;
pub(crate) use self::phase::Phase;
use crate::metrics::Metrics;

/// The engine's thread, as handlers see it.
pub(crate) struct Worker {
    jobs: Mutex<Option<Sender<Jobs>>>,
    /// Hangs up when the thread has ended.
    alive: Mutex<Receiver<()>>,
    phase: watch::Sender<Phase>,
    load: Arc<Load>,
    panics: Arc<Panics>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start<M>(scheduler: Scheduler<M>, metrics: Arc<Metrics>) -> std::io::Result<Self>
    where
        M: LanguageModel + Send + 'static,
        M::Cache: Send,
    {
        let (jobs, inbox) = channel();
        let (living, alive) = channel::<()>();
        let (phase, phases) = watch::channel(Phase::Open);
        let (load, panics) = (Arc::new(Load::default()), Arc::new(Panics::default()));
        let engine = EngineThread {
            scheduler,
            inbox,
            active: HashMap::new(),
            phase: phases,
            load: Arc::clone(&load),
            panics: Arc::clone(&panics),
            metrics,
        };
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let _living = living; // dropped last, whatever ends the thread
            engine.run();
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), alive: Mutex::new(alive), phase, load, panics })
    }

    /// Hands over the jobs of a request, which were admitted; all or none.
    pub(crate) fn submit(&self, jobs: Vec<Job>) -> Result<(), Refused> {
        if *self.phase.borrow() != Phase::Open {
            return Err(Refused::Stopping);
        }
        if !self.is_alive() {
            return Err(Refused::EngineGone);
        }
        let places = self.load.take_places(jobs.len());
        let sender = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender.as_ref().map(|sender| sender.send(jobs.into_iter().zip(places).collect()));
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(Refused::EngineGone),
            None => Err(Refused::Stopping),
        }
    }

    /// How busy it is.
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Whether the thread runs.
    pub(crate) fn is_alive(&self) -> bool {
        !self.has_ended_within(Duration::ZERO)
    }

    /// How well it has gone in the last minute.
    pub(crate) fn condition(&self) -> Condition {
        self.panics.condition(Instant::now())
    }

    /// Takes no more jobs, and refuses those that have not begun.
    pub(crate) fn close(&self) {
        self.phase.send_if_modified(|phase| {
            let is_open = *phase == Phase::Open;
            if is_open {
                *phase = Phase::Closing;
            }
            is_open
        });
    }

    /// Gives up what has begun. The thread ends after the pass that is going on.
    pub(crate) fn end(&self) {
        self.phase.send_replace(Phase::Ended);
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take()); // wakes it
    }

    /// Becomes ready when answers are given up: nothing comes of them any more, even if the engine takes its time for a pass.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits for the end of the thread, for so long at most; whether it has ended.
    pub(crate) fn has_ended_within(&self, limit: Duration) -> bool {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected)
    }
}
