//! An open-addressed hash table from (parent, token) to child, for nodes with many children.

use super::NONE;

/// One edge of the forest; `child == NONE` marks an empty slot.
#[derive(Clone, Copy)]
struct Edge {
    parent: u32,
    token: u32,
    child: u32,
}

const EMPTY: Edge = Edge { parent: NONE, token: 0, child: NONE };

/// Slots of the smallest table.
const MIN_SLOTS: usize = 16;

/// The table. Linear probing, a power of two slots, at most 3/4 full. It never grows by itself: the forest makes room
/// beforehand, as it accounts for the bytes.
#[derive(Default)]
pub(super) struct EdgeTable {
    slots: Vec<Edge>,
    len: usize,
}

impl EdgeTable {
    /// Slots that `edges` edges need.
    pub(super) fn slots_for(edges: usize) -> usize {
        (edges + edges / 3 + 1).next_power_of_two().max(MIN_SLOTS)
    }

    /// Bytes of a table of `slots` slots.
    pub(super) const fn bytes_for(slots: usize) -> usize {
        slots * size_of::<Edge>()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Forgets all edges and takes exactly `slots` slots, a power of two.
    pub(super) fn reset(&mut self, slots: usize) {
        // The old slots go first, so that both are never held at once.
        self.slots = Vec::new();
        self.slots = vec![EMPTY; slots];
        self.len = 0;
    }

    /// Changes the number of slots, a power of two that has room for the edges in it.
    pub(super) fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        self.len = 0;
        for edge in old.into_iter().filter(|edge| edge.child != NONE) {
            self.insert(edge.parent, edge.token, edge.child);
        }
    }

    pub(super) fn get(&self, parent: u32, token: u32) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(parent, token);
        loop {
            let edge = self.slots[slot];
            if edge.child == NONE {
                return None;
            }
            if edge.parent == parent && edge.token == token {
                return Some(edge.child);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds an edge. An equal one that is there already keeps being found first.
    pub(super) fn insert(&mut self, parent: u32, token: u32, child: u32) {
        debug_assert!(Self::slots_for(self.len + 1) <= self.slots.len(), "the caller makes room");
        let mut slot = self.home(parent, token);
        while self.slots[slot].child != NONE {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = Edge { parent, token, child };
        self.len += 1;
    }

    /// Fibonacci hashing: the upper bits of a product with 2^64 / golden ratio, after mixing both halves of the key.
    fn home(&self, parent: u32, token: u32) -> usize {
        let key = (u64::from(parent) << 32) | u64::from(token);
        let mixed = (key ^ (key >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as usize & (self.slots.len() - 1)
    }
}
