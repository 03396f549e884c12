//! Answers of so many tokens at least.

use std::time::Instant;

use lookahead_engine::{Constraint, ConstraintError, Scout, forbid};
use lookahead_model::TokenId;

/// Forbids what ends an answer as long as it has too few tokens, on top of what else is forbidden. Where nothing else can follow, an
/// answer may end all the same.
pub(super) struct MinTokens {
    inner: Option<Box<dyn Constraint>>,
    /// How many.
    fewest: usize,
    ends: Vec<TokenId>,
    vocabulary_size: usize,
    /// A bit for each token: all, and those that are left. Made once they are asked for, as many answers may wait.
    all: Vec<u32>,
    allowed: Vec<u32>,
}

impl MinTokens {
    /// For a vocabulary of so many tokens.
    pub(super) fn new(
        inner: Option<Box<dyn Constraint>>,
        fewest: usize,
        ends: &[TokenId],
        vocabulary_size: usize,
    ) -> Self {
        Self { inner, fewest, ends: ends.to_vec(), vocabulary_size, all: Vec::new(), allowed: Vec::new() }
    }
}

impl Constraint for MinTokens {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        self.all.resize(self.vocabulary_size.div_ceil(32), u32::MAX);
        let allowed = match &mut self.inner {
            Some(inner) => inner.allowed(completion)?,
            None => &self.all,
        };
        if completion.len() >= self.fewest {
            return Ok(allowed);
        }
        self.allowed.clear();
        self.allowed.extend_from_slice(allowed);
        for &end in &self.ends {
            forbid(&mut self.allowed, end);
        }
        Ok(if self.allowed.iter().all(|word| *word == 0) { allowed } else { &self.allowed })
    }

    fn scout(&mut self) -> Box<dyn Scout> {
        self.inner.as_mut().map_or_else(|| Box::new(Anything) as Box<dyn Scout>, |inner| inner.scout())
    }
}

/// Lets all drafts pass: what they may not be is found when they are verified.
struct Anything;

impl Scout for Anything {
    fn accepted(&mut self, _completion: &[TokenId], tokens: &[TokenId], _until: Instant) -> usize {
        tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use lookahead_engine::allows;

    use super::*;

    /// Allows these tokens, always.
    struct Only(Vec<u32>);

    impl Constraint for Only {
        fn allowed(&mut self, _completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
            Ok(&self.0)
        }

        fn scout(&mut self) -> Box<dyn Scout> {
            Box::new(Anything)
        }
    }

    #[test]
    fn an_end_is_allowed_once_there_are_enough_tokens_or_nothing_else_is() {
        let mut free = MinTokens::new(None, 2, &[3, 40], 41);
        for (completion, may_end) in [(&[][..], false), (&[1], false), (&[1, 2], true)] {
            let allowed = free.allowed(completion).unwrap();
            assert!(allows(allowed, 5) && allows(allowed, 39), "{completion:?}");
            assert_eq!([3, 40].map(|end| allows(allowed, end)), [may_end; 2], "{completion:?}");
        }
        let mut both = MinTokens::new(Some(Box::new(Only(vec![0b1100, 0]))), 2, &[3], 41);
        assert_eq!(both.allowed(&[]).unwrap(), [0b0100, 0]);
        assert_eq!(both.allowed(&[2, 2]).unwrap(), [0b1100, 0]);
        let mut forced = MinTokens::new(Some(Box::new(Only(vec![0b1000, 0]))), 2, &[3], 41);
        assert_eq!(forced.allowed(&[]).unwrap(), [0b1000, 0]);
    }
}
