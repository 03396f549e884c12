//! Memory for KV caches, shared by tenants.
//!
//! Where it runs out, prefixes that are kept go first, then the caches of sequences that have lost their places, then drafts
//! shrink, then a sequence is put back: the youngest of the tenant that holds the most. A request that does not fit is passed
//! over. It may take memory away from a tenant that holds more than twice of what its own would come to; and one that has
//! waited for long ([`PATIENCE`]) from anybody, after which nobody takes it away again.

use std::sync::Arc;

use lookahead_model::{Cache, ForwardError, LanguageModel, OutOfCacheMemory};

use super::requests::{Begun, Place};
use super::{STEP_ROWS, Scheduler, StepReport};
use crate::{EngineError, Sequence};

/// Passes after which a request that memory was refused to, or taken from, comes first and keeps what it gets. Long enough
/// for some answers of others, so that no request holds them up again and again; short enough to be waited for.
const PATIENCE: u64 = 500;

impl<M: LanguageModel> Scheduler<M> {
    /// Takes memory for a request's prompt and first step. Whether there is any; it may have taken some if not.
    ///
    /// # Errors
    /// If there is none although nothing else has any.
    pub(super) fn take_room(
        &mut self,
        place: &Place,
        sequence: &mut Sequence<M::Cache>,
        report: &mut StepReport,
    ) -> Result<bool, EngineError> {
        let prompt = sequence.prefill_left();
        while sequence.cache.reserve(prompt, STEP_ROWS).is_err() {
            if self.free_unused() {
            } else if self.sequences.is_empty() {
                return Err(out_of_memory());
            } else if let Some(victims) = self.victims_for(place, sequence.tokens().len() + STEP_ROWS) {
                for victim in victims {
                    self.preempt(victim, report);
                }
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes memory for the next step of every sequence, away from others if need be.
    pub(super) fn make_room(&mut self, report: &mut StepReport) {
        let mut index = 0;
        while index < self.sequences.len() {
            if self.sequences[index].cache.reserve(0, STEP_ROWS).is_ok() {
                index += 1;
            } else if self.free_unused() {
            } else if self.sequences[index].cache.reserve(0, 1).is_ok() {
                index += 1;
            } else if self.sequences.len() == 1 {
                self.sequences.clear();
                report.finished.extend(self.places.drain(..).map(|place| (place.id, Err(out_of_memory()))));
            } else {
                let victim = self.victim();
                self.preempt(victim, report);
                index -= usize::from(victim < index);
            }
        }
    }

    /// Whether a request that waits has lacked memory for so long that it comes first. That is one of a tenant at a time.
    pub(super) fn comes_first(&self, waiting: &Place) -> bool {
        let is_served = |place: &Place| place.tenant == waiting.tenant && self.is_due(place);
        self.is_due(waiting) && !self.places.iter().any(is_served)
    }

    /// Whether a running sequence keeps its memory, as it has lacked it for long. That is one of a tenant, at most.
    fn is_protected(&self, index: usize) -> bool {
        let place = &self.places[index];
        let is_first = || !self.places[..index].iter().any(|p| p.tenant == place.tenant && self.is_due(p));
        self.is_due(place) && is_first()
    }

    fn is_due(&self, place: &Place) -> bool {
        place.lacks_since.is_some_and(|since| self.passes - since >= PATIENCE)
    }

    /// Gives memory back that no running sequence needs; whether there was any.
    fn free_unused(&mut self) -> bool {
        if self.prefixes.evict() {
            return true;
        }
        let paused = self.queues.iter().filter(|waiting| waiting.state.has_cache());
        let Some(id) = paused.max_by_key(|waiting| self.holds(&waiting.place.tenant)).map(|w| w.place.id)
        else {
            return false;
        };
        for waiting in self.queues.iter_mut().filter(|waiting| waiting.place.id == id) {
            waiting.state.take_cache(&self.engine);
        }
        true
    }

    /// The sequences to be put back, the youngest first, so that a request of `tokens` tokens finds memory; `None` if it is
    /// to wait.
    fn victims_for(&self, place: &Place, tokens: usize) -> Option<Vec<usize>> {
        let own = self.holds(&place.tenant) + tokens;
        let comes_first = self.comes_first(place);
        let mut others: Vec<(usize, usize)> = (0..self.places.len())
            .filter(|&index| self.places[index].tenant != place.tenant && !self.is_protected(index))
            .map(|index| (self.holds(&self.places[index].tenant), index))
            .filter(|&(theirs, _)| comes_first || 2 * own <= theirs)
            .collect();
        others.sort_unstable();
        let mut freed = 0;
        let mut victims = Vec::new();
        while freed < tokens {
            let (_, victim) = others.pop()?;
            freed += self.sequences[victim].tokens().len();
            victims.push(victim);
        }
        victims.sort_unstable_by(|a, b| b.cmp(a));
        Some(victims)
    }

    /// The sequence that is put back where those that run lack memory.
    fn victim(&self) -> usize {
        let unprotected = (0..self.places.len()).filter(|&index| !self.is_protected(index));
        let richest = unprotected.max_by_key(|&index| (self.holds(&self.places[index].tenant), index));
        richest.unwrap_or(self.places.len() - 1)
    }

    /// Puts a running sequence back into the queue of its tenant, without its cache.
    fn preempt(&mut self, index: usize, report: &mut StepReport) {
        report.preempted += 1;
        let (mut place, mut sequence) = (self.places.remove(index), self.sequences.remove(index));
        drop(self.engine.take_cache(&mut sequence));
        place.lacks_since.get_or_insert(self.passes);
        self.put_back(place, sequence, false);
    }

    /// Tokens in the caches of `tenant`, or to come there by the prefill of what has a cache.
    fn holds(&self, tenant: &Arc<str>) -> usize {
        let running = self.sequences.iter().zip(&self.places).filter(|(_, place)| place.tenant == *tenant);
        let running = running.map(|(sequence, _)| sequence.tokens().len());
        let paused = self.queues.of(tenant).map(|waiting| match &waiting.state {
            Begun::Yes { sequence, has_cache: true } => sequence.tokens().len(),
            Begun::Not(_) | Begun::Yes { .. } => 0,
        });
        running.sum::<usize>() + paused.sum::<usize>()
    }
}

fn out_of_memory() -> EngineError {
    ForwardError::from(OutOfCacheMemory).into()
}
