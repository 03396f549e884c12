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

mod ledger;
mod pass_shares;
mod prefix_cache;
mod queue;
mod room;

use std::collections::BTreeMap;
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use lookahead_model::{Cache, CacheMemory, LanguageModel, TokenId};

use self::ledger::Ledger;
use self::pass_shares::{Candidate, Wish};
use self::prefix_cache::{PrefixCache, common_prefix};
use self::queue::TenantQueues;
use crate::{
    Constraint, Drafter, Engine, EngineError, FinishReason, GeneratedToken, Generation, GenerationRequest,
    GenerationStats, PassReport, Sequence,
};

/// Rows that a decode step takes memory for: a root and as many drafts as an adaptive draft has.
const STEP_ROWS: usize = 17;

/// A request waits for another's prompt if that spares it so many tokens of its own: what a few passes compute.
const WORTH_WAITING: usize = 32;

/// Requests of a tenant that are looked at for one that need not wait for another's prompt.
const LOOKED_AT: usize = 8;

/// Tokens that a tenant may be ahead of another that has a place less, before it gives one up. Giving up a place costs nothing
/// while memory lasts, so it may happen often.
const AHEAD_TOKENS: u64 = 64;

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

/// A request for a [`Scheduler`].
pub struct Submission {
    /// What to generate.
    pub request: GenerationRequest,
    /// Drafts for it alone.
    pub drafter: Box<dyn Drafter>,
    /// What the answer may say.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Whose it is: tenants get equal shares.
    pub tenant: String,
    /// Prefixes are shared with requests of the same scope only.
    pub scope: String,
}

/// Names a request of one scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

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
    next_id: u64,
    passes: u64,
}

/// What is known of a request besides its sequence, in the batch and in the queue.
struct Place {
    id: RequestId,
    tenant: Arc<str>,
    scope: String,
    /// Whether it has been in the batch.
    was_admitted: bool,
    /// The pass before which memory was first refused to it, or taken from it.
    lacks_since: Option<u64>,
    /// The pass that it last took part in.
    last_pass: u64,
}

/// A request in the queue.
struct Waiting<C> {
    place: Place,
    state: Begun<C>,
}

/// How far a request in the queue has come.
enum Begun<C> {
    Not(Box<Submission>),
    /// It has lost its place; its cache too, unless there was memory enough.
    Yes {
        sequence: Box<Sequence<C>>,
        has_cache: bool,
    },
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

    /// Starts requests of the queues as long as there are places and memory, or another tenant has more than its part.
    fn admit(&mut self, report: &mut StepReport) {
        let mut passed_over: Vec<Arc<str>> = Vec::new();
        while let Some(tenant) = self.next_tenant(&passed_over) {
            let richer = if self.has_free_place() { None } else { self.ahead_of(&tenant) };
            let may_start = richer.is_some() || self.has_free_place();
            let next = may_start.then(|| self.first_ready(&tenant)).flatten();
            let Some(waiting) = next.and_then(|index| self.queues.remove(&tenant, index)) else {
                passed_over.push(tenant);
                continue;
            };
            if let Some(richer) = richer {
                self.pause(&richer, report);
            }
            let Some((mut place, mut sequence)) = self.begin(waiting, report) else { continue };
            match self.take_room(&place, &mut sequence, report) {
                Ok(true) => {
                    if !place.was_admitted {
                        place.was_admitted = true;
                        report.admitted.push(place.id);
                    }
                    self.places.push(place);
                    self.sequences.push(sequence);
                }
                Ok(false) => {
                    drop(self.engine.take_cache(&mut sequence));
                    place.lacks_since.get_or_insert(self.passes);
                    let comes_first = self.comes_first(&place);
                    self.put_back(place, sequence, false);
                    if comes_first {
                        return; // others wait until it fits
                    }
                    passed_over.push(tenant);
                }
                Err(error) => report.finished.push((place.id, Err(error))),
            }
        }
    }

    /// The first request of `tenant` that need not wait for a prompt that is being computed.
    fn first_ready(&self, tenant: &str) -> Option<usize> {
        self.queues.of(tenant).take(LOOKED_AT).position(|waiting| !self.is_worth_waiting(waiting))
    }

    fn has_free_place(&self) -> bool {
        self.sequences.len() < self.options.max_sequences.max(1)
    }

    /// The tenant that is to get the next place, of those that wait and were not passed over: one whose first request has
    /// lacked memory for long, else one that has the fewest places, and of those the one that has been served the least.
    fn next_tenant(&self, passed_over: &[Arc<str>]) -> Option<Arc<str>> {
        let comes_first =
            |tenant: &str| self.queues.of(tenant).next().is_some_and(|first| self.comes_first(&first.place));
        let waiting = self.queues.tenants().filter(|tenant| !passed_over.contains(tenant));
        let rank =
            |tenant: &&Arc<str>| (!comes_first(tenant), self.places_of(tenant), self.ledger.served(tenant));
        waiting.min_by_key(rank).cloned()
    }

    /// A tenant that is to give up a place for `tenant`: it has more than one more, or one more and has been served more.
    fn ahead_of(&self, tenant: &str) -> Option<Arc<str>> {
        let rank = |tenant: &str| (self.places_of(tenant), self.ledger.served(tenant));
        let (mine, served) = rank(tenant);
        let richest = self.places.iter().map(|place| &place.tenant).max_by_key(|tenant| rank(tenant))?;
        let (theirs, their_served) = rank(richest);
        let is_ahead = theirs > mine + 1 || (theirs == mine + 1 && their_served >= served + AHEAD_TOKENS);
        is_ahead.then(|| Arc::clone(richest))
    }

    /// Puts the sequence of `tenant` that has its place for the shortest time back into the queue, with its cache.
    fn pause(&mut self, tenant: &str, report: &mut StepReport) {
        if let Some(index) = self.places.iter().rposition(|place| *place.tenant == *tenant) {
            report.paused += 1;
            let (place, sequence) = (self.places.remove(index), self.sequences.remove(index));
            self.put_back(place, sequence, true);
        }
    }

    /// Puts a request in front of the queue of its tenant.
    fn put_back(&mut self, place: Place, sequence: Sequence<M::Cache>, has_cache: bool) {
        let (tenant, sequence) = (Arc::clone(&place.tenant), Box::new(sequence));
        self.queues.push_front(&tenant, Waiting { place, state: Begun::Yes { sequence, has_cache } });
    }

    /// The sequence of a request; `None` if it cannot be answered, which is reported.
    fn begin(
        &mut self,
        waiting: Waiting<M::Cache>,
        report: &mut StepReport,
    ) -> Option<(Place, Sequence<M::Cache>)> {
        let Waiting { place, state } = waiting;
        let submission = match state {
            Begun::Yes { sequence, .. } => return Some((place, *sequence)),
            Begun::Not(submission) => *submission,
        };
        let Submission { request, drafter, constraint, .. } = submission;
        let running = self.sequences.iter().zip(&self.places);
        let prefix = longest_prefix(&mut self.prefixes, running, &place.scope, &request.prompt);
        match self.engine.start_behind(request, drafter, prefix) {
            Ok(sequence) => Some((place, sequence.constrained(constraint))),
            Err(error) => {
                report.finished.push((place.id, Err(error)));
                None
            }
        }
    }

    /// Whether a request had better wait, as a prompt that is being computed begins as its own does: several answers to
    /// one prompt, for one.
    fn is_worth_waiting(&self, waiting: &Waiting<M::Cache>) -> bool {
        let Begun::Not(submission) = &waiting.state else { return false };
        if !self.options.prefix_cache {
            return false;
        }
        let (scope, prompt) = (&submission.scope, &submission.request.prompt);
        let of_scope = || self.sequences.iter().zip(&self.places).filter(|(_, place)| place.scope == *scope);
        let prefilling = of_scope().filter(|(sequence, _)| sequence.prefill_left() > 0);
        let soon = prefilling.map(|(sequence, _)| common_prefix(sequence.tokens(), prompt)).max();
        let Some(soon) = soon.filter(|&soon| soon >= WORTH_WAITING) else { return false };
        let running = of_scope().map(|(sequence, _)| common_prefix(held(sequence), prompt)).max();
        let now = running.unwrap_or(0).max(self.prefixes.longest_len(scope, prompt));
        soon >= now + WORTH_WAITING
    }

    /// The rows that each sequence may run in the next pass. A tenant that is alone shares with nobody: its prompts are
    /// computed one after the other, and its drafts are as large as pays.
    fn share_pass(&mut self) -> Vec<usize> {
        self.passes += 1;
        let first = self.places.first().map(|place| &place.tenant);
        if self.places.iter().all(|place| Some(&place.tenant) == first) {
            return self.engine.first_come_first_served(&self.sequences);
        }
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
            candidates.push(Candidate { tenant, wish, last_pass: place.last_pass });
        }
        let cost = self.sequences.iter().find_map(Sequence::cost);
        let rows = pass_shares::share(&candidates, self.engine.prefill_chunk(), cost);
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

    fn places_of(&self, tenant: &str) -> usize {
        self.places.iter().filter(|place| *place.tenant == *tenant).count()
    }
}

impl<C: Cache> Begun<C> {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Not(submission) => submission.request.is_cancelled(),
            Self::Yes { sequence, .. } => sequence.is_cancelled(),
        }
    }

    fn has_cache(&self) -> bool {
        matches!(self, Self::Yes { has_cache: true, .. })
    }

    /// Takes the cache away, if there is one.
    fn take_cache<M: LanguageModel<Cache = C>>(&mut self, engine: &Engine<M>) {
        if let Self::Yes { sequence, has_cache } = self
            && mem::take(has_cache)
        {
            drop(engine.take_cache(sequence));
        }
    }
}

fn has_place(places: &[Place], tenant: &str) -> bool {
    places.iter().any(|place| *place.tenant == *tenant)
}

/// The tokens of a sequence that are in its cache.
fn held<C: Cache>(sequence: &Sequence<C>) -> &[TokenId] {
    &sequence.tokens()[..sequence.cache.len()]
}

/// The cache that can be forked behind the most of the beginning of `prompt`, of those kept and of those `running`, in
/// `scope`; and how many tokens that is. The prompt's last token is always computed.
fn longest_prefix<'a, C: Cache + 'a>(
    kept: &'a mut PrefixCache<C>,
    running: impl Iterator<Item = (&'a Sequence<C>, &'a Place)>,
    scope: &str,
    prompt: &[TokenId],
) -> Option<(&'a C, usize)> {
    let (_, prompt) = prompt.split_last()?;
    let running = running.filter(|(_, place)| place.scope == scope).map(|(sequence, _)| {
        (&sequence.cache, sequence.cache.forkable(common_prefix(sequence.tokens(), prompt)))
    });
    kept.longest(scope, prompt).into_iter().chain(running).max_by_key(|&(_, len)| len)
}
