//! The forest against a naive model: a map from every path to how many branches run through it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::MIN_BYTES;

const PLENTY: usize = 64 << 20;

impl Forest {
    /// Panics unless links, sums, frequencies and the table are consistent.
    pub(crate) fn check_invariants(&self) {
        let mut reached = 1;
        for parent in 0..self.nodes.len() as u32 {
            let mut previous = parent;
            let mut sum = 0;
            for child in self.child_indices(parent) {
                let node = &self.nodes[child as usize];
                assert!(child > parent, "parents come first");
                assert_eq!(node.previous, previous, "lists are linked both ways");
                assert!(node.frequency > 0);
                assert!(parent == ROOT || node.frequency <= self.nodes[parent as usize].frequency);
                assert_eq!(self.child(parent, node.token), Some(child), "every child is found, and once");
                sum += node.frequency;
                previous = child;
                reached += 1;
            }
            assert_eq!(self.continuations(parent), sum);
        }
        assert_eq!(reached, self.nodes.len(), "every node hangs in the forest");
        assert!(self.bytes() <= self.max_bytes, "{} of {} bytes", self.bytes(), self.max_bytes);
    }

    /// Every path with its frequency.
    fn paths(&self) -> HashMap<Vec<TokenId>, u32> {
        let mut paths = HashMap::new();
        let mut open = vec![(ROOT, Vec::new())];
        while let Some((parent, path)) = open.pop() {
            for child in self.child_indices(parent) {
                let Child { token, frequency } = self.node(child);
                let mut longer = path.clone();
                longer.push(token);
                paths.insert(longer.clone(), frequency);
                open.push((child, longer));
            }
        }
        paths
    }

    /// Everything that retrieval and later insertions can see.
    fn dump(&self) -> Vec<(u32, u32, u32, u32)> {
        self.nodes
            .iter()
            .map(|node| (node.token, node.frequency, node.first_child, node.next_sibling))
            .collect()
    }
}

fn naive_paths(texts: &[Vec<TokenId>], branch_length: usize) -> HashMap<Vec<TokenId>, u32> {
    let mut paths = HashMap::new();
    for text in texts {
        for start in 0..text.len() {
            for end in start + 1..=text.len().min(start + branch_length) {
                *paths.entry(text[start..end].to_vec()).or_insert(0) += 1;
            }
        }
    }
    paths
}

fn texts(tokens: u32) -> impl Strategy<Value = Vec<Vec<TokenId>>> {
    prop::collection::vec(prop::collection::vec(0..tokens, 0..60), 1..5)
}

proptest! {
    #[test]
    fn the_forest_counts_every_branch_of_sequences_that_grow_side_by_side(
        texts in prop_oneof![texts(3), texts(12), texts(1000)],
        pieces in prop::collection::vec((0usize..4, 1usize..9), 0..40),
        branch_length in 2usize..8,
    ) {
        let mut forest = Forest::new(branch_length, PLENTY);
        let mut growing: Vec<_> = texts.iter().map(|text| (OpenBranches::default(), &text[..])).collect();
        let rest = (0..texts.len()).map(|text| (text, usize::MAX));
        for (text, length) in pieces.into_iter().chain(rest) {
            let Some((open, left)) = growing.get_mut(text) else { continue };
            let (piece, after) = left.split_at(length.min(left.len()));
            forest.extend(open, piece);
            *left = after;
        }
        forest.check_invariants();
        prop_assert_eq!(forest.paths(), naive_paths(&texts, branch_length));
    }

    #[test]
    fn in_pieces_or_at_once_gives_the_same_forest_even_while_pruning(
        seed in prop::collection::vec(0u32..400, 200),
        cuts in prop::collection::vec(1usize..50, 1..20),
    ) {
        // Long enough to be pruned several times at the smallest bound.
        let text: Vec<_> = (0..8_000u32).map(|i| seed[i as usize % 200] * (1 + i / 1_000)).collect();
        let mut at_once = Forest::new(8, MIN_BYTES);
        at_once.extend(&mut OpenBranches::default(), &text);
        let mut in_pieces = Forest::new(8, MIN_BYTES);
        let (mut open, mut left) = (OpenBranches::default(), &text[..]);
        for cut in cuts.into_iter().cycle() {
            let (piece, after) = left.split_at(cut.min(left.len()));
            in_pieces.extend(&mut open, piece);
            left = after;
            if left.is_empty() {
                break;
            }
        }
        at_once.check_invariants();
        prop_assert!(at_once.node_count() < 3_000, "it was pruned");
        prop_assert_eq!(at_once.dump(), in_pieces.dump());
    }

    #[test]
    fn the_memory_bound_holds_whatever_is_inserted(
        (branch_length, tokens) in prop_oneof![Just((255, 2)), Just((255, 100_000)), Just((2, 100_000)), Just((12, 50))],
        seed in any::<u64>(),
    ) {
        let mut forest = Forest::new(branch_length, MIN_BYTES);
        let mut random = seed | 1;
        let mut open = OpenBranches::default();
        for _ in 0..40 {
            let text: Vec<u32> = (0..100)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 33) as u32 % tokens
                })
                .collect();
            forest.extend(&mut open, &text);
            prop_assert!(forest.bytes() <= MIN_BYTES);
        }
        forest.check_invariants();
        prop_assert!(forest.node_count() > 0);
    }
}

#[test]
fn every_child_of_a_wide_node_is_found() {
    let mut forest = Forest::new(2, PLENTY);
    let mut open = OpenBranches::default();
    for round in 1..=2 {
        for token in 1..5_000 {
            forest.extend(&mut open, &[0, token]);
        }
        forest.check_invariants();
        assert_eq!(forest.find(&[0, 4_321]).map(|node| forest.node(node).frequency), Some(round));
    }
}

#[test]
fn children_are_listed_by_recency() {
    let mut forest = Forest::new(2, PLENTY);
    forest.extend(&mut OpenBranches::default(), &[1, 5, 1, 6, 1, 7, 1, 5]);
    let children = forest.children(forest.find(&[1]).unwrap()).map(|child| (child.token, child.frequency));
    assert_eq!(children.collect::<Vec<_>>(), [(5, 2), (7, 1), (6, 1)]);
}

#[test]
fn pruning_keeps_frequent_paths_and_of_the_rare_ones_the_youngest() {
    let mut forest = Forest::new(4, MIN_BYTES);
    for _ in 0..50 {
        forest.extend(&mut OpenBranches::default(), &[1, 2, 3, 4]);
    }
    // Fresh tokens only: each starts a rare branch. Enough for a few prunings, each of which halves.
    let rare: Vec<u32> = (100..1_100).collect();
    forest.extend(&mut OpenBranches::default(), &rare);
    forest.check_invariants();
    assert!(forest.node_count() < 3_000);
    let frequency = |path: &[u32]| forest.find(path).map(|node| forest.node(node).frequency);
    assert!(frequency(&[1, 2, 3, 4]).is_some_and(|frequency| (1..50).contains(&frequency)));
    assert_eq!(frequency(&[100, 101]), None);
    assert_eq!(frequency(&[1_096, 1_097, 1_098, 1_099]), Some(1));
}

#[test]
fn open_branches_of_another_forest_are_not_mistaken_for_this_ones() {
    let mut open = OpenBranches::default();
    Forest::new(4, PLENTY).extend(&mut open, &[1, 2, 3, 4, 5]);
    let mut other = Forest::new(4, PLENTY);
    other.extend(&mut open, &[6, 7]);
    assert_eq!(other.paths(), naive_paths(&[vec![6, 7]], 4));
}
