//! A tree of all substrings up to some length, with how often they occurred.
//!
//! A path that occurred once has no nodes: its last node points into the text. So a text takes hardly more nodes than it
//! repeats itself, without the splitting of edges that a compressed tree needs.

use std::collections::HashMap;

use lookahead_model::TokenId;

/// Tokens of the longest path.
pub(crate) const DEPTH: usize = 64;

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// What stands behind the last token of a text. No token has this id.
const END: TokenId = TokenId::MAX;

/// Where a path leads: a substring that occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To a node.
    Node(u32),
    /// Behind a node that occurred once: on to this token of the text, which is so many tokens from the root.
    Text { next: u32, depth: u32 },
}

#[derive(Debug)]
struct Node {
    token: TokenId,
    count: u32,
    depth: u32,
    first_child: u32,
    next_sibling: u32,
    /// Where its only continuation stands in the text, while it has occurred once.
    only: u32,
}

/// The tree of several texts.
#[derive(Debug)]
pub(crate) struct SuffixTree {
    text: Vec<TokenId>,
    nodes: Vec<Node>,
    children: HashMap<(u32, TokenId), u32>,
    /// The nodes of all suffixes of the current text that have occurred before.
    open: Vec<u32>,
}

impl Default for SuffixTree {
    fn default() -> Self {
        let root = Node { token: END, count: 0, depth: 0, first_child: NONE, next_sibling: NONE, only: NONE };
        Self { text: Vec::new(), nodes: vec![root], children: HashMap::new(), open: Vec::new() }
    }
}

impl SuffixTree {
    /// Appends to the current text.
    pub(crate) fn extend(&mut self, tokens: &[TokenId]) {
        for &token in tokens {
            self.append(token);
        }
    }

    /// Ends the current text; what is appended next belongs to another.
    pub(crate) fn end_text(&mut self) {
        self.text.push(END);
        self.open.clear();
    }

    fn append(&mut self, token: TokenId) {
        self.text.push(token);
        self.open.push(ROOT);
        let mut open = std::mem::take(&mut self.open);
        open.retain_mut(|node| {
            if let Some(&child) = self.children.get(&(*node, token)) {
                self.count_again(child);
                *node = child;
                (self.nodes[child as usize].depth as usize) < DEPTH
            } else {
                let next = self.text.len() as u32;
                self.add_child(*node, token, next);
                false
            }
        });
        self.open = open;
    }

    /// Counts another occurrence of `node`. What followed the first one becomes a node.
    fn count_again(&mut self, node: u32) {
        let Node { count, only, depth, .. } = &mut self.nodes[node as usize];
        *count += 1;
        let next = std::mem::replace(only, NONE);
        if next != NONE && (*depth as usize) < DEPTH {
            let token = self.text[next as usize];
            if token != END {
                self.add_child(node, token, next + 1);
            }
        }
    }

    /// Adds a child that has occurred once, followed by the text from `next` on.
    fn add_child(&mut self, parent: u32, token: TokenId, next: u32) {
        let child = self.nodes.len() as u32;
        let above = &mut self.nodes[parent as usize];
        let next_sibling = std::mem::replace(&mut above.first_child, child);
        let depth = above.depth + 1;
        self.nodes.push(Node { token, count: 1, depth, first_child: NONE, next_sibling, only: next });
        self.children.insert((parent, token), child);
    }

    /// Where `path`, at least one token, leads; `None` if it did not occur.
    pub(crate) fn find(&self, path: &[TokenId]) -> Option<Place> {
        path.iter().try_fold(Place::Node(ROOT), |place, &token| match place {
            Place::Node(node) if self.nodes[node as usize].only == NONE => {
                self.children.get(&(node, token)).map(|&child| Place::Node(child))
            }
            _ => self.only_follower(place).filter(|follower| follower.0 == token).map(|follower| follower.1),
        })
    }

    /// Calls `visit` with each token that followed `place`, its share of the occurrences, and where it leads.
    pub(crate) fn followers(&self, place: Place, mut visit: impl FnMut(TokenId, f32, Place)) {
        if let Some((token, place)) = self.only_follower(place) {
            visit(token, 1.0, place);
        } else if let Place::Node(node) = place {
            let count = self.nodes[node as usize].count as f32;
            let mut child = self.nodes[node as usize].first_child;
            while child != NONE {
                let Node { token, count: of_child, next_sibling, .. } = self.nodes[child as usize];
                visit(token, of_child as f32 / count, Place::Node(child));
                child = next_sibling;
            }
        }
    }

    /// The token behind a place that occurred once.
    fn only_follower(&self, place: Place) -> Option<(TokenId, Place)> {
        let (next, depth) = match place {
            Place::Node(node) => (self.nodes[node as usize].only, self.nodes[node as usize].depth),
            Place::Text { next, depth } => (next, depth),
        };
        let token = self.text.get(next as usize).copied().filter(|&token| token != END)?;
        ((depth as usize) < DEPTH).then_some((token, Place::Text { next: next + 1, depth: depth + 1 }))
    }

    /// Memory that it takes: its lists, and the hash map at a byte of control and 8/7 of its entries.
    pub(crate) fn bytes(&self) -> usize {
        let entries = self.children.capacity() * 8 / 7 * (size_of::<((u32, TokenId), u32)>() + 1);
        self.text.capacity() * size_of::<TokenId>() + self.nodes.capacity() * size_of::<Node>() + entries
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against counting by looking. Texts of two tokens reach the greatest depth.
        #[test]
        fn shares_are_those_of_all_occurrences(
            texts in prop::collection::vec(prop::collection::vec(0u32..3, 1..90), 1..4),
            period in 1usize..8,
            from in 0usize..90,
            length in 1usize..70,
        ) {
            let mut texts = texts;
            let repeated = texts[0].iter().copied().cycle().take(period).collect::<Vec<_>>().repeat(20);
            texts.push(repeated);
            let mut tree = SuffixTree::default();
            for text in &texts {
                tree.extend(text);
                tree.end_text();
            }
            for text in &texts {
                let from = from.min(text.len() - 1);
                let path = &text[from..text.len().min(from + length)];
                let windows = || texts.iter().flat_map(|text| (0..text.len()).map(|at| &text[at..]));
                let occurrences = windows().filter(|rest| rest.starts_with(path)).count();
                let mut expected = BTreeMap::new();
                if path.len() < DEPTH {
                    for rest in windows().filter(|rest| rest.starts_with(path) && rest.len() > path.len()) {
                        *expected.entry(rest[path.len()]).or_insert(0.0) += 1.0 / occurrences as f32;
                    }
                }
                let mut found = BTreeMap::new();
                if let Some(place) = tree.find(path) {
                    tree.followers(place, |token, share, _| {
                        found.insert(token, share);
                    });
                } else {
                    prop_assert!(path.len() > DEPTH);
                }
                prop_assert_eq!(found.len(), expected.len());
                for ((token, share), (other, expected)) in found.into_iter().zip(expected) {
                    prop_assert!(token == other && (share - expected).abs() < 1e-4, "{} {}", share, expected);
                }
            }
        }
    }

    #[test]
    fn a_text_that_never_repeats_takes_a_node_a_token() {
        let mut tree = SuffixTree::default();
        tree.extend(&(0..1000).collect::<Vec<_>>());
        assert_eq!(tree.nodes.len(), 1001);
        tree.end_text();
        assert_eq!(tree.find(&(5..69).collect::<Vec<_>>()), Some(Place::Text { next: 69, depth: 64 }));
        assert_eq!(tree.find(&(5..70).collect::<Vec<_>>()), None, "too deep");
    }
}
