//! The draft tree: what the trie proposes and the model verifies in one forward pass.

use crate::{TokenId, TrieError};

/// Drafted tokens as a tree. Node 0 is the root, the last token of the context; the others are drafts, each below a
/// parent of smaller index. Every node has an estimated path probability: that of the model producing the whole branch
/// from the root to this node. It never increases along a branch.
///
/// The draft of a request without any text is empty.
///
/// In the parallel shape siblings may carry the same token: verification must then follow each of them. In the other
/// shapes siblings differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DraftTree {
    tokens: Vec<TokenId>,
    parents: Vec<u32>,
    probabilities: Vec<f32>,
}

impl DraftTree {
    /// A tree of the given parts, one entry per node in each. For drafts that come from elsewhere than the trie.
    ///
    /// `parents[0]` is ignored: node 0 is the root.
    ///
    /// # Errors
    /// If the lengths differ, a parent does not precede its child, or a probability is outside of 0 to 1 or above its
    /// parent's.
    pub fn new(
        tokens: Vec<TokenId>,
        mut parents: Vec<u32>,
        probabilities: Vec<f32>,
    ) -> Result<Self, TrieError> {
        if tokens.len() != parents.len() || tokens.len() != probabilities.len() {
            return Err(TrieError::NotATree("tokens, parents and probabilities differ in length"));
        }
        if let Some(root) = parents.first_mut() {
            *root = 0;
        }
        for node in 0..tokens.len() {
            let parent = parents[node] as usize;
            if node > 0 && parent >= node {
                return Err(TrieError::NotATree("a parent does not precede its child"));
            }
            if !(0.0..=1.0).contains(&probabilities[node]) || probabilities[node] > probabilities[parent] {
                return Err(TrieError::NotATree("a probability is outside of 0 to 1 or above its parent's"));
            }
        }
        Ok(Self { tokens, parents, probabilities })
    }

    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is not even a root.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Token of each node.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Parent of each node; the root's entry is 0 and means nothing.
    pub fn parents(&self) -> &[u32] {
        &self.parents
    }

    /// Estimated path probability of each node; 1 for the root.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// Nodes of the branch that is expected to be accepted furthest (the greatest sum of path probabilities), root
    /// first: the draft for engines that verify chains.
    pub fn best_chain(&self) -> Vec<u32> {
        let mut expected: Vec<f32> = Vec::with_capacity(self.len());
        let mut best = 0;
        for node in 0..self.len() {
            let above = if node == 0 { 0.0 } else { expected[self.parents[node] as usize] };
            expected.push(above + self.probabilities[node]);
            if expected[node] > expected[best] {
                best = node;
            }
        }
        let mut chain = Vec::new();
        if !self.is_empty() {
            self.climb(best as u32, |node| chain.push(node));
            chain.push(0);
            chain.reverse();
        }
        chain
    }

    /// Keeps the first `len` nodes. As parents precede their children, that is a tree.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.parents.truncate(len);
        self.probabilities.truncate(len);
    }

    /// The branches side by side, the likeliest leaves first, as many whole ones as `nodes` allow besides the root; and for each
    /// node the one of this tree that it repeats.
    pub(crate) fn side_by_side(&self, nodes: usize) -> (Self, Vec<u32>) {
        let (mut parallel, mut repeats) = (Self::default(), vec![0]);
        let Some(&root) = self.tokens.first() else { return (parallel, Vec::new()) };
        parallel.reset(root);
        let is_leaf = |node: &u32| !self.parents[*node as usize + 1..].contains(node);
        let mut leaves: Vec<u32> = (1..self.len() as u32).filter(is_leaf).collect();
        leaves.sort_by(|&a, &b| self.probabilities[b as usize].total_cmp(&self.probabilities[a as usize]));
        for leaf in leaves {
            let mut branch = Vec::new();
            self.climb(leaf, |node| branch.push(node as usize));
            if parallel.len() + branch.len() > nodes + 1 {
                break;
            }
            let mut parent = 0;
            for &node in branch.iter().rev() {
                parent = parallel.push(parent, self.tokens[node], self.probabilities[node]);
                repeats.push(node as u32);
            }
        }
        (parallel, repeats)
    }

    /// Calls `visit` with `node` and its ancestors, deepest first, the root left out.
    pub(crate) fn climb(&self, mut node: u32, mut visit: impl FnMut(u32)) {
        while node != 0 {
            visit(node);
            node = self.parents[node as usize];
        }
    }

    /// Forgets all nodes and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.parents.clear();
        self.probabilities.clear();
    }

    /// Starts over with a root.
    pub(crate) fn reset(&mut self, root: TokenId) {
        self.clear();
        self.push(0, root, 1.0);
    }

    /// Adds a node and returns its index.
    pub(crate) fn push(&mut self, parent: u32, token: TokenId, probability: f32) -> u32 {
        let index = self.tokens.len() as u32;
        self.tokens.push(token);
        self.parents.push(parent);
        self.probabilities.push(probability);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_chain_has_the_greatest_expected_accepted_length() {
        // Node 2 is the likeliest child, but the branch over node 1 promises 0.4 + 0.4 + 0.4.
        let tree =
            DraftTree::new(vec![9, 1, 2, 3, 4], vec![0, 0, 0, 1, 3], vec![1.0, 0.4, 0.6, 0.4, 0.4]).unwrap();
        assert_eq!(tree.best_chain(), [0, 1, 3, 4]);
        assert_eq!(DraftTree::new(vec![9], vec![0], vec![1.0]).unwrap().best_chain(), [0]);
        assert!(DraftTree::default().best_chain().is_empty());
    }

    #[test]
    fn the_first_nodes_of_a_tree_are_a_tree() {
        let (tokens, parents) = ([9, 1, 2, 3, 4], [0, 0, 1, 0, 2]);
        let probabilities = [1.0, 0.6, 0.5, 0.4, 0.3];
        let of_first = |len: usize| {
            let (tokens, parents) = (tokens[..len].to_vec(), parents[..len].to_vec());
            DraftTree::new(tokens, parents, probabilities[..len].to_vec()).unwrap()
        };
        for len in 0..=5 {
            let mut tree = of_first(5);
            tree.truncate(len);
            assert_eq!(tree, of_first(len));
        }
        let mut tree = of_first(2);
        tree.truncate(7);
        assert_eq!(tree, of_first(2));
    }

    #[test]
    fn what_is_no_draft_tree_is_refused() {
        let new = |parents: &[u32], probabilities: &[f32]| {
            DraftTree::new(vec![1; 3], parents.to_vec(), probabilities.to_vec())
        };
        assert!(new(&[7, 0, 1], &[1.0, 0.5, 0.5]).is_ok());
        assert!(new(&[0, 0], &[1.0, 0.5, 0.5]).is_err());
        assert!(new(&[0, 2, 0], &[1.0, 0.5, 0.5]).is_err());
        assert!(new(&[0, 0, 1], &[1.0, 0.5, 0.6]).is_err());
        assert!(new(&[0, 0, 1], &[1.0, f32::NAN, 0.5]).is_err());
    }
}
