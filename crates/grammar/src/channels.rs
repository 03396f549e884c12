//! The form of an answer in channels: it holds in the final one, behind what the model thinks in others.

use std::sync::Arc;
use std::time::Instant;

use lookahead_engine::{Constraint, ConstraintError, Scout};
use lookahead_model::TokenId;

use crate::{compiled::Compiled, endings::Endings, follower::Follower, vocabulary::Vocabulary};

/// The channel that answers stand in.
const FINAL: &str = "final";

/// A constraint on the final message of an answer, behind a grammar of the messages before it.
pub(crate) struct FinalChannel {
    marks: Marks,
    endings: Arc<Endings>,
    grammar: Arc<Compiled>,
    /// Follows the messages before; made once it is asked for, as many answers may wait.
    before: Option<Follower>,
    answer: Box<dyn Constraint>,
}

/// Tells where the final message begins.
#[derive(Clone)]
pub(crate) struct Marks {
    vocabulary: Arc<Vocabulary>,
    channel: TokenId,
    message: TokenId,
}

impl Marks {
    /// `None` if channels are not marked by control tokens: a text could hold such marks.
    pub(crate) fn new(vocabulary: &Arc<Vocabulary>) -> Option<Self> {
        let channel = vocabulary.control_token("<|channel|>")?;
        let message = vocabulary.control_token("<|message|>")?;
        Some(Self { vocabulary: Arc::clone(vocabulary), channel, message })
    }

    /// Where the final message of `completion` begins, if it does.
    fn answer_in(&self, completion: &[TokenId]) -> Option<usize> {
        let mut name = None;
        for (at, &id) in completion.iter().enumerate() {
            if id == self.channel {
                name = Some(at + 1);
            } else if id == self.message
                && let Some(begun) = name.take()
                && self.vocabulary.spells(&completion[begun..at], FINAL)
            {
                return Some(at + 1);
            }
        }
        None
    }
}

impl FinalChannel {
    /// Of an answer that follows `answer` behind the messages of `grammar`, which ends where the final one begins.
    pub(crate) fn new(
        marks: Marks,
        endings: &Arc<Endings>,
        grammar: Arc<Compiled>,
        answer: Box<dyn Constraint>,
    ) -> Self {
        Self { marks, endings: Arc::clone(endings), grammar, before: None, answer }
    }

    fn before(&mut self) -> &mut Follower {
        let new = || Follower::new(Arc::clone(&self.endings), Arc::clone(&self.grammar));
        self.before.get_or_insert_with(new)
    }
}

impl Constraint for FinalChannel {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        match self.marks.answer_in(completion) {
            Some(from) => self.answer.allowed(&completion[from..]),
            None => self.before().allowed(completion),
        }
    }

    fn scout(&mut self) -> Box<dyn Scout> {
        let (marks, before) = (self.marks.clone(), self.before().scout());
        Box::new(FinalChannelScout { marks, before, answer: self.answer.scout() })
    }
}

struct FinalChannelScout {
    marks: Marks,
    before: Box<dyn Scout>,
    answer: Box<dyn Scout>,
}

impl Scout for FinalChannelScout {
    fn forced(&mut self, completion: &[TokenId], until: Instant) -> Vec<TokenId> {
        if let Some(from) = self.marks.answer_in(completion) {
            return self.answer.forced(&completion[from..], until);
        }
        let mut forced = self.before.forced(completion, until);
        if let Some(from) = self.marks.answer_in(&[completion, &forced].concat()) {
            forced.truncate(from - completion.len()); // what follows is the answer's
        }
        forced
    }

    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], until: Instant) -> usize {
        if let Some(from) = self.marks.answer_in(completion) {
            return self.answer.accepted(&completion[from..], tokens, until);
        }
        let Some(from) = self.marks.answer_in(&[completion, tokens].concat()) else {
            return self.before.accepted(completion, tokens, until);
        };
        let (before, behind) = tokens.split_at(from - completion.len());
        match self.before.accepted(completion, before, until) {
            accepted if accepted < before.len() => accepted,
            accepted => accepted + self.answer.accepted(&[], behind, until),
        }
    }
}
