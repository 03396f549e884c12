//! Growth of a draft tree, best-first.
//!
//! Of all tokens that could continue any of its nodes, the one of the greatest path probability comes next. A node knows
//! where the context with the branch that leads to it occurred before: where its parent's occurrences went on as it does,
//! and where those are few, what a fresh look finds.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::history::{FindLimits, History, Occurrence};
use crate::runners_up::{CONTEXTS, RANKS, RunnersUp};
use crate::trust::{Evidence, RESUMED, SHARED, SOURCES, Trust};
use crate::{DraftTree, TokenId};

/// Occurrences of the context that are looked at for each order, the latest first.
const ROOT_LIMITS: FindLimits = FindLimits { most: 24, enough: usize::MAX };

/// As above, behind a drafted token.
const NODE_LIMITS: FindLimits = FindLimits { most: 6, enough: 4 };

/// A node that inherits so many occurrences does not look for others.
const ENOUGH: usize = 4;

/// What is known to a request: its own text and runners-up, and those that it shares.
#[derive(Clone, Copy)]
pub(crate) struct Knowledge<'a> {
    /// The request's own text first.
    pub(crate) histories: &'a [&'a dyn History],
    /// Of those, the ones that each source looks into.
    pub(crate) sources: [(usize, usize); SOURCES],
    /// Those asked first, first.
    pub(crate) runners_up: [&'a RunnersUp; 2],
}

/// How the branches of a draft are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DraftShape {
    /// Branches that begin alike share their nodes: the most branches for the nodes spent.
    #[default]
    Hierarchical,
    /// Branches side by side from the root, each with all of its nodes.
    Parallel,
    /// The one branch that follows the likeliest token at every node.
    Single,
}

/// What drafts are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DraftSource {
    /// The request's own text: its prompt, its references and its output so far.
    Prompt,
    /// What is shared: outputs of other requests, corpora, and runners-up.
    Output,
    /// Both, competing by estimated probability.
    #[default]
    Mixed,
}

/// What a drafted token was taken from: where the longest match of its context was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DraftOrigin {
    /// The request's own text: its prompt and its output so far.
    Prompt,
    /// The request's references.
    Reference,
    /// What the namespace shares: outputs of other requests, and its file.
    Output,
    /// A corpus.
    Corpus,
    /// Tokens that the model held likely where the same tokens stood before.
    RunnersUp,
}

/// What a draft may look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftParams {
    /// The most nodes, the root not counted.
    pub nodes: usize,
    /// The greatest depth of a node; the root's is 0.
    pub depth: usize,
    /// Nodes of a smaller estimated path probability are not drafted.
    pub min_probability: f32,
    /// How its branches are laid out.
    pub shape: DraftShape,
    /// What it is taken from.
    pub source: DraftSource,
}

impl Default for DraftParams {
    /// Sixteen nodes: what a forward pass on a CPU carries at little more than the price of one.
    fn default() -> Self {
        Self {
            nodes: 16,
            depth: 16,
            min_probability: 0.01,
            shape: DraftShape::Hierarchical,
            source: DraftSource::Mixed,
        }
    }
}

/// A draft tree and what its nodes rest on.
#[derive(Default)]
pub(crate) struct Growth {
    tree: DraftTree,
    /// The end of the context that it continues.
    context: Vec<TokenId>,
    /// Of all nodes and sources; see `spans`.
    occurrences: Vec<Occurrence>,
    /// For each node, where its occurrences lie, by source.
    spans: Vec<[Range<usize>; SOURCES]>,
    /// For each node, what the model held likely behind its last tokens.
    runners_up: Vec<[Option<[TokenId; RANKS]>; CONTEXTS]>,
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
        self.look(knowledge, None, ROOT_LIMITS);
        self.offer(trust, 0, params);
        while self.tree.len() <= params.nodes
            && let Some(Candidate { probability, parent, token, .. }) = self.heap.pop()
        {
            let node = self.tree.push(parent, token, probability);
            self.depths.push(self.depths[parent as usize] + 1);
            self.climb_to(node);
            self.look(knowledge, Some((parent, token)), NODE_LIMITS);
            if self.tree.len() <= params.nodes {
                self.offer(trust, node, params);
            }
        }
    }

    /// Drops the draft: nothing is learned from it any more.
    pub(crate) fn forget(&mut self) {
        self.tree.clear();
        self.context.clear();
        self.occurrences.clear();
        self.spans.clear();
        self.runners_up.clear();
        self.depths.clear();
        self.heap.clear();
    }

    /// Teaches `trust` that `tokens` followed, as far as the draft knew about them, and calls `visit` with the estimated
    /// probability of each child of the nodes that were passed, and whether it is the token that followed.
    pub(crate) fn learn(&self, trust: &mut Trust, tokens: &[TokenId], mut visit: impl FnMut(f32, bool)) {
        let mut node = 0;
        for &token in tokens {
            if self.spans.len() <= node {
                return;
            }
            trust.learn(&self.evidence(node), token);
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
            self.evidence(parent).occurrences.into_iter().enumerate().filter_map(|(source, found)| {
                let first = found.iter().find(|occurrence| occurrence.token == token)?;
                Some((first.length, source, first.next))
            });
        // Of equally long matches that of the first source.
        match longest.reduce(|best, other| if other.0 > best.0 { other } else { best }) {
            None => DraftOrigin::RunnersUp,
            Some((_, 0 | RESUMED, next)) if next < own_start => DraftOrigin::Reference,
            Some((_, 0 | RESUMED, _)) => DraftOrigin::Prompt,
            Some((_, SHARED, _)) => DraftOrigin::Output,
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

    /// Finds the occurrences of `branch`; those of its parent that went on with its token are enough if they are not few.
    fn look(&mut self, knowledge: Knowledge<'_>, parent: Option<(u32, TokenId)>, limits: FindLimits) {
        let mut spans = [const { 0..0 }; SOURCES];
        for (source, span) in spans.iter_mut().enumerate() {
            let start = self.occurrences.len();
            if let Some((parent, token)) = parent {
                for index in self.spans[parent as usize][source].clone() {
                    let here = self.occurrences[index];
                    if here.token == token {
                        self.occurrences.extend(knowledge.histories[here.history as usize].on(here));
                    }
                }
            }
            // A copy that resumed goes on; behind a guess there is none to look for.
            let may_look = parent.is_none() || (source != RESUMED && self.occurrences.len() - start < ENOUGH);
            if may_look {
                self.occurrences.truncate(start);
                let (first, end) = knowledge.sources[source];
                for number in first..end {
                    let (history, found) = (knowledge.histories[number], &mut self.occurrences);
                    if source == RESUMED {
                        history.find_resumed(&self.branch, limits, number as u8, found);
                    } else {
                        history.find(&self.branch, limits, number as u8, found);
                    }
                }
                self.occurrences[start..].sort_unstable_by_key(|occurrence| occurrence.rank());
            }
            *span = start..self.occurrences.len();
        }
        self.spans.push(spans);
        let [own, shared] = knowledge.runners_up.map(|table| table.of(&self.branch));
        self.runners_up.push(std::array::from_fn(|context| own[context].or(shared[context])));
    }

    /// Enters what may follow `node`.
    fn offer(&mut self, trust: &mut Trust, node: u32, params: DraftParams) {
        if self.depths[node as usize] >= params.depth {
            return;
        }
        let above = self.tree.probabilities()[node as usize];
        let mut heap = std::mem::take(&mut self.heap);
        for follower in trust.estimate(&self.evidence(node as usize)) {
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

    /// What is known about `node`.
    fn evidence(&self, node: usize) -> Evidence<'_> {
        let spans = &self.spans[node];
        let occurrences = std::array::from_fn(|source| &self.occurrences[spans[source].clone()]);
        Evidence { occurrences, runners_up: self.runners_up[node] }
    }
}

/// The branches of `tree` side by side, the likeliest leaves first, as many whole ones as `nodes` allow besides the root;
/// and for each node the one of `tree` that it repeats.
pub(crate) fn side_by_side(tree: &DraftTree, nodes: usize) -> (DraftTree, Vec<u32>) {
    let (mut parallel, mut repeats) = (DraftTree::default(), vec![0]);
    let Some(&root) = tree.tokens().first() else { return (parallel, Vec::new()) };
    parallel.reset(root);
    let is_leaf = |node: &u32| !tree.parents()[*node as usize + 1..].contains(node);
    let mut leaves: Vec<u32> = (1..tree.len() as u32).filter(is_leaf).collect();
    leaves.sort_by(|&a, &b| tree.probabilities()[b as usize].total_cmp(&tree.probabilities()[a as usize]));
    for leaf in leaves {
        let mut branch = Vec::new();
        tree.climb(leaf, |node| branch.push(node as usize));
        if parallel.len() + branch.len() > nodes + 1 {
            break;
        }
        let mut parent = 0;
        for &node in branch.iter().rev() {
            parent = parallel.push(parent, tree.tokens()[node], tree.probabilities()[node]);
            repeats.push(node as u32);
        }
    }
    (parallel, repeats)
}
