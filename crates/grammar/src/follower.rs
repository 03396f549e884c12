//! A grammar that follows an answer.

use std::{fmt::Display, sync::Arc};

use llguidance::Matcher;
use lookahead_engine::{Constraint, allows};
use lookahead_model::TokenId;

use crate::error::readable;

/// Most tokens that are forced at once: more than a pass takes.
const LONGEST_FORCED: usize = 64;

/// What ends an answer.
pub(crate) struct Endings {
    /// The tokens that do, ascending, within the width of the logits.
    pub(crate) tokens: Vec<TokenId>,
    /// The one that the model was trained on, for drafts.
    pub(crate) usual: TokenId,
    /// The bits of all of them, as wide as the logits.
    pub(crate) mask: Vec<u32>,
}

impl Endings {
    fn contains(&self, token: TokenId) -> bool {
        self.tokens.binary_search(&token).is_ok()
    }
}

/// A grammar at some place of an answer. It goes back over what drafts tried, token by token where llguidance can, and
/// from the beginning where not.
///
/// Tokens that end an answer never reach the matcher: where the grammar may stop they are allowed, and behind them
/// nothing else is.
pub struct Follower {
    endings: Arc<Endings>,
    /// Never moves, so that what goes wrong in `matcher`, such as a limit, does not last.
    start: Matcher,
    matcher: Matcher,
    /// What `matcher` has taken.
    taken: Vec<TokenId>,
    /// How many tokens `matcher` had taken when it computed a mask, which it remembers.
    masked_at: usize,
    mask: Vec<u32>,
}

impl Follower {
    pub(crate) fn new(endings: Arc<Endings>, start: Matcher) -> Self {
        let matcher = start.deep_clone();
        Self { mask: endings.mask.clone(), endings, start, matcher, taken: Vec::new(), masked_at: 0 }
    }

    /// Takes the matcher behind `completion`. Returns whether the grammar allows it.
    fn follow(&mut self, completion: &[TokenId]) -> bool {
        let common = self.taken.iter().zip(completion).take_while(|(a, b)| a == b).count();
        let back = self.taken.len() - common;
        if self.matcher.is_error() || (back > 0 && self.matcher.rollback(back).is_err()) {
            self.matcher = self.start.deep_clone();
            self.taken.clear();
        }
        if common < self.masked_at {
            // The last mask serves again while the lexer's state and the number of the parser's rows are the same, but that
            // row is another now.
            self.matcher.invalidate_bias_cache();
            self.masked_at = common;
        }
        self.taken.truncate(common);
        completion[self.taken.len()..].iter().all(|&token| self.take(token))
    }

    /// Takes the matcher one token on. Returns whether the grammar allows it.
    fn take(&mut self, token: TokenId) -> bool {
        let allowed = !self.endings.contains(token) && self.matcher.consume_token(token).is_ok();
        if allowed {
            self.taken.push(token);
        }
        allowed
    }

    /// The words of the mask where the matcher is; none if the answer can only end.
    fn compute_mask(&mut self) -> Option<Vec<u32>> {
        if self.matcher.is_stopped() {
            return None;
        }
        self.masked_at = self.taken.len();
        let allowed = self.matcher.compute_mask();
        let mut words: Vec<u32> = allowed.inspect_err(|problem| warn(problem)).ok()?.into();
        // llguidance keeps a bit behind the last token for itself.
        words.truncate(self.endings.mask.len());
        words.iter().any(|&word| word != 0).then_some(words)
    }

    /// Whether the answer may end where the matcher is.
    fn may_end(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(true)
    }

    /// Whether [`Self::compute_mask`] would have the bit of `token`: mostly without computing it.
    fn permits(&mut self, token: TokenId) -> bool {
        if self.endings.contains(token) {
            // A grammar may also name such a token.
            return self.may_end() || self.compute_mask().is_none_or(|words| allows(&words, token));
        }
        match self.matcher.compute_ff_tokens().first() {
            // Text that is forced is spelt in one way only.
            Some(&forced) => token == forced,
            None => self.matcher.validate_tokens(&[token]).is_ok_and(|valid| valid == 1),
        }
    }
}

/// A follower of the same grammar, at its beginning.
impl Clone for Follower {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.endings), self.start.deep_clone())
    }
}

impl Constraint for Follower {
    fn allowed(&mut self, completion: &[TokenId]) -> &[u32] {
        let ended = completion.iter().any(|&token| self.endings.contains(token));
        let words = if ended {
            None
        } else if self.follow(completion) {
            self.compute_mask()
        } else {
            warn(&"the answer does not follow it");
            None
        };
        match words {
            Some(words) => self.mask = words,
            None => self.mask.clone_from(&self.endings.mask),
        }
        &self.mask
    }

    fn forced(&mut self, completion: &[TokenId]) -> Vec<TokenId> {
        if !self.follow(completion) {
            return Vec::new();
        }
        let mut forced = Vec::new();
        while forced.len() < LONGEST_FORCED {
            let next = self.matcher.compute_ff_tokens();
            let Some(&token) = next.first() else { break };
            // Behind each token the rest may be spelt in another way: what counts is what the mask will say.
            if !self.take(token) {
                return forced;
            }
            forced.push(token);
        }
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            forced.push(self.endings.usual);
        }
        forced
    }

    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId]) -> usize {
        let mut ended = completion.iter().any(|&token| self.endings.contains(token));
        ended |= !self.follow(completion);
        tokens
            .iter()
            .take_while(|&&token| {
                let ends = self.endings.contains(token);
                let accepted = if ended { ends } else { self.permits(token) && (ends || self.take(token)) };
                ended |= ends;
                accepted
            })
            .count()
    }
}

fn warn(problem: &dyn Display) {
    tracing::warn!("an answer ends before its grammar allows it: {}", readable(problem));
}
