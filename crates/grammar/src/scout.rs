//! A grammar that looks ahead for drafts.

use std::{sync::Arc, time::Instant};

use lookahead_model::TokenId;

use crate::{endings::Endings, walker::Walker};

/// Most tokens that are forced at once: more than a pass takes.
const LONGEST_FORCED: usize = 64;

/// A grammar that goes along branches of drafts, and back. It has a parser of its own: what it meets there, and the limits
/// that it meets, change nothing but drafts. When its parser has failed, or cannot go back, it knows nothing more, and lets
/// all drafts pass.
pub(crate) struct Scout {
    endings: Arc<Endings>,
    walker: Walker,
    /// What `walker` has taken.
    taken: Vec<TokenId>,
}

impl Scout {
    pub(crate) fn new(endings: Arc<Endings>, walker: Walker) -> Self {
        Self { endings, walker, taken: Vec::new() }
    }

    /// Takes the parser behind `completion`. Returns whether it is there in time; if not, it is on the way.
    fn follow(&mut self, completion: &[TokenId], until: Instant) -> Result<bool, String> {
        let common = self.taken.iter().zip(completion).take_while(|(a, b)| a == b).count();
        let back = self.taken.len() - common;
        if back > 0 {
            self.walker.give_back(back)?;
            self.taken.truncate(common);
        }
        for &token in &completion[common..] {
            if Instant::now() >= until {
                return Ok(false);
            }
            self.take(token)?;
        }
        Ok(Instant::now() < until)
    }

    fn take(&mut self, token: TokenId) -> Result<(), String> {
        self.walker.take(token)?;
        self.taken.push(token);
        Ok(())
    }

    /// Whether a mask would have the bit of `token`, mostly, without computing one.
    fn permits(&mut self, token: TokenId) -> Result<bool, String> {
        if self.walker.is_over() {
            return Ok(self.endings.contains(token));
        }
        if self.endings.contains(token) {
            return self.walker.may_end();
        }
        match self.walker.forced()?.first() {
            // Text that is forced is spelt in one way only.
            Some(&forced) => Ok(token == forced),
            None => self.walker.allows(token),
        }
    }

    fn look(
        &mut self,
        completion: &[TokenId],
        forced: &mut Vec<TokenId>,
        until: Instant,
    ) -> Result<(), String> {
        if !self.follow(completion, until)? {
            return Ok(());
        }
        while forced.len() < LONGEST_FORCED && Instant::now() < until {
            // Behind each token the rest may be spelt in another way.
            let Some(&token) = self.walker.forced()?.first() else { break };
            self.take(token)?;
            forced.push(token);
        }
        if self.walker.is_over() {
            forced.push(self.endings.usual);
        }
        Ok(())
    }

    fn count(&mut self, completion: &[TokenId], tokens: &[TokenId], until: Instant) -> Result<usize, String> {
        if !self.follow(completion, until)? {
            return Ok(0);
        }
        for (count, &token) in tokens.iter().enumerate() {
            if Instant::now() >= until || !self.permits(token)? {
                return Ok(count);
            }
            if self.endings.contains(token) {
                // Behind an end only ends are allowed.
                let ends = tokens[count..].iter().take_while(|&&token| self.endings.contains(token));
                return Ok(count + ends.count());
            }
            self.take(token)?;
        }
        Ok(tokens.len())
    }
}

impl lookahead_engine::Scout for Scout {
    fn forced(&mut self, completion: &[TokenId], until: Instant) -> Vec<TokenId> {
        let mut forced = Vec::new();
        if !completion.iter().any(|&token| self.endings.contains(token)) {
            // What was found before a failure is still forced.
            let _ = self.look(completion, &mut forced, until);
        }
        forced
    }

    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], until: Instant) -> usize {
        if completion.iter().any(|&token| self.endings.contains(token)) {
            return tokens.iter().take_while(|&&token| self.endings.contains(token)).count();
        }
        self.count(completion, tokens, until).unwrap_or(tokens.len())
    }
}
