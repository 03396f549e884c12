//! What an answer may say: grammars and other rules that allow some tokens and forbid others.

use lookahead_model::TokenId;

/// Limits the tokens of an answer, by what has been said so far.
///
/// Every method is a pure function of its arguments: drafts that are not accepted leave no trace. An implementation may
/// remember where it is, as long as it finds back: a completion is often, but not always, the last one and a few tokens.
pub trait Constraint: Send {
    /// Which tokens may follow `completion`, the answer so far: a bit for each token of the vocabulary, the lowest bit of
    /// the first word for token 0. Tokens without a bit are not allowed. If none is, the model's likeliest is taken: the
    /// answer can only end.
    fn allowed(&mut self, completion: &[TokenId]) -> &[u32];

    /// The tokens that must follow `completion`, as far as they are known, or are very likely to: drafts that cost no
    /// guess. Often none.
    fn forced(&mut self, _completion: &[TokenId]) -> Vec<TokenId> {
        Vec::new()
    }

    /// How many of `tokens` may follow `completion` one after the other.
    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId]) -> usize;
}

/// Whether `allowed`, as of [`Constraint::allowed`], has the bit of `token`.
pub fn allows(allowed: &[u32], token: TokenId) -> bool {
    allowed.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
}
