//! Pruning: past the memory bound frequencies decay, and what was seen least and longest ago goes.

use super::edges::EdgeTable;
use super::{Forest, NONE, Node, ROOT, bytes_for, next_version};

impl Forest {
    /// Prunes until the forest takes at most three quarters of its memory bound, so that the work is done once for
    /// every quarter of the bound that is inserted. Open branches end here: their nodes may have gone.
    pub(super) fn prune(&mut self) {
        let target = self.max_bytes / 4 * 3;
        loop {
            let slots = EdgeTable::slots_for(self.edges.len() + self.edges_a_token());
            let used = bytes_for(self.nodes.len(), slots);
            if used <= target || self.nodes.len() == 1 {
                break;
            }
            // As few rounds as possible, as each halves: enough must go even if the table does not shrink. But a
            // table that takes most of the room will.
            let fits = target.saturating_sub(EdgeTable::bytes_for(slots)) / size_of::<Node>();
            let share = (self.nodes.len() as u128 * target as u128 / used as u128) as usize;
            let keep = fits.max(share / 2);
            self.decay(keep.min(self.nodes.len() - 1));
        }
        self.nodes.shrink_to_fit();
        self.version = next_version();
    }

    /// Halves every frequency. Of the nodes that fall to nothing, the oldest go with all below them, until `keep`
    /// nodes are left; the younger ones stay, at frequency 1.
    fn decay(&mut self, keep: usize) {
        self.mark_dead(keep);
        self.unlink_dead();
        self.close_gaps();
        self.index_edges();
    }

    /// Frequency 0 marks the dead. Parents come before their children in the arena, and older nodes before younger.
    fn mark_dead(&mut self, keep: usize) {
        let mut surplus = self.nodes.len().saturating_sub(keep);
        for index in 1..self.nodes.len() {
            let node = &mut self.nodes[index];
            if node.frequency > 1 || (node.frequency == 1 && surplus == 0) {
                node.frequency = (node.frequency / 2).max(1);
                continue;
            }
            node.frequency = 0;
            surplus = surplus.saturating_sub(1);
            let mut child = node.first_child;
            while child != NONE {
                self.nodes[child as usize].frequency = 0;
                child = self.nodes[child as usize].next_sibling;
            }
        }
    }

    /// Takes the dead out of the lists of the living.
    fn unlink_dead(&mut self) {
        for parent in 0..self.nodes.len() as u32 {
            if parent != ROOT && self.nodes[parent as usize].frequency == 0 {
                continue;
            }
            let mut child = std::mem::replace(&mut self.nodes[parent as usize].first_child, NONE);
            let mut last = NONE;
            while child != NONE {
                let Node { frequency, next_sibling, .. } = self.nodes[child as usize];
                if frequency > 0 {
                    self.link_after(parent, last, child);
                    last = child;
                }
                child = next_sibling;
            }
        }
    }

    /// Makes `child` the last child of `parent`, after `last` (`NONE`: it is the first).
    fn link_after(&mut self, parent: u32, last: u32, child: u32) {
        if last == NONE {
            self.nodes[parent as usize].first_child = child;
            self.nodes[child as usize].previous = parent;
        } else {
            self.nodes[last as usize].next_sibling = child;
            self.nodes[child as usize].previous = last;
        }
        self.nodes[child as usize].next_sibling = NONE;
    }

    /// Slides the living together, in their order.
    fn close_gaps(&mut self) {
        let mut free = 1;
        for index in 1..self.nodes.len() {
            let node = self.nodes[index];
            if node.frequency == 0 {
                continue;
            }
            if free != index {
                let (from, to) = (index as u32, free as u32);
                self.nodes[free] = node;
                // What comes before is the parent exactly if this node is its first child.
                let previous = &mut self.nodes[node.previous as usize];
                if previous.first_child == from {
                    previous.first_child = to;
                } else {
                    previous.next_sibling = to;
                }
                for neighbour in [node.next_sibling, node.first_child] {
                    if neighbour != NONE {
                        self.nodes[neighbour as usize].previous = to;
                    }
                }
            }
            free += 1;
        }
        self.nodes.truncate(free);
    }

    /// Recomputes the sums over children and the table from the lists.
    pub(super) fn index_edges(&mut self) {
        let is_indexed = |parent: u32, children: usize| parent == ROOT || children > super::NARROW;
        let mut edges = 0;
        for parent in 0..self.nodes.len() as u32 {
            let (children, sum) = self.count_children(parent);
            self.nodes[parent as usize].continuations = sum;
            if is_indexed(parent, children) {
                edges += children;
            }
        }
        self.edges.reset(EdgeTable::slots_for(edges + self.edges_a_token()));
        for parent in 0..self.nodes.len() as u32 {
            if is_indexed(parent, self.count_children(parent).0) {
                self.index_children(parent);
            }
        }
    }

    /// Number of children, and the sum of their frequencies.
    fn count_children(&self, parent: u32) -> (usize, u32) {
        self.children(parent)
            .fold((0, 0u32), |(count, sum), child| (count + 1, sum.saturating_add(child.frequency)))
    }
}
