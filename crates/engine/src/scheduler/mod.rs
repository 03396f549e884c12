//! Continuous batching: requests join and leave between steps, and each step is one forward pass for all of them.
//!
//! Requests are admitted in the order in which they came, as long as there is a place in the batch and memory for their
//! prompts. What a request says does not depend on any of this: not on who shares its passes, not on prefixes that it takes
//! over from others, and not on being put back ([`Scheduler::step`] preempts the youngest where memory runs out; it computes
//! again what it had, and goes on).

mod prefix_cache;

use std::collections::VecDeque;
use std::mem;
use std::ops::ControlFlow;

use lookahead_model::{Cache, CacheMemory, ForwardError, LanguageModel, TokenId};

use self::prefix_cache::{PrefixCache, common_prefix};
use crate::{
    Constraint, Drafter, Engine, EngineError, FinishReason, GeneratedToken, Generation, GenerationRequest,
    GenerationStats, PassReport, Sequence,
};

/// Rows that a decode step takes memory for: a root and as many drafts as an adaptive draft has.
const STEP_ROWS: usize = 17;

/// A request waits for another's prompt if that spares it so many tokens of its own: what a few passes compute.
const WORTH_WAITING: usize = 32;

/// Bounds of a [`Scheduler`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Sequences that are run in one pass, at most; at least 1.
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
    /// Whose it is: prefixes are shared with requests of the same scope only.
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
    /// Sequences that were put back into the queue, to make room for older ones.
    pub preempted: usize,
}

/// Batches requests around an [`Engine`].
pub struct Scheduler<M: LanguageModel> {
    engine: Engine<M>,
    options: SchedulerOptions,
    queue: VecDeque<Waiting<M::Cache>>,
    /// By age, the oldest first, as `places`.
    sequences: Vec<Sequence<M::Cache>>,
    places: Vec<Place>,
    prefixes: PrefixCache<M::Cache>,
    next_id: u64,
}

/// What is known of a running sequence besides.
struct Place {
    id: RequestId,
    scope: String,
}

enum Waiting<C> {
    New(RequestId, Box<Submission>),
    Preempted(Place, Box<Sequence<C>>),
}

impl<M: LanguageModel> Scheduler<M> {
    /// A scheduler without requests.
    pub fn new(engine: Engine<M>, options: SchedulerOptions) -> Self {
        Self {
            engine,
            options,
            queue: VecDeque::new(),
            sequences: Vec::new(),
            places: Vec::new(),
            prefixes: PrefixCache::default(),
            next_id: 0,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<M> {
        &self.engine
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// If too many wait already.
    pub fn submit(&mut self, submission: Submission) -> Result<RequestId, QueueFull> {
        if self.queue.len() >= self.options.max_queue {
            return Err(QueueFull { waiting: self.queue.len() });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.queue.push_back(Waiting::New(id, Box::new(submission)));
        Ok(id)
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.sequences.is_empty()
    }

    /// Requests that wait, those that were put back included.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Requests that are being answered.
    pub fn running(&self) -> usize {
        self.sequences.len()
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

    /// Admits what there is room for, and advances every running sequence by one step ([`Engine::step`]). Each token is
    /// handed to `on_token` as there.
    pub fn step(
        &mut self,
        mut on_token: impl FnMut(RequestId, GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> StepReport {
        let mut report = StepReport::default();
        self.drop_cancelled(&mut report);
        self.admit(&mut report);
        self.make_room(&mut report);
        let places = &self.places;
        match self.engine.step(&mut self.sequences, |index, token| on_token(places[index].id, token)) {
            Ok(pass) => report.pass = pass,
            // Every request was checked when it was admitted, so none is to blame alone.
            Err(error) => {
                self.sequences.clear();
                let failed = self.places.drain(..).map(|place| (place.id, Err(error.clone())));
                report.finished.extend(failed);
            }
        }
        self.retire(&mut report);
        report
    }

    /// Takes requests that their users have given up on out of the queue.
    fn drop_cancelled(&mut self, report: &mut StepReport) {
        if !self.queue.iter().any(Waiting::is_cancelled) {
            return;
        }
        let (cancelled, waiting) = mem::take(&mut self.queue).into_iter().partition(Waiting::is_cancelled);
        self.queue = waiting;
        for waiting in VecDeque::<_>::into_iter(cancelled) {
            let (id, generation) = match waiting {
                Waiting::New(id, _) => (id, Ok(Generation::cancelled())),
                Waiting::Preempted(place, sequence) => (place.id, sequence.into_generation()),
            };
            report.finished.push((id, generation));
        }
    }

    /// Starts sequences of the queue, the first first, as long as there is room.
    fn admit(&mut self, report: &mut StepReport) {
        while self.sequences.len() < self.options.max_sequences.max(1) {
            if self.is_worth_waiting() {
                return;
            }
            let Some(waiting) = self.queue.pop_front() else { return };
            let (place, mut sequence) = match waiting {
                Waiting::Preempted(place, sequence) => (place, *sequence),
                Waiting::New(id, submission) => match self.start(*submission) {
                    Ok((scope, sequence)) => {
                        report.admitted.push(id);
                        (Place { id, scope }, sequence)
                    }
                    Err(error) => {
                        report.finished.push((id, Err(error)));
                        continue;
                    }
                },
            };
            let rows = sequence.prefill_left() + STEP_ROWS;
            while sequence.cache.reserve(rows).is_err() {
                if self.prefixes.evict() {
                    continue;
                }
                drop(self.engine.take_cache(&mut sequence));
                if self.sequences.is_empty() {
                    report.finished.push((place.id, Err(out_of_memory())));
                } else {
                    self.queue.push_front(Waiting::Preempted(place, Box::new(sequence)));
                }
                return;
            }
            self.places.push(place);
            self.sequences.push(sequence);
        }
    }

    fn start(&mut self, submission: Submission) -> Result<(String, Sequence<M::Cache>), EngineError> {
        let Submission { request, drafter, constraint, scope } = submission;
        let prefix = longest_prefix(
            &mut self.prefixes,
            self.sequences.iter().zip(&self.places),
            &scope,
            &request.prompt,
        );
        let sequence = self.engine.start_behind(request, drafter, prefix)?;
        Ok((scope, sequence.constrained(constraint)))
    }

    /// Whether the next request had better wait, as a prompt that is being computed begins as its own does: several answers
    /// to one prompt, for one.
    fn is_worth_waiting(&mut self) -> bool {
        let Some(Waiting::New(_, submission)) = self.queue.front() else { return false };
        if !self.options.prefix_cache {
            return false;
        }
        let (scope, prompt) = (&submission.scope, &submission.request.prompt);
        let prefilling = self.sequences.iter().zip(&self.places);
        let prefilling = prefilling.filter(|(s, place)| s.prefill_left() > 0 && place.scope == *scope);
        let soon = prefilling.map(|(sequence, _)| common_prefix(sequence.tokens(), prompt)).max();
        let Some(soon) = soon.filter(|&soon| soon >= WORTH_WAITING) else { return false };
        let running = self.sequences.iter().zip(&self.places);
        let now = longest_prefix(&mut self.prefixes, running, scope, prompt).map_or(0, |(_, len)| len);
        soon >= now + WORTH_WAITING
    }

    /// Takes memory for the next step of every sequence. Where there is none left, kept prefixes go first, then drafts, then
    /// the youngest sequence goes back into the queue.
    fn make_room(&mut self, report: &mut StepReport) {
        let mut index = 0;
        while index < self.sequences.len() {
            let cache = &mut self.sequences[index].cache;
            if cache.reserve(STEP_ROWS).is_ok() {
                index += 1;
            } else if self.prefixes.evict() {
            } else if self.sequences[index].cache.reserve(1).is_ok() {
                index += 1;
            } else if let Some(mut youngest) = self.sequences.pop() {
                drop(self.engine.take_cache(&mut youngest));
                let place = self.places.pop().expect("a place for each sequence");
                if self.sequences.is_empty() {
                    report.finished.push((place.id, Err(out_of_memory())));
                } else {
                    report.preempted += 1;
                    self.queue.push_front(Waiting::Preempted(place, Box::new(youngest)));
                }
            }
        }
    }

    /// Takes the sequences that have ended out of the batch, and keeps their caches.
    fn retire(&mut self, report: &mut StepReport) {
        while let Some(ended) = self.sequences.iter().position(Sequence::has_ended) {
            let (mut sequence, place) = (self.sequences.remove(ended), self.places.remove(ended));
            if self.options.prefix_cache {
                let cache = self.engine.take_cache(&mut sequence);
                let held = sequence.tokens()[..cache.len()].to_vec();
                self.prefixes.insert(place.scope, held, cache);
            }
            report.finished.push((place.id, sequence.into_generation()));
        }
    }
}

impl<C: Cache> Waiting<C> {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::New(_, submission) => submission.request.is_cancelled(),
            Self::Preempted(_, sequence) => sequence.is_cancelled(),
        }
    }
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

fn out_of_memory() -> EngineError {
    ForwardError::from(lookahead_model::OutOfCacheMemory).into()
}
