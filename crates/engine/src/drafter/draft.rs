//! A draft: a tree of tokens, how likely each is estimated to be accepted, and what it was taken from.

use lookahead_model::{TokenId, TokenTree};
use lookahead_trie::DraftOrigin;

/// How large a draft tree may be. The root does not count: it is no draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftLimits {
    /// Nodes besides the root.
    pub nodes: usize,
    /// Depth of the deepest node; the root's is 0.
    pub depth: usize,
}

/// A draft tree. Node 0 is its root, the last token of the context.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    tree: TokenTree,
    /// Of each node: the estimated probability that the model produces the path to it; 1 for the root.
    probabilities: Vec<f32>,
    /// Of each node; the root's means nothing.
    origins: Vec<DraftOrigin>,
}

impl From<TokenTree> for Draft {
    /// A draft of which nothing is known but its tokens.
    fn from(tree: TokenTree) -> Self {
        let (probabilities, origins) = (vec![1.0; tree.len()], vec![DraftOrigin::Other; tree.len()]);
        Self { tree, probabilities, origins }
    }
}

impl Draft {
    /// The root alone: `context` is not empty.
    pub fn root(context: &[TokenId]) -> Self {
        TokenTree::chain(&context[context.len() - 1..]).expect("one token is a chain").into()
    }

    /// A draft with an estimated path probability, from 1 downwards, and an origin for each node; the root's origin means
    /// nothing. `None` if there are not as many of each as nodes.
    pub fn new(tree: TokenTree, probabilities: Vec<f32>, origins: Vec<DraftOrigin>) -> Option<Self> {
        let fits = probabilities.len() == tree.len() && origins.len() == tree.len();
        fits.then_some(Self { tree, probabilities, origins })
    }

    /// Its tokens.
    pub fn tree(&self) -> &TokenTree {
        &self.tree
    }

    /// The estimated path probability of each node.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// What each node was taken from.
    pub fn origins(&self) -> &[DraftOrigin] {
        &self.origins
    }

    /// The part of it that may run: within `limits`, without the nodes that `may_run` refuses and what hangs off them.
    /// `may_run` is asked for nodes whose parents stay, in their order.
    #[must_use]
    pub(crate) fn cut(self, limits: DraftLimits, mut may_run: impl FnMut(&TokenTree, usize) -> bool) -> Self {
        let mut cut = Builder::new(self.tree.tokens()[0]);
        let mut new_index = vec![None; self.tree.len()];
        new_index[0] = Some(0);
        for node in 1..self.tree.len() {
            let parent = new_index[self.tree.parents()[node] as usize];
            let fits = cut.tokens.len() <= limits.nodes && self.tree.depths()[node] as usize <= limits.depth;
            if let Some(parent) = parent.filter(|_| fits && may_run(&self.tree, node)) {
                new_index[node] = Some(cut.add(
                    parent,
                    self.tree.tokens()[node],
                    self.probabilities[node],
                    self.origins[node],
                ));
            }
        }
        cut.build()
    }

    /// The tree with a branch of `tokens` from the root that are certain to be accepted, in front of all others. What it
    /// shares with the draft is merged.
    #[must_use]
    pub(crate) fn with_certain(self, tokens: &[TokenId]) -> Self {
        if tokens.is_empty() {
            return self;
        }
        let mut merged = Builder::new(self.tree.tokens()[0]);
        let mut last = 0;
        for &token in tokens {
            last = merged.add(last, token, 1.0, DraftOrigin::Constraint);
        }
        let mut new_index = vec![0; self.tree.len()];
        for node in 1..self.tree.len() {
            let (parent, token) = (new_index[self.tree.parents()[node] as usize], self.tree.tokens()[node]);
            let known =
                (1..merged.tokens.len()).find(|&n| merged.parents[n] == parent && merged.tokens[n] == token);
            new_index[node] = known.map_or_else(
                || merged.add(parent, token, self.probabilities[node], self.origins[node]),
                |known| known as u32,
            );
        }
        merged.build()
    }

    /// Keeps the first `nodes` nodes, at least the root.
    pub(crate) fn truncate(&mut self, nodes: usize) {
        let nodes = nodes.max(1);
        if nodes < self.tree.len() {
            let (tokens, parents) = (&self.tree.tokens()[..nodes], &self.tree.parents()[..nodes]);
            self.tree = TokenTree::new(tokens.to_vec(), parents.to_vec()).expect("parents precede children");
            self.probabilities.truncate(nodes);
            self.origins.truncate(nodes);
        }
    }
}

/// A draft in the making.
struct Builder {
    tokens: Vec<TokenId>,
    parents: Vec<u32>,
    probabilities: Vec<f32>,
    origins: Vec<DraftOrigin>,
}

impl Builder {
    fn new(root: TokenId) -> Self {
        Self {
            tokens: vec![root],
            parents: vec![0],
            probabilities: vec![1.0],
            origins: vec![DraftOrigin::Other],
        }
    }

    fn add(&mut self, parent: u32, token: TokenId, probability: f32, origin: DraftOrigin) -> u32 {
        self.tokens.push(token);
        self.parents.push(parent);
        self.probabilities.push(probability);
        self.origins.push(origin);
        self.tokens.len() as u32 - 1
    }

    fn build(self) -> Draft {
        let tree = TokenTree::new(self.tokens, self.parents).expect("nodes follow their parents");
        Draft { tree, probabilities: self.probabilities, origins: self.origins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(tokens: &[TokenId], parents: &[u32]) -> Draft {
        TokenTree::new(tokens.to_vec(), parents.to_vec()).unwrap().into()
    }

    /// Cut to `limits` and to tokens below 9.
    fn cut(draft: Draft, limits: DraftLimits) -> Draft {
        draft.cut(limits, |tree, node| tree.tokens()[node] < 9)
    }

    #[test]
    fn a_draft_within_its_limits_is_not_cut() {
        let within = draft(&[1, 2, 3, 4], &[0, 0, 1, 0]);
        assert_eq!(cut(within.clone(), DraftLimits { nodes: 3, depth: 2 }), within);
    }

    #[test]
    fn a_cut_takes_descendants_along() {
        let whole = draft(&[1, 2, 3, 4, 5, 6], &[0, 0, 1, 0, 3, 2]);
        let all = DraftLimits { nodes: 9, depth: 9 };
        // Token 9 may not run: nodes 2 and 5 hang off it.
        let unknown = draft(&[1, 9, 3, 4, 5, 6], &[0, 0, 1, 0, 3, 2]);
        assert_eq!(cut(unknown, all), draft(&[1, 4, 5], &[0, 0, 1]));
        assert_eq!(cut(whole.clone(), DraftLimits { depth: 1, ..all }), draft(&[1, 2, 4], &[0, 0, 0]));
        assert_eq!(cut(whole.clone(), DraftLimits { nodes: 2, ..all }), draft(&[1, 2, 3], &[0, 0, 1]));
        assert_eq!(cut(whole, DraftLimits { nodes: 0, depth: 0 }), draft(&[1], &[0]));
    }

    #[test]
    fn what_is_certain_comes_first_and_is_merged() {
        let tree = TokenTree::new(vec![1, 2, 3, 4], vec![0, 0, 1, 0]).unwrap();
        let some = Draft::new(tree, vec![1.0, 0.5, 0.4, 0.3], vec![DraftOrigin::Output; 4]).unwrap();
        let merged = some.clone().with_certain(&[2, 7]);
        assert_eq!(merged.tree().tokens(), [1, 2, 7, 3, 4]);
        assert_eq!(merged.tree().parents(), [0, 0, 1, 1, 0]);
        assert_eq!(merged.probabilities(), [1.0, 1.0, 1.0, 0.4, 0.3]);
        assert_eq!(
            merged.origins()[1..],
            [DraftOrigin::Constraint, DraftOrigin::Constraint, DraftOrigin::Output, DraftOrigin::Output]
        );
        assert_eq!(some.clone().with_certain(&[]), some);
    }

    #[test]
    fn the_first_nodes_of_a_draft_are_a_draft() {
        let mut some = draft(&[1, 2, 3, 4], &[0, 0, 1, 0]);
        some.truncate(9);
        assert_eq!(some.tree().len(), 4);
        some.truncate(2);
        assert_eq!(some, draft(&[1, 2], &[0, 0]));
        some.truncate(0);
        assert_eq!(some, draft(&[1], &[0]));
    }
}
