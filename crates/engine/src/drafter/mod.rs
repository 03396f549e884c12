//! Where draft trees come from. A drafter may draft anything: verification keeps what the model itself would
//! have said.

mod adversarial;
mod namespace;

pub use adversarial::AdversarialDrafter;
use lookahead_model::{Candidate, TokenId, TokenTree};
pub use namespace::{DraftPolicy, NamespaceDrafter};

/// How large a draft tree may be. The root does not count: it is no draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftLimits {
    /// Nodes besides the root.
    pub nodes: usize,
    /// Depth of the deepest node; the root's is 0.
    pub depth: usize,
}

/// Proposes continuations for one sequence. Dropping the drafter ends the sequence for it.
pub trait Drafter: Send {
    /// Learns the prompt, once, before the first draft.
    fn begin(&mut self, _prompt: &[TokenId]) {}

    /// A tree whose root carries the last token of `context` (prompt and answer so far; never empty).
    ///
    /// What exceeds `limits` is cut off by the engine, and so are tokens that the model does not know; a
    /// draft with another root is ignored.
    fn draft(&mut self, context: &[TokenId], limits: DraftLimits) -> TokenTree;

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

/// No drafts: plain decoding, by the same loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDraft;

impl Drafter for NoDraft {
    fn draft(&mut self, context: &[TokenId], _limits: DraftLimits) -> TokenTree {
        root(context)
    }
}

/// The tree of the root alone.
pub(crate) fn root(context: &[TokenId]) -> TokenTree {
    TokenTree::chain(&context[context.len() - 1..]).expect("one token is a chain")
}

/// The part of `draft` that may run: within `limits`, without tokens outside the vocabulary and what hangs
/// off them.
pub(crate) fn cut(draft: TokenTree, limits: DraftLimits, vocabulary_size: usize) -> TokenTree {
    let may_run = |node: usize| {
        draft.depths()[node] as usize <= limits.depth && (draft.tokens()[node] as usize) < vocabulary_size
    };
    if draft.len() <= limits.nodes + 1 && (1..draft.len()).all(may_run) {
        return draft;
    }
    let mut tokens = vec![draft.tokens()[0]];
    let mut parents = vec![0];
    let mut kept = vec![None; draft.len()]; // new index of each node that stays
    kept[0] = Some(0);
    for node in 1..draft.len() {
        let parent = kept[draft.parents()[node] as usize];
        if let Some(parent) = parent.filter(|_| tokens.len() <= limits.nodes && may_run(node)) {
            kept[node] = Some(tokens.len() as u32);
            tokens.push(draft.tokens()[node]);
            parents.push(parent);
        }
    }
    TokenTree::new(tokens, parents).expect("kept nodes follow their kept parents")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(tokens: &[TokenId], parents: &[u32]) -> TokenTree {
        TokenTree::new(tokens.to_vec(), parents.to_vec()).unwrap()
    }

    #[test]
    fn a_draft_within_its_limits_is_not_cut() {
        let draft = tree(&[1, 2, 3, 4], &[0, 0, 1, 0]);
        assert_eq!(cut(draft.clone(), DraftLimits { nodes: 3, depth: 2 }, 5), draft);
    }

    #[test]
    fn a_cut_takes_descendants_along() {
        let draft = tree(&[1, 2, 3, 4, 5, 6], &[0, 0, 1, 0, 3, 2]);
        let all = DraftLimits { nodes: 9, depth: 9 };
        // Token 2 is unknown: nodes 2 and 5 hang off it.
        let unknown = tree(&[1, 9, 3, 4, 5, 6], &[0, 0, 1, 0, 3, 2]);
        assert_eq!(cut(unknown, all, 9), tree(&[1, 4, 5], &[0, 0, 1]));
        assert_eq!(cut(draft.clone(), DraftLimits { depth: 1, ..all }, 9), tree(&[1, 2, 4], &[0, 0, 0]));
        assert_eq!(cut(draft.clone(), DraftLimits { nodes: 2, ..all }, 9), tree(&[1, 2, 3], &[0, 0, 1]));
        assert_eq!(cut(draft, DraftLimits { nodes: 0, depth: 0 }, 9), tree(&[1], &[0]));
    }
}
