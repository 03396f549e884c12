//! The forest: every branch of every inserted sequence, as nodes of 24 bytes in one arena.
//!
//! A branch is a run of up to `branch_length` tokens that starts at any position of a sequence; branches that begin
//! alike share nodes, and a node counts how many of them run through it. Children hang in a list, the most recently
//! seen one first. A node with more than [`NARROW`] children has its edges in a hash table besides, so that finding a
//! child takes constant time however wide a node gets; the first tokens of branches are always found by that table.
//!
//! Two facts hold at every moment and carry the rest: a child's index is greater than its parent's, and a child's
//! frequency is at most its parent's.

mod edges;
mod prune;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::TokenId;
use edges::EdgeTable;

/// No node.
const NONE: u32 = u32::MAX;

/// The node above the first tokens of all branches. It carries no token.
pub(crate) const ROOT: u32 = 0;

/// Children that are looked for along the list; beyond that the hash table is asked.
const NARROW: usize = 4;

/// The most nodes that a forest can number.
const MAX_NODES: usize = NONE as usize - 1;

#[derive(Clone, Copy)]
struct Node {
    token: TokenId,
    /// Branches that run through this node, since decayed by pruning.
    frequency: u32,
    /// Sum of the children's frequencies: branches that went on from here.
    continuations: u32,
    first_child: u32,
    next_sibling: u32,
    /// The sibling before this one; the parent, for a first child.
    previous: u32,
}

impl Node {
    const fn new(token: TokenId, previous: u32) -> Self {
        Self { token, frequency: 0, continuations: 0, first_child: NONE, next_sibling: NONE, previous }
    }
}

/// Where a growing sequence stands in a forest: for each length, the node of the branch of that many tokens that ends
/// at the sequence's last token. The next token extends all of them.
#[derive(Debug, Default)]
pub(crate) struct OpenBranches {
    nodes: Vec<u32>,
    version: u64,
}

/// A child as retrieval sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) token: TokenId,
    pub(crate) frequency: u32,
}

/// See the module's documentation.
pub(crate) struct Forest {
    nodes: Vec<Node>,
    edges: EdgeTable,
    branch_length: usize,
    max_bytes: usize,
    /// Changes whenever node indices change their meaning. Unique in the process, so that open branches of another
    /// forest are never taken for this one's.
    version: u64,
    tokens_inserted: u64,
}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1); // 0 is the version of `OpenBranches::default()`
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Forest {
    /// An empty forest. The limits are those that `TrieConfig` has checked.
    pub(crate) fn new(branch_length: usize, max_bytes: usize) -> Self {
        Self {
            nodes: vec![Node::new(0, NONE)],
            edges: EdgeTable::default(),
            branch_length,
            max_bytes,
            version: next_version(),
            tokens_inserted: 0,
        }
    }

    pub(crate) fn branch_length(&self) -> usize {
        self.branch_length
    }

    /// Nodes, without the root.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len() - 1
    }

    /// The longest suffix of a context that can have a continuation in this forest.
    pub(crate) fn max_match_length(&self) -> usize {
        self.branch_length - 1
    }

    /// Allocated bytes of arena and table.
    pub(crate) fn bytes(&self) -> usize {
        bytes_for(self.nodes.capacity(), self.edges.slots())
    }

    pub(crate) fn tokens_inserted(&self) -> u64 {
        self.tokens_inserted
    }

    /// Appends `tokens` to the sequence that `open` stands at the end of. In pieces or at once: the forest is the same.
    pub(crate) fn extend(&mut self, open: &mut OpenBranches, tokens: &[TokenId]) {
        for &token in tokens {
            self.push(open, token);
        }
        self.tokens_inserted += tokens.len() as u64;
    }

    fn push(&mut self, open: &mut OpenBranches, token: TokenId) {
        self.make_room();
        if open.version != self.version {
            // Pruned since: the sequence's last branches end here, and new ones start.
            open.version = self.version;
            open.nodes.clear();
            open.nodes.reserve_exact(self.branch_length);
        }
        open.nodes.truncate(self.branch_length - 1);
        // Each branch moves one place up, beginning with the longest; the newest starts at the root.
        open.nodes.push(NONE);
        for length in (1..open.nodes.len()).rev() {
            open.nodes[length] = self.count(open.nodes[length - 1], token);
        }
        open.nodes[0] = self.count(ROOT, token);
    }

    /// Counts one branch that goes on from `parent` with `token`, and returns the child.
    fn count(&mut self, parent: u32, token: TokenId) -> u32 {
        let child = self.child_or_insert(parent, token);
        let node = &mut self.nodes[child as usize];
        node.frequency = node.frequency.saturating_add(1);
        let above = &mut self.nodes[parent as usize];
        above.continuations = above.continuations.saturating_add(1);
        // The root's children are never listed by retrieval, so their order does not matter.
        if parent != ROOT && above.first_child != child {
            self.move_to_front(parent, child);
        }
        child
    }

    /// The child of `parent` that carries `token`.
    pub(crate) fn child(&self, parent: u32, token: TokenId) -> Option<u32> {
        if parent == ROOT {
            return self.edges.get(ROOT, token);
        }
        let mut child = self.nodes[parent as usize].first_child;
        for _ in 0..NARROW {
            if child == NONE {
                return None;
            }
            let node = &self.nodes[child as usize];
            if node.token == token {
                return Some(child);
            }
            child = node.next_sibling;
        }
        if child == NONE { None } else { self.edges.get(parent, token) }
    }

    fn child_or_insert(&mut self, parent: u32, token: TokenId) -> u32 {
        if parent == ROOT {
            return self.edges.get(ROOT, token).unwrap_or_else(|| {
                let child = self.push_child(ROOT, token);
                self.edges.insert(ROOT, token, child);
                child
            });
        }
        let mut child = self.nodes[parent as usize].first_child;
        let mut seen = 0;
        while child != NONE && seen < NARROW {
            let node = &self.nodes[child as usize];
            if node.token == token {
                return child;
            }
            child = node.next_sibling;
            seen += 1;
        }
        if seen < NARROW {
            self.push_child(parent, token)
        } else if child == NONE {
            let new = self.push_child(parent, token);
            self.index_children(parent);
            new
        } else {
            self.edges.get(parent, token).unwrap_or_else(|| {
                let new = self.push_child(parent, token);
                self.edges.insert(parent, token, new);
                new
            })
        }
    }

    /// Adds a child in front of the list. Room was made before.
    fn push_child(&mut self, parent: u32, token: TokenId) -> u32 {
        let index = self.nodes.len() as u32;
        let mut node = Node::new(token, parent);
        node.next_sibling = self.nodes[parent as usize].first_child;
        if node.next_sibling != NONE {
            self.nodes[node.next_sibling as usize].previous = index;
        }
        self.nodes[parent as usize].first_child = index;
        self.nodes.push(node);
        index
    }

    fn move_to_front(&mut self, parent: u32, child: u32) {
        let Node { previous, next_sibling, .. } = self.nodes[child as usize];
        self.nodes[previous as usize].next_sibling = next_sibling;
        if next_sibling != NONE {
            self.nodes[next_sibling as usize].previous = previous;
        }
        let first = std::mem::replace(&mut self.nodes[parent as usize].first_child, child);
        self.nodes[first as usize].previous = child;
        let node = &mut self.nodes[child as usize];
        node.previous = parent;
        node.next_sibling = first;
    }

    /// Adds a node read from a file in front of `parent`'s children; `None` if there are too many. The memory bound
    /// is lifted until [`Self::finish_loading`], which must follow.
    pub(crate) fn load_child(&mut self, parent: u32, token: TokenId, frequency: u32) -> Option<u32> {
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let child = self.push_child(parent, token);
        self.nodes[child as usize].frequency = frequency;
        Some(child)
    }

    /// Makes a forest of the nodes that were loaded. `false` if two siblings carry the same token.
    pub(crate) fn finish_loading(&mut self, tokens_inserted: u64) -> bool {
        self.tokens_inserted = tokens_inserted;
        self.nodes.shrink_to_fit();
        self.index_edges();
        let parents = 0..self.nodes.len() as u32;
        let siblings_differ = parents.into_iter().all(|parent| {
            self.child_indices(parent).all(|child| self.child(parent, self.node(child).token) == Some(child))
        });
        if self.bytes() > self.max_bytes {
            self.prune();
        }
        siblings_differ
    }

    /// Puts the edges to all children of `parent` into the table.
    fn index_children(&mut self, parent: u32) {
        let mut child = self.nodes[parent as usize].first_child;
        while child != NONE {
            let Node { token, next_sibling, .. } = self.nodes[child as usize];
            self.edges.insert(parent, token, child);
            child = next_sibling;
        }
    }

    /// Children of `parent`, the most recently seen first.
    pub(crate) fn children(&self, parent: u32) -> impl Iterator<Item = Child> + '_ {
        self.child_indices(parent).map(|index| {
            let node = &self.nodes[index as usize];
            Child { token: node.token, frequency: node.frequency }
        })
    }

    /// Indices of `parent`'s children, the most recently seen first.
    pub(crate) fn child_indices(&self, parent: u32) -> impl Iterator<Item = u32> + '_ {
        let next = |index: u32| (index != NONE).then_some(index);
        std::iter::successors(next(self.nodes[parent as usize].first_child), move |&index| {
            next(self.nodes[index as usize].next_sibling)
        })
    }

    /// Token and frequency of a node.
    pub(crate) fn node(&self, index: u32) -> Child {
        let node = &self.nodes[index as usize];
        Child { token: node.token, frequency: node.frequency }
    }

    /// Branches that went on from a node: the sum of its children's frequencies.
    pub(crate) fn continuations(&self, index: u32) -> u32 {
        self.nodes[index as usize].continuations
    }

    /// The node that `path` leads to from the root.
    pub(crate) fn find(&self, path: &[TokenId]) -> Option<u32> {
        path.iter().try_fold(ROOT, |node, &token| self.child(node, token))
    }

    /// Sees to it that one more token can be pushed: up to a branch of new nodes, each of which may make its parent
    /// wide. Grows the arena and the table within the memory bound, or prunes.
    fn make_room(&mut self) {
        let nodes = self.nodes.len() + self.branch_length;
        let edges = self.edges.len() + self.edges_a_token();
        let slots = EdgeTable::slots_for(edges).max(self.edges.slots());
        if nodes <= self.nodes.capacity() && slots == self.edges.slots() {
            return;
        }
        if bytes_for(nodes, slots) > self.max_bytes || nodes > MAX_NODES {
            self.prune();
            return self.make_room_after_pruning();
        }
        self.reserve(nodes, slots);
    }

    /// Pruning leaves a quarter of the bound free, which is more than a branch needs at the smallest bound allowed.
    fn make_room_after_pruning(&mut self) {
        let slots = EdgeTable::slots_for(self.edges.len() + self.edges_a_token()).max(self.edges.slots());
        self.reserve(self.nodes.len() + self.branch_length, slots);
    }

    fn edges_a_token(&self) -> usize {
        self.branch_length * (NARROW + 1)
    }

    /// Takes `slots` table slots and an arena for at least `nodes` nodes, half as many again if the bound allows.
    fn reserve(&mut self, nodes: usize, slots: usize) {
        let most =
            (self.max_bytes.saturating_sub(EdgeTable::bytes_for(slots)) / size_of::<Node>()).min(MAX_NODES);
        self.nodes.shrink_to(most.max(nodes));
        if slots != self.edges.slots() {
            self.edges.resize(slots);
        }
        if nodes > self.nodes.capacity() {
            let wanted = (self.nodes.capacity() + self.nodes.capacity() / 2).min(most).max(nodes);
            self.nodes.reserve_exact(wanted - self.nodes.len());
        }
    }
}

/// Bytes of an arena of `nodes` nodes and a table of `slots` slots.
fn bytes_for(nodes: usize, slots: usize) -> usize {
    nodes * size_of::<Node>() + EdgeTable::bytes_for(slots)
}
