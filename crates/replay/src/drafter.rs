//! What a draft engine is to the player.

use lookahead_model::TokenId;
use lookahead_trie::DraftTree;

use crate::stream::Stream;

/// A draft engine, serving one request after the other.
///
/// What [`warm_up`](Self::warm_up) teaches is shared by all requests. What a request brings, its prompt and its answer,
/// serves that request alone and is forgotten with it, so that the order of requests does not matter.
pub trait ReplayDrafter {
    /// A request begins.
    fn begin(&mut self, prompt: &[TokenId]);

    /// Drafts what may follow the prompt and the accepted tokens into `tree`: a root, which carries the last of them, and
    /// at most `budget - 1` drafted nodes.
    fn draft(&mut self, budget: usize, tree: &mut DraftTree);

    /// The model has produced these tokens.
    fn accept(&mut self, tokens: &[TokenId]);

    /// The model's most likely tokens after `token`, best first. Told for the root and every accepted node of a draft,
    /// in order, before the tokens chosen there are [accepted](Self::accept); only where they were recorded.
    fn observe(&mut self, _token: TokenId, _runners_up: &[TokenId]) {}

    /// The request is over.
    fn finish(&mut self);

    /// Learns from an earlier request.
    fn warm_up(&mut self, stream: &Stream);

    /// Memory that it takes.
    fn bytes(&self) -> usize;
}

/// A draft tree under construction.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    tokens: Vec<TokenId>,
    parents: Vec<u32>,
    probabilities: Vec<f32>,
}

impl Draft {
    pub(crate) fn new(root: TokenId) -> Self {
        Self { tokens: vec![root], parents: vec![0], probabilities: vec![1.0] }
    }

    /// Nodes, the root included.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a node and returns its index. `probability` is that of its path, no greater than the parent's.
    pub(crate) fn add(&mut self, parent: u32, token: TokenId, probability: f32) -> u32 {
        self.tokens.push(token);
        self.parents.push(parent);
        self.probabilities.push(probability);
        self.tokens.len() as u32 - 1
    }

    /// What its drafter thinks of it: the expected number of accepted nodes.
    pub(crate) fn score(&self) -> f32 {
        self.probabilities[1..].iter().sum()
    }

    pub(crate) fn into_tree(self) -> DraftTree {
        DraftTree::new(self.tokens, self.parents, self.probabilities)
            .expect("nodes follow their parents and are no likelier")
    }
}
