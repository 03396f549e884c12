//! Requests of a scheduler: as they come, in the queue and in the batch.

use std::mem;
use std::sync::Arc;

use lookahead_model::{Cache, LanguageModel};

use crate::{Constraint, Drafter, Engine, GenerationRequest, Sequence};

/// A request for a [`Scheduler`](super::Scheduler).
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
pub struct RequestId(pub(super) u64);

/// What is known of a request besides its sequence, in the batch and in the queue.
pub(super) struct Place {
    pub(super) id: RequestId,
    pub(super) tenant: Arc<str>,
    pub(super) scope: String,
    /// Whether it has been in the batch.
    pub(super) was_admitted: bool,
    /// The pass before which memory was first refused to it, or taken from it.
    pub(super) lacks_since: Option<u64>,
    /// The pass that it last took part in.
    pub(super) last_pass: u64,
}

/// A request in the queue.
pub(super) struct Waiting<C> {
    pub(super) place: Place,
    pub(super) state: Begun<C>,
}

/// How far a request in the queue has come.
pub(super) enum Begun<C> {
    Not(Box<Submission>),
    /// It has lost its place; its cache too, unless there was memory enough.
    Yes {
        sequence: Box<Sequence<C>>,
        has_cache: bool,
    },
}

impl<C: Cache> Begun<C> {
    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Self::Not(submission) => submission.request.is_cancelled(),
            Self::Yes { sequence, .. } => sequence.is_cancelled(),
        }
    }

    pub(super) fn has_cache(&self) -> bool {
        matches!(self, Self::Yes { has_cache: true, .. })
    }

    /// Takes the cache away, if there is one.
    pub(super) fn take_cache<M: LanguageModel<Cache = C>>(&mut self, engine: &Engine<M>) {
        if let Self::Yes { sequence, has_cache } = self
            && mem::take(has_cache)
        {
            drop(engine.take_cache(sequence));
        }
    }
}
