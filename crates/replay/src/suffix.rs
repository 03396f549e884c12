//! In the manner of SuffixDecoding (Oliaro et al., arXiv 2411.04975): suffix trees of the request and of earlier answers;
//! of the drafts behind every length of match, the one with the best score.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use lookahead_model::TokenId;
use lookahead_trie::DraftTree;

use crate::drafter::{Draft, ReplayDrafter};
use crate::stream::Stream;
use crate::suffix_tree::{DEPTH, Place, SuffixTree};

/// Nodes that are drafted for each token of the match.
const NODES_PER_MATCHED_TOKEN: usize = 4;

/// Nodes of a smaller path probability are not drafted.
const MIN_PROBABILITY: f32 = 0.02;

/// What is drafted behind a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The most frequent continuation.
    Chain,
    /// The likeliest nodes of all.
    Tree,
}

/// Drafts from the tree of its own request and from that of the warm-up's answers.
pub(crate) struct SuffixDrafter {
    selection: Selection,
    request: SuffixTree,
    answers: SuffixTree,
    /// The end of the context, as long as can be matched.
    context: Vec<TokenId>,
}

impl SuffixDrafter {
    pub(crate) fn new(selection: Selection) -> Self {
        Self {
            selection,
            request: SuffixTree::default(),
            answers: SuffixTree::default(),
            context: Vec::with_capacity(DEPTH),
        }
    }

    fn extend(&mut self, tokens: &[TokenId]) {
        self.request.extend(tokens);
        self.context.extend_from_slice(tokens);
        self.context.drain(..self.context.len().saturating_sub(DEPTH));
    }

    /// The best draft out of `tree`; of equal ones that of the longest match.
    fn best(&self, tree: &SuffixTree, root: TokenId, budget: usize) -> (f32, Draft) {
        let mut best = (0.0, Draft::new(root));
        for length in 1..self.context.len() {
            let Some(place) = tree.find(&self.context[self.context.len() - length..]) else { break };
            let budget = budget.min(1 + NODES_PER_MATCHED_TOKEN * length);
            let draft = match self.selection {
                Selection::Chain => draft_chain(tree, place, root, budget),
                Selection::Tree => draft_tree(tree, place, root, budget),
            };
            let score = draft.score();
            if score >= best.0 {
                best = (score, draft);
            }
        }
        best
    }
}

fn draft_chain(tree: &SuffixTree, mut place: Place, root: TokenId, budget: usize) -> Draft {
    let mut draft = Draft::new(root);
    let (mut parent, mut above) = (0, 1.0);
    while draft.len() < budget {
        let mut best = None;
        tree.followers(place, |token, share, place| {
            if best.is_none_or(|(_, greatest, _)| share > greatest) {
                best = Some((token, share, place));
            }
        });
        let Some((token, share, next)) = best.filter(|(_, share, _)| above * share >= MIN_PROBABILITY) else {
            break;
        };
        above *= share;
        parent = draft.add(parent, token, above);
        place = next;
    }
    draft
}

fn draft_tree(tree: &SuffixTree, place: Place, root: TokenId, budget: usize) -> Draft {
    let mut draft = Draft::new(root);
    let mut heap = BinaryHeap::new();
    let mut found = 0;
    let mut open = Some((0, 1.0, place));
    while let Some((parent, above, place)) = open {
        tree.followers(place, |token, share, place| {
            let probability = above * share;
            if probability >= MIN_PROBABILITY {
                heap.push(Candidate { probability, found, parent, token, place });
                found += 1;
            }
        });
        open = heap
            .pop()
            .filter(|_| draft.len() < budget)
            .map(|best| (draft.add(best.parent, best.token, best.probability), best.probability, best.place));
    }
    draft
}

/// A node that may be drafted: the likeliest first, then the one found first.
struct Candidate {
    probability: f32,
    found: u32,
    parent: u32,
    token: TokenId,
    place: Place,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.probability.total_cmp(&other.probability).then(other.found.cmp(&self.found))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl ReplayDrafter for SuffixDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        self.extend(prompt);
    }

    fn draft(&mut self, budget: usize, tree: &mut DraftTree) {
        let Some(&root) = self.context.last() else { return };
        let own = self.best(&self.request, root, budget);
        let shared = self.best(&self.answers, root, budget);
        let (_, draft) = if own.0 >= shared.0 { own } else { shared };
        *tree = draft.into_tree();
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        self.extend(tokens);
    }

    fn finish(&mut self) {
        self.request = SuffixTree::default();
        self.context.clear();
    }

    fn warm_up(&mut self, stream: &Stream) {
        self.answers.extend(&stream.output_ids);
        self.answers.end_text();
    }

    fn bytes(&self) -> usize {
        self.request.bytes() + self.answers.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nodes drafted behind `context` after the given answers: token, parent, probability.
    fn draft(
        selection: Selection,
        answers: &[&[TokenId]],
        context: &[TokenId],
        budget: usize,
    ) -> Vec<(u32, u32, f32)> {
        let mut drafter = SuffixDrafter::new(selection);
        for answer in answers {
            drafter.warm_up(&Stream { output_ids: answer.to_vec(), ..Stream::default() });
        }
        drafter.begin(context);
        let mut tree = DraftTree::default();
        drafter.draft(budget, &mut tree);
        (1..tree.len())
            .map(|node| (tree.tokens()[node], tree.parents()[node], tree.probabilities()[node]))
            .collect()
    }

    #[test]
    fn a_tree_holds_the_likeliest_nodes_and_a_chain_the_likeliest_path() {
        let answers: [&[TokenId]; 4] = [&[1, 2, 5], &[1, 2, 5], &[1, 3, 6], &[1, 4, 7]];
        assert_eq!(draft(Selection::Chain, &answers, &[9, 1], 9), [(2, 0, 0.5), (5, 1, 0.5)]);
        // Four nodes, as one token is matched.
        let tree = draft(Selection::Tree, &answers, &[9, 1], 9);
        assert_eq!(tree[..2], [(2, 0, 0.5), (5, 1, 0.5)]);
        assert_eq!(tree.len(), 4);
        assert!(tree[2..].iter().all(|node| node.2 == 0.25));
    }

    #[test]
    fn the_match_with_the_best_score_wins() {
        // After 1, usually 2; after 8 1, surely 3 and what follows it.
        let answers: [&[TokenId]; 3] = [&[1, 2], &[1, 2], &[8, 1, 3, 4]];
        assert_eq!(draft(Selection::Tree, &answers, &[8, 1], 3), [(2, 0, 2.0 / 3.0), (3, 0, 1.0 / 3.0)]);
        assert_eq!(draft(Selection::Tree, &answers, &[9, 8, 1], 3), [(3, 0, 1.0), (4, 1, 1.0)]);
    }
}
