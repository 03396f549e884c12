//! Verification: the longest path of a tree that the model itself would have produced.

use lookahead_model::{TokenId, TokenTree};

/// What verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The accepted path: node indices, the root first.
    pub path: Vec<u32>,
    /// The token chosen at each node of the path. All but the last were drafted; the last comes free.
    pub tokens: Vec<TokenId>,
}

/// Walks `tree` as plain decoding would: choose the token after this node; if a child carries it, go there,
/// else stop.
///
/// The walk starts at node `root`: 0 for a draft tree, the last node for a chunk of a prompt, whose tokens
/// are given. `choose` gets a node and the tokens up to and including it, and gives the token that plain decoding would
/// choose there; with `None` the walk stops before that node. `history` are the tokens up to and including the root; it is
/// the same again afterwards.
pub fn verify(
    tree: &TokenTree,
    root: usize,
    mut choose: impl FnMut(usize, &[TokenId]) -> Option<TokenId>,
    history: &mut Vec<TokenId>,
) -> Verified {
    let before = history.len();
    // Siblings may carry the same token (branches drafted side by side do). Their logits are the same, so the
    // walk follows all of them together: one may go on where another ends.
    let (mut here, mut end) = (vec![root], None);
    while let Some(&node) = here.first()
        && let Some(token) = choose(node, history)
    {
        history.push(token);
        end = Some(node);
        here = children_with(tree, &here, token);
    }
    let path = end.map_or_else(Vec::new, |end| tree.path_to(end).split_off(tree.depths()[root] as usize));
    Verified { path, tokens: history.split_off(before) }
}

/// The children of any of `nodes` (ascending) that carry `token`, ascending.
fn children_with(tree: &TokenTree, nodes: &[usize], token: TokenId) -> Vec<usize> {
    (nodes[0] + 1..tree.len())
        .filter(|&child| tree.tokens()[child] == token && nodes.contains(&(tree.parents()[child] as usize)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sampler, SamplingParams};

    /// A walk where the model says `says[node]`, whatever came before.
    fn walk(tree: &TokenTree, root: usize, says: &[TokenId], history: &[TokenId]) -> Verified {
        verify(tree, root, |node, _| Some(says[node]), &mut history.to_vec())
    }

    #[test]
    fn the_walk_follows_the_chosen_tokens_and_adds_one_more() {
        // Root 7; children 1 and 2; under 2 a 1, which has a 3.
        let tree = TokenTree::new(vec![7, 1, 2, 1, 3], vec![0, 0, 0, 2, 3]).unwrap();
        // The model says: root → 2, node 1 → 0, node 2 → 1, node 3 → 0, node 4 → 0.
        let verified = walk(&tree, 0, &[2, 0, 1, 0, 0], &[5, 7]);
        assert_eq!(verified, Verified { path: vec![0, 2, 3], tokens: vec![2, 1, 0] });
    }

    #[test]
    fn of_branches_side_by_side_the_one_that_goes_on_is_followed() {
        // Branches 1 2 3 and 1 2 4 without shared nodes; the model says 1 2 4 5.
        let tree = TokenTree::new(vec![0, 1, 2, 3, 1, 2, 4], vec![0, 0, 1, 2, 0, 4, 5]).unwrap();
        let verified = walk(&tree, 0, &[1, 2, 4, 8, 2, 4, 5], &[0]);
        assert_eq!(verified, Verified { path: vec![0, 4, 5, 6], tokens: vec![1, 2, 4, 5] });
    }

    #[test]
    fn the_walk_stops_before_a_node_that_is_not_chosen_at() {
        let chain = TokenTree::chain(&[7, 1, 2]).unwrap();
        let walk = |until| {
            let choose = |node, _: &[TokenId]| (node < until).then_some([1, 2, 3][node]);
            verify(&chain, 0, choose, &mut vec![7])
        };
        assert_eq!(walk(2), Verified { path: vec![0, 1], tokens: vec![1, 2] });
        assert_eq!(walk(0), Verified { path: Vec::new(), tokens: Vec::new() });
    }

    #[test]
    fn the_last_token_of_a_prompt_chooses_one() {
        let chunk = TokenTree::chain(&[1, 2, 3]).unwrap();
        let verified = walk(&chunk, 2, &[0, 0, 8], &[1, 2, 3]);
        assert_eq!(verified, Verified { path: vec![2], tokens: vec![8] });
    }

    #[test]
    fn penalties_see_the_ancestors_of_a_node_and_nothing_else() {
        // The root's two children carry 1 and 2; the model prefers 1 a little everywhere, a repeated token
        // loses.
        let tree = TokenTree::new(vec![0, 1, 2, 2, 1], vec![0, 0, 0, 1, 2]).unwrap();
        let row = [0.0, 1.0, 0.9];
        let params = SamplingParams { frequency_penalty: 0.5, ..SamplingParams::greedy() };
        let (mut sampler, mut history) = (Sampler::new(params).unwrap(), vec![0]);
        let choose = |_, history: &[TokenId]| Some(sampler.choose(&row, history, history.len() as u64));
        let verified = verify(&tree, 0, choose, &mut history);
        // 1; then 2, as 1 has occurred once on this path; then 1 again (0.5 against 0.4).
        assert_eq!(verified, Verified { path: vec![0, 1, 3], tokens: vec![1, 2, 1] });
        assert_eq!(history, [0]);
    }
}
