//! What ends an answer.

use lookahead_model::TokenId;

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
    pub(crate) fn contains(&self, token: TokenId) -> bool {
        self.tokens.binary_search(&token).is_ok()
    }
}
