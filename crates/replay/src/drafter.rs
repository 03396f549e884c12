//! What a draft engine is to the player, and the engines by name.

use lookahead_model::TokenId;
use lookahead_trie::{DraftShape, DraftTree};

use crate::ours::NamespaceDrafter;
use crate::paper::PaperDrafter;
use crate::pld::PromptLookupDrafter;
use crate::stream::Stream;
use crate::suffix::{Selection, SuffixDrafter};

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

/// The draft engines: their names, and how to make one.
pub const DRAFTERS: [(&str, NewDrafter); 9] = [
    ("lookahead", || Box::new(NamespaceDrafter::new())),
    ("paper", || Box::new(PaperDrafter::new(DraftShape::Hierarchical))),
    ("paper:hierarchical", || Box::new(PaperDrafter::new(DraftShape::Hierarchical))),
    ("paper:parallel", || Box::new(PaperDrafter::new(DraftShape::Parallel))),
    ("paper:single", || Box::new(PaperDrafter::new(DraftShape::Single))),
    ("pld", || Box::<PromptLookupDrafter>::default()),
    ("suffix", || Box::new(SuffixDrafter::new(Selection::Tree))),
    ("suffix:chain", || Box::new(SuffixDrafter::new(Selection::Chain))),
    ("suffix:tree", || Box::new(SuffixDrafter::new(Selection::Tree))),
];

/// Makes a draft engine that has seen nothing.
pub type NewDrafter = fn() -> Box<dyn ReplayDrafter>;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first draft after `prompt`, as the tokens of each node's path.
    fn drafted(drafter: &mut dyn ReplayDrafter, prompt: &[TokenId], budget: usize) -> Vec<Vec<TokenId>> {
        let mut tree = DraftTree::default();
        drafter.begin(prompt);
        drafter.draft(budget, &mut tree);
        drafter.finish();
        let mut paths: Vec<Vec<TokenId>> = vec![Vec::new()];
        for node in 1..tree.len() {
            let above = &paths[tree.parents()[node] as usize];
            paths.push([above, &tree.tokens()[node..=node]].concat());
        }
        paths.split_off(1)
    }

    #[test]
    fn every_engine_continues_a_prompt_that_repeats_itself() {
        for (name, new) in DRAFTERS {
            let paths = drafted(&mut *new(), &[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 4);
            assert_eq!(paths, [vec![4], vec![4, 5], vec![4, 5, 6]], "{name}");
        }
    }

    #[test]
    fn every_engine_but_prompt_lookup_learns_from_warm_up() {
        for (name, new) in DRAFTERS {
            let mut drafter = new();
            let stream = Stream { prompt_ids: vec![9], output_ids: vec![1, 2, 3, 4, 5], ..Stream::default() };
            for _ in 0..3 {
                drafter.warm_up(&stream);
            }
            let expected = if name == "pld" { vec![] } else { vec![vec![3], vec![3, 4]] };
            assert_eq!(drafted(&mut *drafter, &[8, 1, 2], 3), expected, "{name}");
        }
    }

    proptest! {
        /// Requests leave nothing behind, and drafts keep to the budget.
        #[test]
        fn a_request_changes_no_later_draft(
            warm in prop::collection::vec(0u32..4, 0..40),
            first in prop::collection::vec(0u32..4, 2..40),
            second in prop::collection::vec(0u32..4, 1..40),
            budget in 1usize..20,
        ) {
            for (name, new) in DRAFTERS {
                let warmed = || {
                    let mut drafter = new();
                    drafter.warm_up(&Stream { output_ids: warm.clone(), ..Stream::default() });
                    drafter
                };
                let mut used = warmed();
                let (prompt, answer) = first.split_at(first.len() / 2);
                used.begin(prompt);
                for token in answer {
                    used.draft(budget, &mut DraftTree::default());
                    used.observe(*token, &[1, 2]);
                    used.accept(&[*token]);
                }
                used.finish();
                let paths = drafted(&mut *used, &second, budget);
                prop_assert!(paths.len() < budget, "{}", name);
                prop_assert_eq!(paths, drafted(&mut *warmed(), &second, budget), "{}", name);
            }
        }
    }
}
