//! Continuous batching: requests join and leave between steps, and each step is one forward pass for all of them.
//!
//! Each tenant has a queue of its own. The next place in the batch goes to the tenant that has the fewest, and of those to
//! the one that has been served the least ([`ledger`]); within a tenant, requests are admitted in the order in which they
//! came. The rows of a pass are shared out among tenants too ([`pass_shares`]), and so is memory ([`room`]). So no tenant
//! waits for another's prompts, answers or number of requests for longer than its own take.
//!
//! What a request says does not depend on any of this: not on who shares its passes, not on prefixes that it takes over from
//! others, and not on being put back ([`Scheduler::step`] takes places and memory away where another tenant lacks them; the
//! sequence computes again what it had, and goes on).

mod admission;
mod ledger;
mod pass_shares;
mod prefix_cache;
mod queue;
mod requests;
mod room;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use lookahead_model::{Cache, CacheMemory, LanguageModel};

use self::ledger::Ledger;
use self::pass_shares::{Candidate, Weight, Wish, usual_curve};
use self::prefix_cache::PrefixCache;
use self::queue::TenantQueues;
use self::requests::{Begun, Place, Waiting};
pub use self::requests::{RequestId, Submission};
use crate::{
    Engine, EngineError, FinishReason, GeneratedToken, Generation, GenerationStats, PassReport, Sequence,
};

/// Rows that a decode step takes memory for: a root and as many drafts as an adaptive draft has.
const STEP_ROWS: usize = 17;

/// Bounds of a [`Scheduler`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Sequences that have a place in the batch, at most; at least 1.
    pub max_sequences: usize,
    /// Requests that wait, at most.
    pub max_queue: usize,
    /// Whether KV caches are kept for prompts that begin alike, as long as nobody else needs the memory. For models whose
    /// caches are bounded in memory only.
    pub prefix_cache: bool,
}

/// As many requests wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests are waiting, as many as may")]
pub struct QueueFull {
    /// Requests that wait.
    pub waiting: usize,
}

/// The end of a request.
pub type Finished = (RequestId, Result<Generation, EngineError>);

/// What a step did.
#[derive(Debug, Default)]
pub struct StepReport {
    /// The forward pass; of no tokens if there was nothing to run.
    pub pass: PassReport,
    /// Requests that have ended, in their order in the batch.
    pub finished: Vec<Finished>,
    /// Requests that were admitted for the first time.
    pub admitted: Vec<RequestId>,
    /// Sequences that were put back into the queue and lost their caches, to make room for others.
    pub preempted: usize,
    /// Sequences that were put back into the queue with their caches, to give a place to another tenant.
    pub paused: usize,
}

/// Batches requests around an [`Engine`].
pub struct Scheduler<M: LanguageModel> {
    engine: Engine<M>,
    options: SchedulerOptions,
    queues: TenantQueues<Waiting<M::Cache>>,
    /// In the order in which they got their places, as `places`.
    sequences: Vec<Sequence<M::Cache>>,
    places: Vec<Place>,
    prefixes: PrefixCache<M::Cache>,
    ledger: Ledger,
    /// What tenants have left of their shares of passes.
    saved_units: BTreeMap<Arc<str>, usize>,
    next_id: u64,
    passes: u64,
}

impl<M: LanguageModel> Scheduler<M> {
    /// A scheduler without requests.
    pub fn new(engine: Engine<M>, options: SchedulerOptions) -> Self {
        Self {
            engine,
            options,
            queues: TenantQueues::default(),
            sequences: Vec::new(),
            places: Vec::new(),
            prefixes: PrefixCache::default(),
            ledger: Ledger::default(),
            saved_units: BTreeMap::new(),
            next_id: 0,
            passes: 0,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<M> {
        &self.engine
    }

    /// Puts a request into the queue of its tenant.
    ///
    /// # Errors
    /// If too many wait already.
    pub fn submit(&mut self, submission: Submission) -> Result<RequestId, QueueFull> {
        let waiting = self.queued();
        if waiting >= self.options.max_queue {
            return Err(QueueFull { waiting });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let tenant = Arc::<str>::from(submission.tenant.as_str());
        if !self.is_active(&tenant) {
            let (queues, places) = (&self.queues, &self.places);
            self.ledger.enter(&tenant, |tenant| queues.has(tenant) || has_place(places, tenant));
        }
        let scope = submission.scope.clone();
        let place = Place {
            id,
            tenant: Arc::clone(&tenant),
            scope,
            was_admitted: false,
            lacks_since: None,
            last_pass: 0,
        };
        self.queues.push_back(&tenant, Waiting { place, state: Begun::Not(Box::new(submission)) });
        Ok(id)
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queues.is_empty() && self.sequences.is_empty()
    }

    /// Requests that wait, those that were put back included.
    pub fn queued(&self) -> usize {
        self.queues.len()
    }

    /// Requests that are being answered.
    pub fn running(&self) -> usize {
        self.sequences.len()
    }

    /// The requests that wait, those that were put back included.
    pub fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.queues.iter().map(|waiting| waiting.place.id)
    }

    /// The numbers so far of a request that is being answered.
    pub fn stats(&self, id: RequestId) -> Option<&GenerationStats> {
        let index = self.places.iter().position(|place| place.id == id)?;
        Some(self.sequences[index].stats())
    }

    /// Memory of the KV caches, prefixes that are kept included.
    pub fn cache_memory(&self) -> CacheMemory {
        self.engine.model().cache_memory()
    }

    /// Admits what there is room for, and advances the running sequences by one step ([`Engine::step`]). Each token is
    /// handed to `on_token` as there.
    pub fn step(
        &mut self,
        mut on_token: impl FnMut(RequestId, GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> StepReport {
        let mut report = StepReport::default();
        self.drop_cancelled(&mut report);
        self.admit(&mut report);
        self.make_room(&mut report);
        let rows = self.share_pass();
        let held: Vec<usize> = self.sequences.iter().map(|sequence| sequence.cache.len()).collect();
        let places = &self.places;
        match self
            .engine
            .step_within(&mut self.sequences, &rows, |index, token| on_token(places[index].id, token))
        {
            Ok(pass) => report.pass = pass,
            // Every request was checked when it was admitted, so none is to blame alone.
            Err(error) => {
                self.sequences.clear();
                let failed = self.places.drain(..).map(|place| (place.id, Err(error.clone())));
                report.finished.extend(failed);
            }
        }
        for ((sequence, place), held) in self.sequences.iter().zip(&self.places).zip(held) {
            self.ledger.charge(&place.tenant, sequence.cache.len().saturating_sub(held));
        }
        self.retire(&mut report);
        report
    }

    /// Gives up all requests that have never been in the batch, and returns them.
    pub fn withdraw_waiting(&mut self) -> Vec<RequestId> {
        let withdrawn = self.queues.extract(|waiting| !waiting.place.was_admitted);
        withdrawn.into_iter().map(|waiting| waiting.place.id).collect()
    }

    /// Gives up the requests of the batch, and all that was kept of others but their tokens: what is to be done after a
    /// [`step`](Self::step) that panicked, which may have left anything of that half done. Requests that wait go on; one
    /// that was being admitted may be among those that are given up.
    pub fn abandon_batch(&mut self) {
        self.sequences.clear();
        self.places.clear();
        self.prefixes.clear();
        for waiting in self.queues.iter_mut() {
            waiting.state.take_cache(&self.engine);
        }
        self.engine.forget_pass();
    }

    /// Takes requests that their users have given up on out of the queue.
    fn drop_cancelled(&mut self, report: &mut StepReport) {
        for Waiting { place, state } in self.queues.extract(|waiting| waiting.state.is_cancelled()) {
            let generation = match state {
                Begun::Not(_) => Ok(Generation::cancelled()),
                Begun::Yes { sequence, .. } => sequence.into_generation(),
            };
            report.finished.push((place.id, generation));
        }
    }

    /// The rows that each sequence may run in the next pass. A tenant that is alone shares with nobody: its prompts are
    /// computed with the short ones first, and its drafts are as large as pays.
    fn share_pass(&mut self) -> Vec<usize> {
        self.passes += 1;
        let first = self.places.first().map(|place| &place.tenant);
        if self.places.iter().all(|place| Some(&place.tenant) == first) {
            return self.engine.unshared_rows(&self.sequences);
        }
        let usual = usual_curve();
        let curve = self.sequences.iter().find_map(Sequence::cost).unwrap_or(&usual);
        let cost = self.engine.pass_cost(curve);
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut candidates = Vec::with_capacity(self.places.len());
        for (sequence, place) in self.sequences.iter().zip(&self.places) {
            let next = numbers.len();
            let tenant = *numbers.entry(&place.tenant).or_insert(next);
            let wish = match sequence.prefill_left() {
                0 if sequence.is_plain() => Wish::Decode(0),
                0 => Wish::Decode(STEP_ROWS - 1),
                left => Wish::Prefill(left),
            };
            let weight = Weight::behind(sequence.cache.len(), &cost);
            candidates.push(Candidate { tenant, wish, weight, last_pass: place.last_pass });
        }
        let mut saved = vec![0; numbers.len()];
        for (tenant, &number) in &numbers {
            saved[number] = self.saved_units.get(*tenant).copied().unwrap_or(0);
        }
        let rows = pass_shares::share(&candidates, self.engine.prefill_chunk(), &cost, &mut saved);
        self.saved_units =
            numbers.into_iter().map(|(tenant, number)| (tenant.into(), saved[number])).collect();
        for (place, &rows) in self.places.iter_mut().zip(&rows) {
            if rows > 0 {
                place.last_pass = self.passes;
            }
        }
        rows
    }

    /// Takes the sequences that have ended out of the batch, and keeps their caches.
    fn retire(&mut self, report: &mut StepReport) {
        while let Some(ended) = self.sequences.iter().position(Sequence::has_ended) {
            let (mut sequence, place) = (self.sequences.remove(ended), self.places.remove(ended));
            if self.options.prefix_cache {
                let cache = self.engine.take_cache(&mut sequence);
                let held = sequence.tokens()[..cache.len()].to_vec();
                self.prefixes.insert(place.tenant, place.scope, held, cache);
            }
            report.finished.push((place.id, sequence.into_generation()));
        }
    }

    /// Whether `tenant` has requests that wait or run.
    fn is_active(&self, tenant: &str) -> bool {
        self.queues.has(tenant) || has_place(&self.places, tenant)
    }
}

fn has_place(places: &[Place], tenant: &str) -> bool {
    places.iter().any(|place| *place.tenant == *tenant)
}
