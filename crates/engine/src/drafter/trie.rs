//! Drafts out of the draft trie.

use std::sync::{Arc, PoisonError, RwLock};

use lookahead_model::{TokenId, TokenTree};
use lookahead_trie::{
    DraftShape, DraftSource, DraftTree, DraftTrie, OutputSharing, RequestDrafts, RetrievalParams,
};

use super::{DraftLimits, Drafter, root};

/// A trie that several sequences draft from and add to.
pub type SharedTrie = Arc<RwLock<DraftTrie>>;

/// What to draft: the policy of the paper, fixed for a generation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftPolicy {
    /// The most nodes of a draft, the root not counted; 0 drafts nothing.
    pub draft_length: usize,
    /// The greatest depth of a drafted node.
    pub branch_length: usize,
    /// How the branches are laid out.
    pub shape: DraftShape,
    /// Which branches are drafted.
    pub source: DraftSource,
    /// Nodes of a smaller estimated path probability are not drafted.
    pub min_probability: f32,
    /// Whether the tokens produced serve other sequences.
    pub sharing: OutputSharing,
}

impl Default for DraftPolicy {
    /// Five nodes, as a pass over six tokens is where the kernels' cost begins to grow faster, and none whose estimated
    /// probability is below 0.2, as that is about what a further token costs, in passes over one.
    fn default() -> Self {
        let RetrievalParams { branch_length, shape, source, .. } = RetrievalParams::default();
        let sharing = OutputSharing::default();
        Self { draft_length: 5, branch_length, shape, source, min_probability: 0.2, sharing }
    }
}

/// Drafts for one sequence out of a shared trie. Dropping it eliminates the prompt's branches.
pub struct TrieDrafter {
    trie: SharedTrie,
    policy: DraftPolicy,
    request: Option<RequestDrafts>,
    draft: DraftTree,
}

impl TrieDrafter {
    /// A drafter by `policy`.
    pub fn new(trie: SharedTrie, policy: DraftPolicy) -> Self {
        Self { trie, policy, request: None, draft: DraftTree::default() }
    }
}

impl Drafter for TrieDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        let trie = self.trie.read().unwrap_or_else(PoisonError::into_inner);
        self.request = Some(trie.begin_request(prompt, self.policy.sharing));
    }

    fn draft(&mut self, context: &[TokenId], limits: DraftLimits) -> TokenTree {
        let Some(request) = &mut self.request else { return root(context) };
        let DraftPolicy { draft_length, branch_length, shape, source, min_probability, .. } = self.policy;
        let params = RetrievalParams {
            draft_length: draft_length.min(limits.nodes),
            branch_length: branch_length.min(limits.depth),
            shape,
            source,
            min_probability,
            ..RetrievalParams::default()
        };
        let trie = self.trie.read().unwrap_or_else(PoisonError::into_inner);
        trie.retrieve(request, &params, &mut self.draft);
        // The trie's last token is the context's, and its trees are checked as ours are; a lone root is
        // always right.
        TokenTree::new(self.draft.tokens().to_vec(), self.draft.parents().to_vec())
            .unwrap_or_else(|_| root(context))
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        if let Some(request) = &mut self.request {
            self.trie.write().unwrap_or_else(PoisonError::into_inner).append(request, tokens);
        }
    }
}
