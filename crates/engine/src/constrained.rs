//! A sequence's constraint at work: masks beside the forward pass, drafts cut by a scout, and how long either may take.
//!
//! Tokens depend on none of these times. A mask is waited for where it is needed; where time is up, verification stops and
//! the rest of a draft counts as not accepted, or a draft is cut.

use std::time::{Duration, Instant};

use lookahead_model::{TokenId, TokenTree};

use crate::drafter::{Draft, DraftLimits};
use crate::masks::{Begun, MaskThreads, Question};
use crate::{Constraint, ConstraintError, Scout};

/// Tokens that a constraint forces that a step drafts, at most: as many as an adaptive draft has.
const MAX_FORCED: usize = 16;

/// A mask or a look ahead that takes longer is not begun between passes while others wait.
pub(crate) const SLOW: Duration = Duration::from_millis(2);

/// A mask that takes less is computed where it is needed: handing it over costs the pass more, as that runs on all cores. The
/// first expensive one of many is so waited for by all; limits of the constraint bound it.
const QUICK: Duration = Duration::from_micros(200);

/// Time of masks between two passes: of a sequence, and of all together, while others wait; and of one that runs alone,
/// which a newcomer waits for at most.
const OF_ONE: Duration = Duration::from_millis(2);
const OF_ALL: Duration = Duration::from_millis(8);
const OF_LONE: Duration = Duration::from_millis(100);

/// Time of a sequence's scout in a step.
const OF_SCOUT: Duration = Duration::from_millis(1);

/// The time between two passes that each sequence has for its masks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskBudget {
    time: Duration,
    /// Whether nobody else runs.
    is_alone: bool,
    /// Whether a mask that was begun is waited for, however long it takes.
    waits: bool,
}

impl MaskBudget {
    /// For each of `constrained` sequences, of which there are `sequences` in all. Those whose masks are not late are
    /// `ready`.
    pub(crate) fn new(sequences: usize, constrained: usize, ready: usize) -> Self {
        let is_alone = sequences <= 1;
        let shared = OF_ONE.min(OF_ALL / constrained.max(1) as u32);
        Self { time: if is_alone { OF_LONE } else { shared }, is_alone, waits: is_alone || ready == 0 }
    }

    /// Its end, if it begins now.
    pub(crate) fn until(self) -> Instant {
        Instant::now() + self.time
    }
}

/// How long something took lately, at worst.
#[derive(Clone, Copy, Debug, Default)]
struct Pace(Duration);

impl Pace {
    fn record(&mut self, took: Duration) {
        self.0 = took.max(self.0 * 15 / 16);
    }

    fn is_slow(self) -> bool {
        self.0 > SLOW
    }
}

/// A constraint, its scout, and their pace.
pub(crate) struct Constrained {
    /// The constraint is in one of them.
    here: Option<Question>,
    begun: Option<(Begun, Instant)>,
    masks: Pace,
    scout: Box<dyn Scout>,
    looks: Pace,
}

impl Constrained {
    pub(crate) fn new(mut constraint: Box<dyn Constraint>) -> Self {
        let scout = constraint.scout();
        let question = Question { constraint, completion: Vec::new(), took: None };
        Self { here: Some(question), begun: None, masks: Pace::default(), scout, looks: Pace::default() }
    }

    /// Has the mask behind `completion` computed beside what comes next, unless masks are quick.
    pub(crate) fn begin(&mut self, completion: &[TokenId], threads: &mut MaskThreads) {
        if self.masks.0 < QUICK {
            return;
        }
        if let Some(mut question) = self.here.take() {
            question.completion.truncate(completion.len());
            question.completion.extend_from_slice(&completion[question.completion.len()..]);
            question.took = None;
            match threads.begin(question) {
                Ok(begun) => self.begun = Some((begun, Instant::now())),
                Err(question) => self.here = Some(question),
            }
        }
    }

    /// Whether the mask that was begun is still being computed, and would make a pass of a length wait.
    pub(crate) fn is_late(&self, pass: Duration) -> bool {
        self.masks.0 > pass && self.begun.as_ref().is_some_and(|(begun, _)| !begun.is_answered())
    }

    /// The mask behind `completion`, which may have been begun. `None` if it is not there when the budget is used up and
    /// others wait: then it is for a later pass.
    pub(crate) fn allowed(
        &mut self,
        completion: &[TokenId],
        budget: MaskBudget,
    ) -> Option<Result<&[u32], ConstraintError>> {
        if let Some((begun, since)) = self.begun.take() {
            // What is quick is computed here where the threads are busy with others.
            let until = (!budget.waits).then(|| budget.until());
            match begun.take(budget.waits || !self.masks.is_slow(), until) {
                Ok(question) => {
                    self.masks.record(question.took.unwrap_or_default());
                    self.here = Some(question);
                }
                Err(begun) => {
                    self.masks.record(since.elapsed());
                    self.begun = Some((begun, since));
                    return None;
                }
            }
        }
        let (question, began) = (self.here.as_mut()?, Instant::now());
        let allowed = question.constraint.allowed(completion);
        self.masks.record(began.elapsed());
        Some(allowed)
    }

    /// The mask behind `completion`, which was not begun, if there is time for it until `until`. A failure is left to the
    /// pass that starts there.
    pub(crate) fn allowed_until(
        &mut self,
        completion: &[TokenId],
        until: Instant,
        budget: MaskBudget,
    ) -> Option<&[u32]> {
        let has_time = (budget.is_alone || !self.masks.is_slow()) && Instant::now() < until;
        if has_time { self.allowed(completion, budget)?.ok() } else { None }
    }

    /// `draft`, with what must follow the completion, without what may not, and cut where the time for looking is up.
    pub(crate) fn cut(
        &mut self,
        draft: Draft,
        limits: DraftLimits,
        completion: &[TokenId],
        budget: MaskBudget,
        is_known: impl Fn(&TokenTree, usize) -> bool,
    ) -> Draft {
        if self.looks.is_slow() || (self.masks.is_slow() && !budget.is_alone) {
            self.looks.record(Duration::ZERO);
            return draft.cut(limits, |_, _| false);
        }
        let began = Instant::now();
        let until = began + OF_SCOUT.min(budget.time);
        let forced = self.scout.forced(completion, until);
        let forced = &forced[..forced.len().min(MAX_FORCED).min(limits.depth)];
        let mut path = completion.to_vec();
        let draft = draft.with_certain(forced).cut(limits, |tree, node| {
            path.truncate(completion.len());
            path.extend(tree.path_to(node)[1..].iter().map(|&node| tree.tokens()[node as usize]));
            let last = path.len() - 1;
            is_known(tree, node) && self.scout.accepted(&path[..last], &path[last..], until) == 1
        });
        self.looks.record(began.elapsed());
        draft
    }
}
