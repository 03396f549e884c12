//! Retrieval: a draft tree for the tokens that may follow a context.
//!
//! The tree grows best-first: of all tokens that could continue any of its nodes, the one of the greatest path
//! probability comes next. Each node knows where the branch that leads to it, preceded by the context, was seen
//! before: the trie nodes of its suffixes of 1, 2, 3, … tokens in both forests. A child's are found from its parent's,
//! one step down each. So the estimate at every node rests on the longest suffixes there are, and a draft can run
//! deeper than a branch of the trie.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::estimate::{Witness, estimate};
use crate::forest::{Forest, ROOT};
use crate::{DraftShape, DraftTree, RetrievalParams, TokenId};

/// The forests to draft from, the more trusted first.
pub(crate) type Sources<'a> = [Option<&'a Forest>; 2];

/// Memory that retrievals reuse.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Trie nodes of matched suffixes, by draft node, source and suffix length; see `spans`.
    matches: Vec<u32>,
    /// For each draft node, where its matches lie.
    spans: Vec<Span>,
    /// Depth of each draft node.
    depths: Vec<u32>,
    /// Whether each draft node has drafted children.
    is_inner: Vec<bool>,
    candidates: Vec<(TokenId, f32)>,
    heap: BinaryHeap<Candidate>,
    /// The tree before the branches of the parallel shape are laid side by side.
    merged: DraftTree,
}

/// Ranges in `Scratch::matches`: entry `i` of each is the trie node of the suffix of `i + 1` tokens.
#[derive(Clone, Copy, Default)]
struct Span {
    start: [usize; 2],
    end: [usize; 2],
}

impl Span {
    fn len(&self, source: usize) -> usize {
        self.end[source] - self.start[source]
    }
}

/// A token that may become a node. Greater is better: the likelier first, then the one that was found first, which is
/// the one of the longer match, then the more recent one.
struct Candidate {
    probability: f32,
    /// Rank among all candidates of this retrieval in the order in which they were found.
    found: u32,
    parent: u32,
    token: TokenId,
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

/// Drafts what may follow `context` into `tree`.
pub(crate) fn retrieve(
    sources: Sources<'_>,
    context: &[TokenId],
    params: &RetrievalParams,
    scratch: &mut Scratch,
    tree: &mut DraftTree,
) {
    let Some(&root) = context.last() else {
        tree.clear();
        return;
    };
    tree.reset(root);
    if params.draft_length == 0 {
        return;
    }
    if params.shape == DraftShape::Parallel {
        let mut merged = std::mem::take(&mut scratch.merged);
        merged.reset(root);
        Growth { sources, params, scratch, tree: &mut merged, found: 0 }.run(context);
        lay_side_by_side(&merged, &scratch.is_inner, tree);
        scratch.merged = merged;
    } else {
        Growth { sources, params, scratch, tree, found: 0 }.run(context);
    }
}

/// One tree, growing.
struct Growth<'a> {
    sources: Sources<'a>,
    params: &'a RetrievalParams,
    scratch: &'a mut Scratch,
    tree: &'a mut DraftTree,
    /// Candidates found so far.
    found: u32,
}

impl Growth<'_> {
    fn run(mut self, context: &[TokenId]) {
        self.match_context(context);
        self.find_candidates(0);
        let mut nodes_spent = 0;
        while nodes_spent < self.params.draft_length
            && let Some(candidate) = self.scratch.heap.pop()
        {
            let cost = self.cost(candidate.parent);
            if nodes_spent + cost > self.params.draft_length {
                continue;
            }
            nodes_spent += cost;
            let node = self.add(&candidate);
            if nodes_spent < self.params.draft_length {
                self.match_child(node);
                self.find_candidates(node);
            }
        }
    }

    /// Nodes that a child of `parent` costs: in the parallel shape, a second child opens a branch of its own.
    fn cost(&self, parent: u32) -> usize {
        let parent = parent as usize;
        if self.params.shape == DraftShape::Parallel && self.scratch.is_inner[parent] {
            self.scratch.depths[parent] as usize + 1
        } else {
            1
        }
    }

    fn add(&mut self, candidate: &Candidate) -> u32 {
        let parent = candidate.parent as usize;
        self.scratch.is_inner[parent] = true;
        self.scratch.is_inner.push(false);
        self.scratch.depths.push(self.scratch.depths[parent] + 1);
        self.tree.push(candidate.parent, candidate.token, candidate.probability)
    }

    /// Starts over at the root: looks up every suffix of the context, the shortest first, until one was never seen.
    fn match_context(&mut self, context: &[TokenId]) {
        let scratch = &mut *self.scratch;
        scratch.matches.clear();
        scratch.spans.clear();
        scratch.heap.clear();
        scratch.depths.clear();
        scratch.depths.push(0);
        scratch.is_inner.clear();
        scratch.is_inner.push(false);
        let mut span = Span::default();
        for (source, forest) in self.sources.iter().enumerate() {
            span.start[source] = scratch.matches.len();
            if let Some(forest) = forest {
                let longest = self.params.match_length.min(forest.max_match_length()).min(context.len());
                let suffixes = (1..=longest).map(|length| &context[context.len() - length..]);
                scratch.matches.extend(suffixes.map_while(|suffix| forest.find(suffix)));
            }
            span.end[source] = scratch.matches.len();
        }
        scratch.spans.push(span);
    }

    /// Finds the matches of a new node from those of its parent: each goes one step down, and a new one begins.
    fn match_child(&mut self, node: u32) {
        let token = self.tree.tokens()[node as usize];
        let above = self.scratch.spans[self.tree.parents()[node as usize] as usize];
        let matches = &mut self.scratch.matches;
        let mut span = Span::default();
        for (source, forest) in self.sources.iter().enumerate() {
            span.start[source] = matches.len();
            if let Some(forest) = forest {
                let longest =
                    self.params.match_length.min(forest.max_match_length()).min(above.len(source) + 1);
                for length in 0..longest {
                    let from = if length == 0 { ROOT } else { matches[above.start[source] + length - 1] };
                    let Some(child) = forest.child(from, token) else { break };
                    matches.push(child);
                }
            }
            span.end[source] = matches.len();
        }
        self.scratch.spans.push(span);
    }

    /// Puts all likely continuations of `node` on the heap; in the single shape, the likeliest one.
    fn find_candidates(&mut self, node: u32) {
        let Scratch { matches, spans, depths, candidates, heap, .. } = &mut *self.scratch;
        if depths[node as usize] as usize >= self.params.branch_length {
            return;
        }
        let span = spans[node as usize];
        let sources = self.sources;
        let longest = span.len(0).max(span.len(1));
        let ranked = (1..=longest).rev().flat_map(|length| [(length, 0), (length, 1)]);
        let witnesses =
            ranked.filter(|&(length, source)| length <= span.len(source)).filter_map(|(length, source)| {
                Some(Witness {
                    forest: sources[source]?,
                    node: matches[span.start[source] + length - 1],
                    match_length: length,
                    is_private: source == 0,
                })
            });
        estimate(witnesses, candidates);
        if self.params.shape == DraftShape::Single {
            keep_first_greatest(candidates);
        }
        let above = self.tree.probabilities()[node as usize];
        for &(token, probability) in candidates.iter() {
            let probability = above * probability;
            if probability >= self.params.min_probability {
                let found = self.found;
                self.found += 1;
                heap.push(Candidate { probability, found, parent: node, token });
            }
        }
    }
}

fn keep_first_greatest(candidates: &mut Vec<(TokenId, f32)>) {
    let greatest = candidates.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
    candidates.clear();
    candidates.extend(greatest);
}

/// Writes every branch of `merged` to `tree` with nodes of its own, the one whose last node was chosen first in front.
fn lay_side_by_side(merged: &DraftTree, is_inner: &[bool], tree: &mut DraftTree) {
    for leaf in (1..merged.len()).filter(|&node| !is_inner[node]) {
        let first = tree.len();
        merged.climb(leaf as u32, |node| {
            tree.push(0, merged.tokens()[node as usize], merged.probabilities()[node as usize]);
        });
        tree.turn_into_chain(first);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::estimate::NEGLIGIBLE;
    use crate::forest::OpenBranches;
    use crate::{DraftSource, TokenId};

    const BRANCH_LENGTH: usize = 5;

    /// How often each token followed `suffix` in `text`, by looking.
    fn followers(text: &[TokenId], suffix: &[TokenId]) -> HashMap<TokenId, usize> {
        let mut followers = HashMap::new();
        for window in text.windows(suffix.len() + 1).filter(|window| window.starts_with(suffix)) {
            *followers.entry(window[suffix.len()]).or_insert(0) += 1;
        }
        followers
    }

    /// The formula of the `estimate` module, straight from the texts: private first.
    fn naive_estimate(texts: [&[TokenId]; 2], context: &[TokenId], token: TokenId) -> f32 {
        let (mut probability, mut untrusted) = (0.0, 1.0);
        for length in (1..=context.len().min(BRANCH_LENGTH - 1)).rev() {
            for (text, is_private) in [(texts[0], true), (texts[1], false)] {
                let followers = followers(text, &context[context.len() - length..]);
                let continuations = followers.values().sum::<usize>() as f32;
                if continuations == 0.0 || untrusted < NEGLIGIBLE {
                    continue;
                }
                let k = match (is_private, length) {
                    (true, 1..=4) => (6 - length) as f32 + 2.0 * (followers.len() - 1) as f32,
                    (true, _) => 1.0 + 2.0 * (followers.len() - 1) as f32,
                    (false, _) => 12.0,
                };
                let frequency = followers.get(&token).copied().unwrap_or(0) as f32;
                probability += untrusted * frequency / (continuations + k);
                untrusted *= k / (continuations + k);
            }
        }
        probability - 0.06 * f32::powf(probability, 8.0)
    }

    /// Path probabilities of every branch of up to `depth` tokens, the greatest first.
    fn naive_draft(texts: [&[TokenId]; 2], context: &[TokenId], depth: usize) -> Vec<(Vec<TokenId>, f32)> {
        let mut all: Vec<(Vec<TokenId>, f32)> = Vec::new();
        let mut level = vec![(Vec::new(), 1.0)];
        for _ in 0..depth {
            let mut next = Vec::new();
            for (path, above) in &level {
                let extended = [context, path].concat();
                for token in 0..5 {
                    let probability = above * naive_estimate(texts, &extended, token);
                    if probability > 0.0 {
                        next.push(([&path[..], &[token]].concat(), probability));
                    }
                }
            }
            all.extend_from_slice(&next);
            level = next;
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }

    proptest! {
        #[test]
        fn a_draft_holds_the_likeliest_paths_of_all(
            prompt in prop::collection::vec(0u32..5, 1..30),
            corpus in prop::collection::vec(0u32..5, 0..60),
            draft_length in 1usize..20,
            depth in 1usize..5,
        ) {
            let mut private = Forest::new(BRANCH_LENGTH, 1 << 20);
            private.extend(&mut OpenBranches::default(), &prompt);
            let mut shared = Forest::new(BRANCH_LENGTH, 1 << 20);
            shared.extend(&mut OpenBranches::default(), &corpus);
            let params = RetrievalParams {
                draft_length,
                branch_length: depth,
                match_length: usize::MAX,
                min_probability: 0.0,
                source: DraftSource::Mixed,
                shape: DraftShape::Hierarchical,
            };
            let mut tree = DraftTree::default();
            retrieve([Some(&private), Some(&shared)], &prompt, &params, &mut Scratch::default(), &mut tree);

            let naive = naive_draft([&prompt, &corpus], &prompt, depth);
            prop_assert_eq!(tree.len() - 1, naive.len().min(draft_length));
            let by_path: HashMap<_, _> = naive.iter().cloned().collect();
            for node in 1..tree.len() {
                let mut path = Vec::new();
                tree.climb(node as u32, |node| path.push(tree.tokens()[node as usize]));
                path.reverse();
                let probability = tree.probabilities()[node];
                let close = |other: f32| (probability - other).abs() <= 1e-5 * other;
                // It is the path's probability, and it has its rank among all paths.
                prop_assert!(by_path.get(&path).is_some_and(|&other| close(other)), "{:?}", path);
                prop_assert!(close(naive[node - 1].1), "rank {}: {} {}", node, probability, naive[node - 1].1);
            }
        }
    }
}
