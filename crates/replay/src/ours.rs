//! Lookahead's own draft engines.

use lookahead_model::TokenId;
use lookahead_trie::{
    DraftBounds, DraftTree, DraftTrie, Namespace, OutputSharing, RANKS, Request, RequestDrafts,
    RetrievalParams, TrieConfig,
};

use crate::drafter::ReplayDrafter;
use crate::stream::Stream;

/// Bound of what a namespace shares, in bytes; that of a trie by default.
const MAX_BYTES: usize = 256 << 20;

/// Drafted nodes by which a namespace learns from earlier requests.
const WARM_UP_NODES: usize = 8;

/// Drafts out of a [`Namespace`], which learns from accepted tokens and runners-up, without a bound on how unlikely a node
/// may be.
pub(crate) struct NamespaceDrafter {
    namespace: Namespace,
    request: Option<Request>,
    /// Of the tokens to be accepted next.
    runners_up: Vec<[TokenId; RANKS]>,
}

impl NamespaceDrafter {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new(MAX_BYTES).expect("the bound is large enough");
        Self { namespace, request: None, runners_up: Vec::new() }
    }
}

impl ReplayDrafter for NamespaceDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        self.request = Some(self.namespace.begin(prompt, OutputSharing::Private));
    }

    fn draft(&mut self, budget: usize, tree: &mut DraftTree) {
        let Some(request) = &mut self.request else { return };
        let bounds = DraftBounds { nodes: budget - 1, depth: budget - 1, min_probability: 0.0 };
        tree.clone_from(self.namespace.draft(request, bounds));
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        if let Some(request) = &mut self.request {
            self.namespace.accept(request, tokens);
            if self.runners_up.len() == tokens.len() {
                request.keep_runners_up(&self.runners_up);
            }
        }
        self.runners_up.clear();
    }

    fn observe(&mut self, _token: TokenId, runners_up: &[TokenId]) {
        self.runners_up.extend(<[TokenId; RANKS]>::try_from(runners_up));
    }

    fn finish(&mut self) {
        if let Some(request) = self.request.take() {
            self.namespace.finish(request);
        }
    }

    fn warm_up(&mut self, stream: &Stream) {
        let mut request = self.namespace.begin(&stream.prompt_ids, OutputSharing::Shared);
        let bounds = DraftBounds { nodes: WARM_UP_NODES, depth: WARM_UP_NODES, min_probability: 0.0 };
        for (index, &token) in stream.output_ids.iter().enumerate() {
            self.namespace.draft(&mut request, bounds);
            self.namespace.accept(&mut request, &[token]);
            let runners_up = stream.runners_up.get(index).map(Vec::as_slice);
            if let Some(Ok(runners_up)) = runners_up.map(<[TokenId; RANKS]>::try_from) {
                request.keep_runners_up(&[runners_up]);
            }
        }
        self.namespace.finish(request);
    }

    fn bytes(&self) -> usize {
        self.namespace.bytes() + self.request.as_ref().map_or(0, Request::bytes)
    }
}

/// Drafts out of a [`DraftTrie`], from prompt and outputs, without a bound on how unlikely a node may be.
pub(crate) struct TrieDrafter {
    trie: DraftTrie,
    request: Option<RequestDrafts>,
}

impl TrieDrafter {
    pub(crate) fn new() -> Self {
        let trie = DraftTrie::new(TrieConfig::default()).expect("the defaults are in range");
        Self { trie, request: None }
    }
}

impl ReplayDrafter for TrieDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        self.request = Some(self.trie.begin_request(prompt, OutputSharing::Private));
    }

    fn draft(&mut self, budget: usize, tree: &mut DraftTree) {
        let Some(request) = &mut self.request else { return };
        let params = RetrievalParams {
            draft_length: budget - 1,
            branch_length: budget - 1,
            min_probability: 0.0,
            ..RetrievalParams::default()
        };
        self.trie.retrieve(request, &params, tree);
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        if let Some(request) = &mut self.request {
            self.trie.append(request, tokens);
        }
    }

    fn finish(&mut self) {
        if let Some(request) = self.request.take() {
            self.trie.finish(request);
        }
    }

    fn warm_up(&mut self, stream: &Stream) {
        self.trie.warm_up(&stream.output_ids);
    }

    fn bytes(&self) -> usize {
        self.trie.stats().bytes + self.request.as_ref().map_or(0, RequestDrafts::bytes)
    }
}
