//! What an answer may say: grammars and other rules that allow some tokens and forbid others.

use std::time::Instant;

use lookahead_model::TokenId;

/// Limits the tokens of an answer, by what has been said so far.
///
/// What is allowed is a pure function of the completion: it depends neither on what was asked before nor on drafts, which
/// a [`Scout`] looks at. Verification asks along the accepted path alone, each completion one token longer than the last,
/// in lookahead exactly as in plain decoding; so a constraint with limits meets them at the same token in both. Other
/// completions may be asked as well, and the same one again, which costs nothing.
pub trait Constraint: Send {
    /// Which tokens may follow `completion`, the answer so far: a bit for each token of the vocabulary, the lowest bit of
    /// the first word for token 0. Tokens without a bit are not allowed. If none is, the model's likeliest is taken: the
    /// answer can only end.
    ///
    /// # Errors
    /// If it cannot be told, as a limit was met on the way. The request fails then.
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError>;

    /// A scout for the drafts of one answer. It shares no state with the constraint.
    fn scout(&mut self) -> Box<dyn Scout>;
}

/// Looks ahead for drafts. No token depends on what it says: a scout that does not know, or is wrong, costs drafts.
///
/// Completions are such as the constraint allows. A scout looks until a point in time, and says what it has found.
pub trait Scout: Send {
    /// The tokens that must follow `completion`, as far as they are known, or are very likely to: drafts that cost no
    /// guess. Often none.
    fn forced(&mut self, _completion: &[TokenId], _until: Instant) -> Vec<TokenId> {
        Vec::new()
    }

    /// How many of `tokens` may follow `completion` one after the other.
    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], until: Instant) -> usize;
}

/// Why a constraint cannot tell what may follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConstraintError(pub String);

/// Whether `allowed`, as of [`Constraint::allowed`], has the bit of `token`.
pub fn allows(allowed: &[u32], token: TokenId) -> bool {
    allowed.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
}

/// Sets the bit of `token`, if `allowed` has one.
pub fn allow(allowed: &mut [u32], token: TokenId) {
    if let Some(word) = allowed.get_mut(token as usize / 32) {
        *word |= 1 << (token % 32);
    }
}

/// Clears the bit of `token`, if `allowed` has one.
pub fn forbid(allowed: &mut [u32], token: TokenId) {
    if let Some(word) = allowed.get_mut(token as usize / 32) {
        *word &= !(1 << (token % 32));
    }
}
