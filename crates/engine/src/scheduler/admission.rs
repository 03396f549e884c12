//! Who gets a place in the batch: the tenant that has the fewest, and of those the one that has been served the least.

use std::sync::Arc;

use lookahead_model::{Cache, LanguageModel, TokenId};

use super::prefix_cache::{PrefixCache, common_prefix};
use super::requests::{Begun, Place, Submission, Waiting};
use super::{Scheduler, StepReport};
use crate::Sequence;

/// A request waits for another's prompt if that spares it so many tokens of its own: what a few passes compute.
const WORTH_WAITING: usize = 32;

/// Requests of a tenant that are looked at for one that need not wait for another's prompt.
const LOOKED_AT: usize = 8;

/// Tokens that a tenant may be ahead of another that has a place less, before it gives one up. Giving up a place costs nothing
/// while memory lasts, so it may happen often.
const AHEAD_TOKENS: u64 = 64;

impl<M: LanguageModel> Scheduler<M> {
    /// Starts requests of the queues as long as there are places and memory, or another tenant has more than its part.
    pub(super) fn admit(&mut self, report: &mut StepReport) {
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

    fn places_of(&self, tenant: &str) -> usize {
        self.places.iter().filter(|place| *place.tenant == *tenant).count()
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
    pub(super) fn put_back(&mut self, place: Place, sequence: Sequence<M::Cache>, has_cache: bool) {
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
