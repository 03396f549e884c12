//! Drafts out of a namespace.

use std::sync::Arc;

use lookahead_model::tokenizer::Tokenizer;
use lookahead_model::{Candidate, TokenId, TokenTree};
use lookahead_trie::{
    CostCurve, DraftOrigin, DraftParams, DraftShape, DraftSource, Namespace, RANKS, Request, RequestText,
    Sharing, Spellings,
};

use super::draft::{Draft, DraftLimits};
use super::interface::Drafter;

/// Nodes that an adaptive draft may have, the root not counted, and its greatest depth: a long copy fills it. More of them where the
/// cost curve was measured further. The curve decides how many of them run.
const ADAPTIVE_LENGTH: usize = 63;

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
    /// What they are taken from.
    pub source: DraftSource,
    /// Nodes of a smaller estimated path probability are not drafted.
    pub min_probability: f32,
    /// Whether the tokens produced serve other sequences, and those of others this one.
    pub sharing: Sharing,
    /// Whether tokens that the model held likely, and did not choose, are drafted where the same tokens stand before. They
    /// raise EDL by 1 to 2 %; keeping them costs about as much, so that is left out unless asked for.
    pub runners_up: bool,
    /// What a forward pass costs: of the draft, only as many nodes are run as promise the most tokens per time. All of
    /// them if `None`.
    pub cost: Option<Arc<CostCurve>>,
    /// Which tokens are one word with a space before it and without: what a prompt says behind a space is then drafted behind a
    /// quotation mark too. See [`spellings`].
    pub spellings: Option<Arc<Spellings>>,
}

impl DraftPolicy {
    /// Drafts as many nodes as promise the most tokens per time by the cost curve of the model: up to 63, or as many as the
    /// curve's largest pass runs beside a root. In a step without a draft that pays, that is none.
    pub fn adaptive(cost: Arc<CostCurve>) -> Self {
        let largest_pass = cost.points().last().map_or(1, |point| point.tokens);
        let draft_length = ADAPTIVE_LENGTH.max(largest_pass - 1);
        Self {
            draft_length,
            branch_length: draft_length,
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
        Self {
            draft_length: 5,
            branch_length: 16,
            shape: DraftShape::Hierarchical,
            source: DraftSource::Mixed,
            min_probability: 0.2,
            sharing: Sharing::ReadWrite,
            runners_up: false,
            cost: None,
            spellings: None,
        }
    }
}

/// The tokens of a vocabulary that are one word with a space before it and without, for [`DraftPolicy::spellings`].
pub fn spellings(tokenizer: &Tokenizer) -> Arc<Spellings> {
    let vocabulary = 0..tokenizer.vocabulary_size();
    Arc::new(Spellings::new(vocabulary.map(|token| tokenizer.token_bytes(token as TokenId))))
}

/// Drafts for one sequence out of a namespace. Dropping it ends its request: what it shares joins the namespace.
pub struct NamespaceDrafter {
    namespace: Arc<Namespace>,
    policy: DraftPolicy,
    text: Option<Arc<RequestText>>,
    request: Option<Request>,
}

impl NamespaceDrafter {
    /// A drafter by `policy`.
    pub fn new(namespace: Arc<Namespace>, policy: DraftPolicy) -> Self {
        Self { namespace, policy, text: None, request: None }
    }

    /// Begins with `text`, the indexed prompt of the sequence and its references, in place of indexing the prompt when the
    /// sequence begins. Drafters of several answers to one prompt share it: all but the last copy it as they begin.
    #[must_use]
    pub fn with_text(mut self, text: Arc<RequestText>) -> Self {
        self.text = Some(text);
        self
    }
}

impl Drafter for NamespaceDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        let text = self.text.take().map_or_else(|| RequestText::new(prompt, &[]), Arc::unwrap_or_clone);
        let text = text.with_spellings(self.policy.spellings.as_ref());
        self.request = Some(self.namespace.begin_with(text, self.policy.sharing));
    }

    fn draft(&mut self, context: &[TokenId], limits: DraftLimits) -> Draft {
        let Some(request) = &mut self.request else { return Draft::root(context) };
        let DraftPolicy { draft_length, branch_length, shape, source, min_probability, .. } = self.policy;
        let params = DraftParams {
            nodes: draft_length.min(limits.nodes),
            depth: branch_length.min(limits.depth),
            min_probability,
            shape,
            source,
        };
        let draft = self.namespace.draft(request, &params);
        let (tree, probabilities) = (
            // Its last token is the context's, and its trees are checked as ours are.
            TokenTree::new(draft.tokens().to_vec(), draft.parents().to_vec()),
            draft.probabilities().to_vec(),
        );
        let drafted = (1..probabilities.len()).map(|node| request.origin(node));
        let origins = [DraftOrigin::Other].into_iter().chain(drafted).collect();
        tree.ok()
            .and_then(|tree| Draft::new(tree, probabilities, origins))
            .unwrap_or_else(|| Draft::root(context))
    }

    fn cost(&self) -> Option<&CostCurve> {
        self.policy.cost.as_deref()
    }

    fn runners_up(&self) -> usize {
        if self.policy.runners_up { RANKS } else { 0 }
    }

    fn observe(&mut self, context: &[TokenId], likeliest: &[Candidate]) {
        if let (Some(request), Some(likeliest)) = (&mut self.request, likeliest.first_chunk::<RANKS>()) {
            request.observe(context, likeliest.map(|candidate| candidate.token));
        }
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        if let Some(request) = &mut self.request {
            self.namespace.accept(request, tokens);
        }
    }
}

impl Drop for NamespaceDrafter {
    fn drop(&mut self) {
        let finished = self.request.take().map(|request| self.namespace.finish(request));
        if let Some(Err(error)) = finished {
            tracing::warn!("an answer is not kept: {error}");
        }
    }
}
