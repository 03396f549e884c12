//! Drafts out of the draft trie.

use std::sync::{Arc, PoisonError, RwLock};

use lookahead_model::{TokenId, TokenTree};
use lookahead_trie::{
    DraftShape, DraftSource, DraftTree, DraftTrie, OutputSharing, RequestDrafts, RetrievalParams,
};

use super::{DraftLimits, Drafter, root};
use crate::CostCurve;

/// A trie that several sequences draft from and add to.
pub type SharedTrie = Arc<RwLock<DraftTrie>>;

/// Nodes that an adaptive draft may have, the root not counted: behind them, estimates of 16 tokens and more ahead say
/// little, and a pass costs several times that over one token.
const ADAPTIVE_LENGTH: usize = 16;

/// The path probability of the least likely node that an adaptive draft may have: below the price of a token on any
/// machine, so that the curve decides and not this bound, which only saves work on hopeless nodes.
const ADAPTIVE_PROBABILITY: f32 = 0.02;

/// What to draft: fixed for a generation, as in the paper ([`DraftPolicy::default`] and its fields), or adaptive to what
/// a pass costs ([`DraftPolicy::adaptive`]).
#[derive(Clone, Debug, PartialEq)]
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
    /// What a forward pass costs: of the draft, only as many nodes are run as promise the most tokens per time. All of
    /// them if `None`.
    pub cost: Option<Arc<CostCurve>>,
}

impl DraftPolicy {
    /// Drafts as many nodes, up to 16, as promise the most tokens per time by the cost curve of the model. In a step
    /// without a draft that pays, that is none.
    pub fn adaptive(cost: Arc<CostCurve>) -> Self {
        Self {
            draft_length: ADAPTIVE_LENGTH,
            min_probability: ADAPTIVE_PROBABILITY,
            cost: Some(cost),
            ..Self::default()
        }
    }
}

impl Default for DraftPolicy {
    /// A fixed policy for where no cost curve is known: five nodes, and none whose estimated probability is below 0.2, as
    /// that is about what a further token costs, in passes over one.
    fn default() -> Self {
        let RetrievalParams { branch_length, shape, source, .. } = RetrievalParams::default();
        let sharing = OutputSharing::default();
        Self { draft_length: 5, branch_length, shape, source, min_probability: 0.2, sharing, cost: None }
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
        drop(trie);
        if let Some(cost) = &self.policy.cost {
            self.draft.truncate(cost.best_prefix(self.draft.probabilities()));
        }
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
