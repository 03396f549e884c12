//! Log probabilities of prompts: the answer begins with the prompt, which is dictated.
//!
//! A prompt's first token is what the model is given, and the others are what it may say, one at each place. So they are verified as
//! drafts are, with the log probability that the model gives each; behind them the answer is the one that it would be anyway, as
//! tokens depend only on those before them.

use std::sync::Arc;
use std::time::Instant;

use lookahead_engine::{Constraint, ConstraintError, Scout, allow};
use lookahead_model::TokenId;

/// Most tokens that are forced at once: more than a pass takes.
const LONGEST_FORCED: usize = 64;

/// Allows the tokens of a prompt behind its first one, and then what `inner` does.
pub(super) struct Dictated {
    prompt: Arc<[TokenId]>,
    inner: Option<Box<dyn Constraint>>,
    /// A bit for each token: the one that is dictated, and all. Made once they are asked for, as many answers may wait.
    one: Vec<u32>,
    all: Vec<u32>,
    vocabulary_size: usize,
}

impl Dictated {
    /// For a vocabulary of so many tokens.
    pub(super) fn new(
        prompt: Arc<[TokenId]>,
        inner: Option<Box<dyn Constraint>>,
        vocabulary_size: usize,
    ) -> Self {
        Self { prompt, inner, one: Vec::new(), all: Vec::new(), vocabulary_size }
    }
}

impl Constraint for Dictated {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        let (dictated, words) = (&self.prompt[1..], self.vocabulary_size.div_ceil(32));
        let Some(&token) = dictated.get(completion.len()) else {
            self.all.resize(words, u32::MAX);
            return match &mut self.inner {
                Some(inner) => inner.allowed(&completion[dictated.len()..]),
                None => Ok(&self.all),
            };
        };
        self.one.clear();
        self.one.resize(words, 0);
        allow(&mut self.one, token);
        Ok(&self.one)
    }

    fn scout(&mut self) -> Box<dyn Scout> {
        let inner = self.inner.as_mut().map(|inner| inner.scout());
        Box::new(DictatedScout { prompt: Arc::clone(&self.prompt), inner })
    }
}

/// Knows the prompt.
struct DictatedScout {
    prompt: Arc<[TokenId]>,
    inner: Option<Box<dyn Scout>>,
}

impl Scout for DictatedScout {
    fn forced(&mut self, completion: &[TokenId], until: Instant) -> Vec<TokenId> {
        let dictated = &self.prompt[1..];
        match (dictated.get(completion.len()..), &mut self.inner) {
            (Some(rest @ [_, ..]), _) => rest[..rest.len().min(LONGEST_FORCED)].to_vec(),
            (_, Some(inner)) => inner.forced(&completion[dictated.len()..], until),
            (_, None) => Vec::new(),
        }
    }

    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], until: Instant) -> usize {
        let dictated = &self.prompt[1..];
        let rest = dictated.get(completion.len()..).unwrap_or_default();
        let known = rest.iter().zip(tokens).take_while(|(wanted, token)| wanted == token).count();
        if known < rest.len().min(tokens.len()) {
            return known;
        }
        let Some(inner) = &mut self.inner else { return tokens.len() };
        let behind =
            [completion, &tokens[..known]].concat().split_off(dictated.len().min(completion.len() + known));
        known + inner.accepted(&behind, &tokens[known..], until)
    }
}

#[cfg(test)]
mod tests {
    use lookahead_engine::allows;

    use super::*;

    #[test]
    fn a_prompt_is_dictated_and_then_the_answer_is_free() {
        let mut dictated = Dictated::new([7, 3, 40].into(), None, 41);
        for (completion, allowed) in [(&[][..], vec![3]), (&[3], vec![40]), (&[3, 40], (0..41).collect())] {
            let mask = dictated.allowed(completion).unwrap();
            assert_eq!(
                (0..41).filter(|&token| allows(mask, token)).collect::<Vec<_>>(),
                allowed,
                "{completion:?}"
            );
        }
        let (mut scout, until) = (dictated.scout(), Instant::now());
        assert_eq!(scout.forced(&[], until), [3, 40]);
        assert_eq!(scout.forced(&[3, 40], until), [] as [TokenId; 0]);
        for (completion, tokens, accepted) in [
            (&[][..], &[3, 40, 9][..], 3),
            (&[], &[3, 9], 1),
            (&[], &[9], 0),
            (&[3], &[40], 1),
            (&[3, 40], &[5], 1),
        ] {
            assert_eq!(scout.accepted(completion, tokens, until), accepted, "{completion:?} {tokens:?}");
        }
    }
}
