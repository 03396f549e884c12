//! Lookahead's own draft engine.

use std::sync::Arc;

use lookahead_engine::{CostCurve, Spellings};
use lookahead_model::TokenId;
use lookahead_trie::{DraftParams, DraftTree, Namespace, RANKS, Request, RequestText, Sharing};

use crate::drafter::ReplayDrafter;
use crate::drafters::Target;
use crate::stream::Stream;

/// Bound of what a namespace shares, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// Drafted nodes by which a namespace learns from earlier requests.
const WARM_UP_NODES: usize = 8;

/// Drafts out of a [`Namespace`], which learns from accepted tokens and runners-up, without a bound on how unlikely a node
/// may be.
pub(crate) struct NamespaceDrafter {
    namespace: Namespace,
    /// By which drafts are cut to what pays, if they are.
    curve: Option<CostCurve>,
    spellings: Option<Arc<Spellings>>,
    request: Option<Request>,
    /// The request's text.
    text: Vec<TokenId>,
    /// Of the tokens to be accepted next.
    runners_up: Vec<[TokenId; RANKS]>,
}

fn params(nodes: usize) -> DraftParams {
    DraftParams { nodes, depth: nodes, min_probability: 0.0, ..DraftParams::default() }
}

impl NamespaceDrafter {
    /// Drafts as many nodes as it may, or of those as many as pay by `curve`.
    pub(crate) fn new(target: &Target, curve: Option<&CostCurve>) -> Self {
        Self {
            namespace: Namespace::new(MAX_BYTES).expect("the bound is large enough"),
            curve: curve.cloned(),
            spellings: target.spellings.clone(),
            request: None,
            text: Vec::new(),
            runners_up: Vec::new(),
        }
    }

    fn begin_request(&mut self, prompt: &[TokenId], sharing: Sharing) {
        let text = RequestText::new(prompt, &[]).with_spellings(self.spellings.as_ref());
        self.request = Some(self.namespace.begin_with(text, sharing));
        self.text = prompt.to_vec();
        self.runners_up.clear();
    }
}

impl ReplayDrafter for NamespaceDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        self.begin_request(prompt, Sharing::Read);
    }

    fn draft(&mut self, budget: usize, tree: &mut DraftTree) {
        let Some(request) = &mut self.request else { return };
        tree.clone_from(self.namespace.draft(request, &params(budget - 1)));
        if let Some(curve) = &self.curve {
            tree.truncate(curve.best_prefix(tree.probabilities()));
        }
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        let Some(request) = &mut self.request else { return };
        let mut runners_up = self.runners_up.drain(..);
        for &token in tokens {
            if let Some(runners_up) = runners_up.next() {
                request.observe(&self.text, runners_up);
            }
            self.text.push(token);
        }
        self.namespace.accept(request, tokens);
    }

    fn observe(&mut self, _token: TokenId, runners_up: &[TokenId]) {
        self.runners_up.extend(<[TokenId; RANKS]>::try_from(runners_up));
    }

    fn finish(&mut self) {
        if let Some(request) = self.request.take() {
            self.namespace.finish(request).expect("a namespace in memory has no file to fail");
        }
    }

    fn warm_up(&mut self, stream: &Stream) {
        self.begin_request(&stream.prompt_ids, Sharing::ReadWrite);
        for (index, token) in stream.output_ids.iter().enumerate() {
            if let Some(request) = &mut self.request {
                self.namespace.draft(request, &params(WARM_UP_NODES));
            }
            if let Some(runners_up) = stream.runners_up.get(index) {
                self.observe(*token, runners_up);
            }
            self.accept(&[*token]);
        }
        self.finish();
    }

    fn bytes(&self) -> usize {
        self.namespace.stats().bytes + self.request.as_ref().map_or(0, Request::bytes)
    }
}
