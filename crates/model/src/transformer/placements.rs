//! Where the nodes of a pass stand in their sequences, and what they see.

use std::ops::Range;

use lookahead_kernels::{RopeTable, ScanPlan, VisibleRows};

use crate::kv_cache::KvCache;
use crate::language_model::{LogitsOf, SequenceStep};
use crate::pass_cache::PassCache;
use crate::token_tree::TokenTree;

/// Where the nodes of a pass stand.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    /// The nodes of each sequence.
    pub(super) sequences: Vec<Range<usize>>,
    /// The nodes of each sequence that logits are asked for.
    pub(super) asked: Vec<Range<usize>>,
    /// The position of each node.
    pub(super) positions: Vec<usize>,
    /// For each sequence, the cache rows that its nodes see. There may be more entries than sequences.
    pub(super) visible: Vec<VisibleRows>,
    /// For each sequence, how it goes through recurrent layers, if there are any: what is behind their states, then its nodes. There may
    /// be more entries than sequences.
    plans: Vec<ScanPlan>,
    /// A node's path.
    path: Vec<u32>,
}

impl Placements {
    /// Finds out where each node stands, and begins the pass in the caches.
    pub(crate) fn place<C: PassCache>(&mut self, batch: &mut [SequenceStep<'_, C>], ropes: &mut [RopeTable]) {
        self.sequences.clear();
        self.asked.clear();
        self.positions.clear();
        if self.visible.len() < batch.len() {
            self.visible.resize_with(batch.len(), VisibleRows::default);
        }
        if self.plans.len() < batch.len() {
            self.plans.resize_with(batch.len(), ScanPlan::default);
        }
        let steps = batch.iter_mut().zip(&mut self.visible).zip(&mut self.plans);
        for ((step, visible), plan) in steps {
            let (certain, asked) = (step.certain(), step.asked());
            let SequenceStep { tree, cache, logits_of, .. } = step;
            cache.begin(tree.len(), certain, *logits_of == LogitsOf::Last);
            if !cache.states().is_empty() {
                plan.plan(cache.states().behind() + certain, &tree.parents()[certain..]);
            }
            let first = self.positions.len();
            self.positions.extend(tree.depths().iter().map(|&depth| cache.len() + depth as usize));
            self.sequences.push(first..self.positions.len());
            self.asked.push(first + asked.start..first + asked.end);
            visible.clear();
            for node in 0..tree.len() {
                see_path(tree, node, cache.len(), &mut self.path, visible);
            }
        }
        let longest = self.positions.iter().max().map_or(0, |last| last + 1);
        for rope in ropes {
            rope.reserve(longest);
        }
    }

    /// The sequences of the pass, their nodes, and how they go through recurrent layers.
    pub(super) fn scans<'a, 'b, 'c>(
        &'a self,
        batch: &'b mut [SequenceStep<'c, KvCache>],
    ) -> impl Iterator<Item = (&'b mut SequenceStep<'c, KvCache>, Range<usize>, &'a ScanPlan)> {
        let places = self.sequences.iter().cloned().zip(&self.plans);
        batch.iter_mut().zip(places).map(|(step, (nodes, plan))| (step, nodes, plan))
    }
}

/// Adds to `visible` the rows that `node` sees: the `context` rows before the tree and its path. The part of a path
/// that numbers its nodes in order, as all of a chain does, extends the context.
fn see_path(tree: &TokenTree, node: usize, context: usize, path: &mut Vec<u32>, visible: &mut VisibleRows) {
    let depth = tree.depths()[node] as usize;
    path.clear();
    let mut ancestor = node as u32;
    // Where a node's number is its depth, so are those of its ancestors.
    while ancestor != tree.depths()[ancestor as usize] {
        path.push(ancestor + context as u32);
        ancestor = tree.parents()[ancestor as usize];
    }
    let in_order = depth + 1 - path.len();
    visible.push(context + in_order, path.iter().rev().copied());
}
