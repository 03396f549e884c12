//! A grammar that follows an answer.

use std::sync::Arc;

use lookahead_engine::{Constraint, ConstraintError, allows};
use lookahead_model::TokenId;

use crate::{compiled::Compiled, endings::Endings, scout::Scout, walker::Walker};

/// A grammar at some place of an answer.
///
/// It goes forward only, and at each place does the same: it computes the mask, then takes the token that was chosen.
/// Whatever is drafted or asked in between, its parser sees the same steps, and so meets a limit at the same token. Drafts
/// are a `Scout`'s matter, which has a parser of its own. A completion that does not continue the last one is followed
/// from the beginning, step by step as before.
///
/// Tokens that end an answer never reach the parser: where the grammar may stop they are allowed, and behind them
/// nothing else is.
pub struct Follower {
    endings: Arc<Endings>,
    grammar: Arc<Compiled>,
    walker: Walker,
    /// What `walker` has taken.
    taken: Vec<TokenId>,
    /// The mask where it is, once it has been computed there.
    mask: Option<Vec<u32>>,
    /// For the first answer that asks for a scout: to be made where time is not short.
    scout: Option<Box<Scout>>,
}

impl Follower {
    pub(crate) fn new(endings: Arc<Endings>, grammar: Arc<Compiled>) -> Self {
        let (walker, scout) = (grammar.walker(), Scout::new(Arc::clone(&endings), grammar.walker()));
        Self { endings, grammar, walker, taken: Vec::new(), mask: None, scout: Some(Box::new(scout)) }
    }

    /// The mask behind `completion`, which no end is in.
    fn follow(&mut self, completion: &[TokenId]) -> Result<&[u32], String> {
        if !completion.starts_with(&self.taken) {
            self.walker = self.grammar.walker();
            self.taken.clear();
            self.mask = None;
        }
        for &token in &completion[self.taken.len()..] {
            if !allows(self.mask_here()?, token) {
                return Err(format!("token {token} leaves it"));
            }
            self.walker.take(token)?;
            self.taken.push(token);
            self.mask = None;
        }
        self.mask_here()
    }

    /// The mask where the walker is.
    fn mask_here(&mut self) -> Result<&[u32], String> {
        if self.mask.is_none() {
            self.mask = Some(match self.walker.mask()? {
                None => self.endings.mask.clone(),
                Some(allowed) => {
                    let mut words: Vec<u32> = allowed.into();
                    words.truncate(self.endings.mask.len()); // a bit behind the last token is llguidance's own
                    if words.iter().all(|&word| word == 0) {
                        return Err("no token can follow".to_owned());
                    }
                    words
                }
            });
        }
        Ok(self.mask.as_deref().unwrap_or_default())
    }
}

/// A follower of the same grammar, at its beginning.
impl Clone for Follower {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.endings), Arc::clone(&self.grammar))
    }
}

impl Constraint for Follower {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        if completion.iter().any(|&token| self.endings.contains(token)) {
            return Ok(&self.endings.mask);
        }
        let place = completion.len();
        self.follow(completion)
            .map_err(|problem| ConstraintError(format!("behind {place} tokens of the answer: {problem}")))
    }

    fn scout(&mut self) -> Box<dyn lookahead_engine::Scout> {
        self.scout
            .take()
            .unwrap_or_else(|| Box::new(Scout::new(Arc::clone(&self.endings), self.grammar.walker())))
    }
}
