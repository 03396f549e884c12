//! What a drafter is to the engine.

use lookahead_model::{Candidate, TokenId};
use lookahead_trie::CostCurve;

use super::draft::{Draft, DraftLimits};

/// Proposes continuations for one sequence. Dropping the drafter ends the sequence for it.
pub trait Drafter: Send {
    /// Learns the prompt, once, before the first draft.
    fn begin(&mut self, _prompt: &[TokenId]) {}

    /// A tree whose root carries the last token of `context` (prompt and answer so far; never empty).
    ///
    /// What exceeds `limits` is cut off by the engine, and so are tokens that the model does not know; a
    /// draft with another root is ignored.
    fn draft(&mut self, context: &[TokenId], limits: DraftLimits) -> Draft;

    /// What a pass costs, if the draft is to be cut to the nodes that pay by it, beside what other sequences ask of the
    /// same pass. `None` if all of it is to run.
    fn cost(&self) -> Option<&CostCurve> {
        None
    }

    /// Whether it never drafts: then nothing else does for it either, and every pass of the sequence is over one token.
    fn is_plain(&self) -> bool {
        false
    }

    /// How many of the model's likeliest tokens at each node it wants to observe; 0 for none.
    fn runners_up(&self) -> usize {
        0
    }

    /// Learns which tokens, the likeliest first, the model held likeliest behind `context`: the last tokens up to and
    /// including a node of the last draft, accepted or not; two of them where there are two. Called where a pass has kept
    /// them, before [`accept`](Self::accept).
    fn observe(&mut self, _context: &[TokenId], _likeliest: &[Candidate]) {}

    /// Learns the tokens that the model has just produced.
    fn accept(&mut self, _tokens: &[TokenId]) {}
}
