//! The method of Zhao et al., "Lookahead: An Inference Acceleration Framework for Large Language Model with Lossless
//! Generation Accuracy" (KDD 2024): a trie of branches with frequencies, of prompts and of outputs.

use std::collections::{BTreeMap, BinaryHeap};

use lookahead_model::TokenId;
use lookahead_trie::{DraftShape, DraftTree};

use crate::drafter::{Draft, ReplayDrafter};
use crate::stream::Stream;

/// Tokens that follow the first of a branch.
const BRANCH_LENGTH: usize = 12;

/// The longest suffix of the context that is looked up.
const LONGEST_MATCH: usize = 8;

/// Drafts the most frequent branches behind the longest suffix of the context that has enough of them.
pub(crate) struct PaperDrafter {
    shape: DraftShape,
    /// Its children are the first tokens of branches.
    root: Node,
    nodes: usize,
    prompt: Vec<TokenId>,
    output: Vec<TokenId>,
}

/// Whose branches are counted.
#[derive(Clone, Copy)]
enum Source {
    /// The current request's prompt.
    Prompt,
    /// Outputs, of this request and of the warm-up.
    Output,
}

/// How often a path occurred. No child occurred more often than its parent.
#[derive(Default)]
struct Node {
    children: BTreeMap<TokenId, Node>,
    in_prompt: u32,
    in_outputs: u32,
}

impl Node {
    fn count(&mut self, source: Source) -> &mut u32 {
        match source {
            Source::Prompt => &mut self.in_prompt,
            Source::Output => &mut self.in_outputs,
        }
    }

    /// The mix of prompt and output frequency that branches are ranked by.
    fn weight(&self) -> u32 {
        self.in_prompt + self.in_outputs
    }

    /// The children, the most frequent first.
    fn ranked(&self) -> Vec<(TokenId, &Self)> {
        let mut ranked: Vec<_> = self.children.iter().map(|(&token, child)| (token, child)).collect();
        ranked.sort_by_key(|(_, child)| std::cmp::Reverse(child.weight()));
        ranked
    }

    fn find(&self, path: &[TokenId]) -> Option<&Self> {
        path.iter().try_fold(self, |node, token| node.children.get(token))
    }

    /// Forgets one occurrence of `branch`, and returns how many nodes that were.
    fn remove(&mut self, branch: &[TokenId], source: Source) -> usize {
        let [token, rest @ ..] = branch else { return 0 };
        let Some(child) = self.children.get_mut(token) else { return 0 };
        *child.count(source) -= 1;
        let removed = child.remove(rest, source);
        // Whatever is below has not occurred more often, so nothing is left there either.
        let is_gone = child.weight() == 0;
        if is_gone {
            self.children.remove(token);
        }
        removed + usize::from(is_gone)
    }
}

/// A node that may be drafted. The more frequent first, then the deeper, then the one found first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    weight: u32,
    depth: u32,
    found: std::cmp::Reverse<u32>,
}

impl PaperDrafter {
    pub(crate) fn new(shape: DraftShape) -> Self {
        Self { shape, root: Node::default(), nodes: 0, prompt: Vec::new(), output: Vec::new() }
    }

    /// Counts all branches of `text` that end at its tokens from `from` on.
    fn insert(root: &mut Node, nodes: &mut usize, text: &[TokenId], from: usize, source: Source) {
        for end in from..text.len() {
            for start in end.saturating_sub(BRANCH_LENGTH)..=end {
                let mut node = &mut *root;
                for &token in &text[start..=end] {
                    node = node.children.entry(token).or_insert_with(|| {
                        *nodes += 1;
                        Node::default()
                    });
                }
                *node.count(source) += 1;
            }
        }
    }

    fn remove(&mut self, text: &[TokenId], source: Source) {
        for start in 0..text.len() {
            let end = text.len().min(start + BRANCH_LENGTH + 1);
            self.nodes -= self.root.remove(&text[start..end], source);
        }
    }

    /// The draft behind `node`, of up to `budget` nodes.
    fn collect(&self, node: &Node, root: TokenId, budget: usize) -> Draft {
        let mut draft = Draft::new(root);
        match self.shape {
            DraftShape::Hierarchical => collect_hierarchical(node, budget, &mut draft),
            DraftShape::Parallel => {
                collect_parallel(node, node.weight(), budget, &mut Vec::new(), &mut draft);
            }
            DraftShape::Single => collect_single(node, budget, &mut draft),
        }
        draft
    }
}

/// The share of a branch among all that pass the matched node.
fn share(node: &Node, all: u32) -> f32 {
    node.weight() as f32 / all as f32
}

fn collect_hierarchical(matched: &Node, budget: usize, draft: &mut Draft) {
    let mut heap = BinaryHeap::new();
    let mut found: Vec<(u32, TokenId, &Node)> = Vec::new();
    let mut open = Some((0, 0, matched));
    while let Some((index, depth, node)) = open {
        for (&token, child) in &node.children {
            let rank = std::cmp::Reverse(found.len() as u32);
            heap.push(Candidate { weight: child.weight(), depth: depth + 1, found: rank });
            found.push((index, token, child));
        }
        open = heap.pop().filter(|_| draft.len() < budget).map(|candidate| {
            let (parent, token, node) = found[candidate.found.0 as usize];
            (draft.add(parent, token, share(node, matched.weight())), candidate.depth, node)
        });
    }
}

/// Adds the branches below `node`, each behind its own copy of `path`, which leads there.
fn collect_parallel<'a>(
    node: &'a Node,
    all: u32,
    budget: usize,
    path: &mut Vec<(TokenId, &'a Node)>,
    draft: &mut Draft,
) {
    if node.children.is_empty() {
        let mut parent = 0;
        for &(token, node) in path.iter().take(budget - draft.len()) {
            parent = draft.add(parent, token, share(node, all));
        }
    }
    for (token, child) in node.ranked() {
        if draft.len() < budget {
            path.push((token, child));
            collect_parallel(child, all, budget, path, draft);
            path.pop();
        }
    }
}

fn collect_single(matched: &Node, budget: usize, draft: &mut Draft) {
    let (mut node, mut parent) = (matched, 0);
    while draft.len() < budget
        && let Some(&(token, child)) = node.ranked().first()
    {
        parent = draft.add(parent, token, share(child, matched.weight()));
        node = child;
    }
}

impl ReplayDrafter for PaperDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        Self::insert(&mut self.root, &mut self.nodes, prompt, 0, Source::Prompt);
        self.prompt.extend_from_slice(prompt);
    }

    fn draft(&mut self, budget: usize, tree: &mut DraftTree) {
        let from = self.prompt.len().saturating_sub(LONGEST_MATCH);
        let context =
            [&self.prompt[from..], &self.output[self.output.len().saturating_sub(LONGEST_MATCH)..]].concat();
        let Some(&root) = context.last() else { return };
        let long_enough = budget.min(BRANCH_LENGTH);
        let mut draft = Draft::new(root);
        for length in (1..=LONGEST_MATCH.min(context.len())).rev() {
            if let Some(node) = self.root.find(&context[context.len() - length..]) {
                draft = self.collect(node, root, budget);
                if draft.len() >= long_enough {
                    break;
                }
            }
        }
        *tree = draft.into_tree();
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        let from = self.output.len();
        self.output.extend_from_slice(tokens);
        Self::insert(&mut self.root, &mut self.nodes, &self.output, from, Source::Output);
    }

    fn finish(&mut self) {
        let (prompt, output) = (std::mem::take(&mut self.prompt), std::mem::take(&mut self.output));
        self.remove(&prompt, Source::Prompt);
        self.remove(&output, Source::Output);
    }

    fn warm_up(&mut self, stream: &Stream) {
        Self::insert(&mut self.root, &mut self.nodes, &stream.output_ids, 0, Source::Output);
    }

    /// Most nodes are the only child of their parent, which takes a leaf of 11 entries.
    fn bytes(&self) -> usize {
        self.nodes * (size_of::<Node>() + 11 * (size_of::<TokenId>() + size_of::<Node>()))
    }
}
