//! The tokens of one sequence in one forward pass, as a tree: prefill is the chain, a decode step the draft tree.

use lookahead_trie::TokenId;

/// New tokens of one sequence, each with its parent: a tree that hangs off the tokens already in the KV cache.
///
/// Node 0 is the root; its parent is the last cached token. Every other node's parent has a smaller index, which is
/// checked once, here, so that the forward pass need not ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTree {
    tokens: Vec<TokenId>,
    parents: Vec<u32>,
    depths: Vec<u32>,
}

/// A list of tokens and parents that is no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTreeError {
    /// There is no root.
    #[error("a token tree needs at least one token")]
    Empty,
    /// One parent per token is needed.
    #[error("{tokens} tokens but {parents} parents")]
    LengthMismatch {
        /// Number of tokens given.
        tokens: usize,
        /// Number of parents given.
        parents: usize,
    },
    /// A parent must come before its child.
    #[error("node {node} has parent {parent}: parents must precede their children")]
    ParentAfterChild {
        /// The child's index.
        node: usize,
        /// The parent's index that was given.
        parent: u32,
    },
}

impl TokenTree {
    /// A chain: each token follows the one before it. The case of prefill and of plain decoding.
    ///
    /// # Errors
    /// If `tokens` is empty.
    pub fn chain(tokens: &[TokenId]) -> Result<Self, TokenTreeError> {
        if tokens.is_empty() {
            return Err(TokenTreeError::Empty);
        }
        let depths: Vec<u32> = (0..tokens.len() as u32).collect();
        let parents = depths.iter().map(|&depth| depth.saturating_sub(1)).collect();
        Ok(Self { tokens: tokens.to_vec(), parents, depths })
    }

    /// A tree: `parents[i]` is the index of node `i`'s parent; `parents[0]` is ignored (node 0 is the root).
    ///
    /// # Errors
    /// If there is no token, if the lengths differ, or if a parent does not precede its child.
    pub fn new(tokens: Vec<TokenId>, mut parents: Vec<u32>) -> Result<Self, TokenTreeError> {
        if tokens.is_empty() {
            return Err(TokenTreeError::Empty);
        }
        if tokens.len() != parents.len() {
            return Err(TokenTreeError::LengthMismatch { tokens: tokens.len(), parents: parents.len() });
        }
        parents[0] = 0;
        let mut depths = vec![0u32; tokens.len()];
        for node in 1..tokens.len() {
            let parent = parents[node];
            if parent as usize >= node {
                return Err(TokenTreeError::ParentAfterChild { node, parent });
            }
            depths[node] = depths[parent as usize] + 1;
        }
        Ok(Self { tokens, parents, depths })
    }

    /// Number of nodes, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Token of each node.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Parent of each node; the root's entry is 0 and means nothing.
    pub fn parents(&self) -> &[u32] {
        &self.parents
    }

    /// Depth of each node: 0 for the root. A node's position is the cached length plus its depth.
    pub fn depths(&self) -> &[u32] {
        &self.depths
    }

    /// The node's path from the root to itself, root first.
    pub fn path_to(&self, node: usize) -> Vec<u32> {
        let mut path = vec![node as u32; self.depths[node] as usize + 1];
        for i in (0..path.len() - 1).rev() {
            path[i] = self.parents[path[i + 1] as usize];
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_the_tree_whose_parents_are_the_previous_nodes() {
        let chain = TokenTree::chain(&[5, 6, 7]).unwrap();
        assert_eq!(chain, TokenTree::new(vec![5, 6, 7], vec![9, 0, 1]).unwrap());
        assert_eq!(chain.depths(), [0, 1, 2]);
    }

    #[test]
    fn a_path_runs_from_the_root_to_the_node() {
        let tree = TokenTree::new(vec![1, 2, 3, 4, 5], vec![0, 0, 0, 1, 3]).unwrap();
        assert_eq!(tree.path_to(4), [0, 1, 3, 4]);
        assert_eq!(tree.path_to(2), [0, 2]);
        assert_eq!(tree.path_to(0), [0]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        assert_eq!(TokenTree::chain(&[]), Err(TokenTreeError::Empty));
        assert_eq!(
            TokenTree::new(vec![1, 2], vec![0]),
            Err(TokenTreeError::LengthMismatch { tokens: 2, parents: 1 })
        );
        assert_eq!(
            TokenTree::new(vec![1, 2, 3], vec![0, 2, 0]),
            Err(TokenTreeError::ParentAfterChild { node: 1, parent: 2 })
        );
    }
}
