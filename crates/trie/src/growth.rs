//! Growth of a draft tree, best-first.
//!
//! Of all tokens that could continue any of its nodes, the one of the greatest path probability comes next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::departure::Departure;
use crate::draft_origin::DraftOrigin;
use crate::draft_params::{DraftParams, DraftShape};
use crate::node_evidence::{Knowledge, NodeEvidence};
use crate::trust::{ANSWERED, OWN, RESPELLED, RESUMED, RETURNED, SHARED, Trust};
use crate::{DraftTree, TokenId};

/// A draft tree and what its nodes rest on.
#[derive(Default)]
pub(crate) struct Growth {
    tree: DraftTree,
    /// The end of the context that it continues.
    context: Vec<TokenId>,
    evidence: NodeEvidence,
    depths: Vec<usize>,
    /// The context, then the branch of the node that is looked at.
    branch: Vec<TokenId>,
    heap: BinaryHeap<Candidate>,
}

/// A token that may become a node. Greater is better: the likelier first, then the one that was found first, which is
/// the one of the longer match, then the more recent one.
struct Candidate {
    probability: f32,
    /// Rises with each candidate: every one that leaves the heap becomes a node.
    entered: usize,
    parent: u32,
    token: TokenId,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.probability.total_cmp(&other.probability).then(other.entered.cmp(&self.entered))
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

impl Growth {
    /// The draft.
    pub(crate) fn tree(&self) -> &DraftTree {
        &self.tree
    }

    /// Drafts what may follow `context`, the end of the request's text.
    pub(crate) fn grow(
        &mut self,
        knowledge: Knowledge<'_>,
        trust: &mut Trust,
        context: &[TokenId],
        params: DraftParams,
    ) {
        self.forget();
        let Some(&root) = context.last() else { return };
        self.context.extend_from_slice(context);
        self.tree.reset(root);
        self.depths.push(0);
        if params.nodes == 0 {
            return;
        }
        self.climb_to(0);
        self.evidence.add(knowledge, &mut self.branch, None);
        self.offer(trust, 0, params);
        while self.tree.len() <= params.nodes
            && let Some(Candidate { probability, parent, token, .. }) = self.heap.pop()
        {
            let node = self.tree.push(parent, token, probability);
            self.depths.push(self.depths[parent as usize] + 1);
            self.climb_to(node);
            self.evidence.add(knowledge, &mut self.branch, Some((parent, token)));
            if self.tree.len() <= params.nodes {
                self.offer(trust, node, params);
            }
        }
    }

    /// Drops the draft: nothing is learned from it any more.
    pub(crate) fn forget(&mut self) {
        self.tree.clear();
        self.context.clear();
        self.evidence.clear();
        self.depths.clear();
        self.heap.clear();
    }

    /// Teaches `trust` that `tokens` followed, as far as the draft knew about them, keeps `departure` up to date, and calls `visit`
    /// with the estimated probability of each child of the nodes that were passed, and whether it is the token that followed.
    pub(crate) fn learn(
        &self,
        trust: &mut Trust,
        departure: &mut Option<Departure>,
        tokens: &[TokenId],
        mut visit: impl FnMut(f32, bool),
    ) {
        let mut node = 0;
        for &token in tokens {
            if self.evidence.len() <= node {
                return;
            }
            let evidence = self.evidence.of(node);
            trust.learn(&evidence, token);
            *departure = Departure::after(*departure, evidence.occurrences[OWN], token);
            let mut next = None;
            for child in node + 1..self.tree.len() {
                if self.tree.parents()[child] as usize == node {
                    let is_next = self.tree.tokens()[child] == token;
                    visit(self.tree.probabilities()[child] / self.tree.probabilities()[node], is_next);
                    next = next.or(is_next.then_some(child));
                }
            }
            let Some(next) = next else { return };
            node = next;
        }
    }

    /// What `node`, not the root, was taken from. The request's own text begins at `own_start`, behind its references.
    pub(crate) fn origin(&self, node: usize, own_start: u32) -> DraftOrigin {
        let (parent, token) = (self.tree.parents()[node] as usize, self.tree.tokens()[node]);
        let longest =
            self.evidence.of(parent).occurrences.into_iter().enumerate().filter_map(|(source, found)| {
                let first = found.iter().find(|occurrence| occurrence.token == token)?;
                Some((first.length, source, first.next))
            });
        // Of equally long matches that of the first source.
        match longest.reduce(|best, other| if other.0 > best.0 { other } else { best }) {
            None => DraftOrigin::RunnersUp,
            Some((_, OWN | RESUMED | RETURNED | RESPELLED, next)) if next < own_start => {
                DraftOrigin::Reference
            }
            Some((_, OWN | RESUMED | RETURNED | RESPELLED, _)) => DraftOrigin::Prompt,
            Some((_, ANSWERED | SHARED, _)) => DraftOrigin::Output,
            Some(_) => DraftOrigin::Corpus,
        }
    }

    /// Makes `branch` the context and the tokens down to `node`.
    fn climb_to(&mut self, node: u32) {
        self.branch.clear();
        self.branch.extend_from_slice(&self.context);
        let (branch, tree) = (&mut self.branch, &self.tree);
        tree.climb(node, |node| branch.push(tree.tokens()[node as usize]));
        branch[self.context.len()..].reverse();
    }

    /// Enters what may follow `node`.
    fn offer(&mut self, trust: &mut Trust, node: u32, params: DraftParams) {
        if self.depths[node as usize] >= params.depth {
            return;
        }
        let above = self.tree.probabilities()[node as usize];
        let mut heap = std::mem::take(&mut self.heap);
        for follower in trust.estimate(&self.evidence.of(node as usize)) {
            let probability = above * follower.probability;
            if probability > 0.0 && probability >= params.min_probability {
                let entered = heap.len() + self.tree.len();
                let candidate = Candidate { probability, entered, parent: node, token: follower.token };
                match heap.peek() {
                    Some(best) if params.shape == DraftShape::Single && *best >= candidate => {}
                    Some(_) if params.shape == DraftShape::Single => {
                        heap.clear();
                        heap.push(candidate);
                    }
                    _ => heap.push(candidate),
                }
            }
        }
        self.heap = heap;
    }
}
