//! What is known about each node of a growing draft.
//!
//! A node knows where the context with the branch that leads to it occurred before: where its parent's occurrences went on as it
//! does, and where those are few, what a fresh look finds.

use std::ops::Range;

use crate::departure::{Departure, is_copy};
use crate::history::{FindLimits, History, Occurrence};
use crate::runners_up::{CONTEXTS, RANKS, RunnersUp};
use crate::trust::{ANSWERED, Evidence, OWN, RESPELLED, RESUMED, RETURNED, SOURCES};
use crate::{Spellings, TokenId};

/// Occurrences of the context that are looked at for each order, the latest first.
const ROOT_LIMITS: FindLimits = FindLimits { most: 24, enough: usize::MAX };

/// As above, behind a drafted token.
const NODE_LIMITS: FindLimits = FindLimits { most: 6, enough: 4 };

/// Occurrences of another spelling of the last token that are looked at for each order: a guess, which one is enough for.
const RESPELLED_LIMITS: FindLimits = FindLimits { most: 4, enough: 1 };

/// A node that inherits so many occurrences does not look for others.
const ENOUGH: usize = 4;

/// Nor does one that inherits so long a match: a copy that is under way.
const LONG: u8 = 16;

/// What is known to a request: its own text and runners-up, and those that it shares.
#[derive(Clone, Copy)]
pub(crate) struct Knowledge<'a> {
    /// The request's own text first.
    pub(crate) histories: &'a [&'a dyn History],
    /// Of those, the ones that each source looks into.
    pub(crate) sources: [(usize, usize); SOURCES],
    /// Those asked first, first.
    pub(crate) runners_up: [&'a RunnersUp; 2],
    pub(crate) progress: Progress<'a>,
}

/// How far a request has come.
#[derive(Clone, Copy)]
pub(crate) struct Progress<'a> {
    /// The token that stands for its prompt.
    pub(crate) question: TokenId,
    /// Tokens of its output.
    pub(crate) output_len: u32,
    /// Where it left a copy of its own text.
    pub(crate) departure: Option<Departure>,
    /// How its tokens may be spelled otherwise.
    pub(crate) spellings: Option<&'a Spellings>,
}

/// The evidence of all nodes of a draft, in their order.
#[derive(Default)]
pub(crate) struct NodeEvidence {
    /// Of all nodes and sources; see `spans`.
    occurrences: Vec<Occurrence>,
    /// For each node, where its occurrences lie, by source.
    spans: Vec<[Range<usize>; SOURCES]>,
    /// For each node, what the model held likely behind its last tokens.
    runners_up: Vec<[Option<[TokenId; RANKS]>; CONTEXTS]>,
}

impl NodeEvidence {
    /// Nodes that are known.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Forgets all nodes and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.occurrences.clear();
        self.spans.clear();
        self.runners_up.clear();
    }

    /// What is known about `node`.
    pub(crate) fn of(&self, node: usize) -> Evidence<'_> {
        let spans = &self.spans[node];
        let occurrences = std::array::from_fn(|source| &self.occurrences[spans[source].clone()]);
        Evidence { occurrences, runners_up: self.runners_up[node] }
    }

    /// Adds the next node, to which `branch` leads: the context and the drafted tokens down to it. It inherits occurrences of
    /// its parent, unless it is the root: those that went on with its token. `branch` comes back as it was.
    pub(crate) fn add(
        &mut self,
        knowledge: Knowledge<'_>,
        branch: &mut [TokenId],
        parent: Option<(u32, TokenId)>,
    ) {
        let limits = if parent.is_none() { ROOT_LIMITS } else { NODE_LIMITS };
        let mut spans = [const { 0..0 }; SOURCES];
        for source in 0..SOURCES {
            let start = self.occurrences.len();
            if let Some((parent, token)) = parent {
                for index in self.spans[parent as usize][source].clone() {
                    let here = self.occurrences[index];
                    if here.token == token {
                        self.occurrences.extend(knowledge.histories[here.history as usize].on(here));
                    }
                }
            }
            // An answer, and a copy that resumed or was returned to, go on; behind a guess there is none to look for.
            let inherited = &self.occurrences[start..];
            let is_known = inherited.len() >= ENOUGH || inherited.iter().any(|here| here.length >= LONG);
            let may_look =
                parent.is_none() || (!matches!(source, ANSWERED | RESUMED | RETURNED) && !is_known);
            if may_look {
                self.occurrences.truncate(start);
                let is_copying = self.occurrences[spans[OWN].clone()].first().is_some_and(is_copy);
                let (first, end) = knowledge.sources[source];
                for number in first..end {
                    let (history, found) = (knowledge.histories[number], &mut self.occurrences);
                    match source {
                        ANSWERED => {
                            let Progress { question, output_len, .. } = knowledge.progress;
                            let begun = &branch[branch.len().saturating_sub(output_len as usize)..];
                            history.find_answers(question, begun, output_len, number as u8, found);
                        }
                        RESUMED => history.find_resumed(branch, limits, number as u8, found),
                        RETURNED | RESPELLED if is_copying => {}
                        RETURNED => found.extend(
                            knowledge
                                .progress
                                .departure
                                .and_then(|left| history.find_returned(branch, left.at, number as u8)),
                        ),
                        RESPELLED => {
                            let other = |last| knowledge.progress.spellings?.other(last);
                            if let [.., last] = *branch
                                && let Some(other) = other(last)
                            {
                                let end = branch.len() - 1;
                                branch[end] = other;
                                history.find(branch, RESPELLED_LIMITS, number as u8, found);
                                branch[end] = last;
                            }
                        }
                        _ => history.find(branch, limits, number as u8, found),
                    }
                }
                self.occurrences[start..].sort_unstable_by_key(|occurrence| occurrence.rank());
            }
            spans[source] = start..self.occurrences.len();
        }
        self.spans.push(spans);
        let [own, shared] = knowledge.runners_up.map(|table| table.of(branch));
        self.runners_up.push(std::array::from_fn(|context| own[context].or(shared[context])));
    }
}
