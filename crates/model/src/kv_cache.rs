//! The KV cache of one sequence: keys and values of its tokens, by layer.
//!
//! Per layer and head, rows lie one after the other in the order in which they were computed: committed tokens first,
//! then the nodes of the tree of the last forward pass. Keeping a path moves its rows up.

use lookahead_kernels::KeysValues;

use crate::Cache;
use crate::architecture::Architecture;

/// Keys and values of one sequence.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
    committed: usize,
    pending: usize,
}

/// One layer: `[kv_head][row][head_dim]`.
#[derive(Clone, Debug)]
struct LayerCache {
    head_dim: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvCache {
    /// An empty cache. Memory for `capacity` tokens is reserved, but taken from the system only as it fills.
    pub(crate) fn new(architecture: &Architecture, capacity: usize) -> Self {
        let layers = architecture
            .layers
            .iter()
            .map(|layer| {
                let head_dim = layer.attention.head_dim;
                let values = layer.attention.kv_heads * capacity * head_dim;
                LayerCache { head_dim, keys: vec![0.0; values], values: vec![0.0; values] }
            })
            .collect();
        Self { layers, capacity, committed: 0, pending: 0 }
    }

    /// Drops what is pending and makes `nodes` rows pending instead, for [`KvCache::write`] to fill.
    pub(crate) fn begin(&mut self, nodes: usize) {
        debug_assert!(self.committed + nodes <= self.capacity, "checked before the pass");
        self.pending = nodes;
    }

    /// Writes the key and value of pending node `node`, all heads side by side.
    pub(crate) fn write(&mut self, layer: usize, node: usize, key: &[f32], value: &[f32]) {
        debug_assert!(node < self.pending, "begun before");
        let row = self.committed + node;
        let LayerCache { head_dim, keys, values } = &mut self.layers[layer];
        let heads = key.chunks_exact(*head_dim).zip(value.chunks_exact(*head_dim));
        for (head, (key, value)) in heads.enumerate() {
            let start = (head * self.capacity + row) * *head_dim;
            keys[start..][..*head_dim].copy_from_slice(key);
            values[start..][..*head_dim].copy_from_slice(value);
        }
    }

    /// A layer's rows, for attention.
    pub(crate) fn layer(&self, layer: usize) -> KeysValues<'_> {
        let LayerCache { keys, values, .. } = &self.layers[layer];
        KeysValues { keys, values, capacity: self.capacity }
    }
}

impl Cache for KvCache {
    fn len(&self) -> usize {
        self.committed
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn keep(&mut self, path: &[u32]) {
        assert!(path.is_sorted_by(|a, b| a < b), "a path's nodes ascend");
        assert!(path.last().is_none_or(|&last| (last as usize) < self.pending), "a path's nodes are pending");
        let moves = || path.iter().enumerate().filter(|&(to, &from)| to != from as usize);
        for LayerCache { head_dim, keys, values } in &mut self.layers {
            for rows in [keys, values] {
                for head in rows.chunks_exact_mut(self.capacity * *head_dim) {
                    for (to, &from) in moves() {
                        let from = (self.committed + from as usize) * *head_dim;
                        head.copy_within(from..from + *head_dim, (self.committed + to) * *head_dim);
                    }
                }
            }
        }
        self.committed += path.len();
        self.pending = 0;
    }

    fn truncate(&mut self, len: usize) {
        self.committed = self.committed.min(len);
        self.pending = 0;
    }
}
