//! The KV cache of one sequence: keys and values of its tokens, by layer.
//!
//! Per layer, rows lie in the order in which they were computed: committed tokens first, then the nodes of the tree of
//! the last forward pass. Keeping a path moves its rows up.

use lookahead_kernels::{KvLayer, KvType};

use crate::architecture::Architecture;
use crate::{Cache, OutOfCacheMemory};

/// Keys and values of one sequence.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<KvLayer>,
    capacity: usize,
    committed: usize,
    pending: usize,
}

impl KvCache {
    /// An empty cache. Memory for `capacity` tokens is reserved, but taken from the system only as it fills.
    pub(crate) fn new(architecture: &Architecture, kv_type: KvType, capacity: usize) -> Self {
        let attention = architecture.layers.iter().map(|layer| &layer.attention);
        let layers = attention.map(|a| KvLayer::new(kv_type, a.kv_heads, a.head_dim, capacity)).collect();
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
        self.layers[layer].write(self.committed + node, key, value);
    }

    /// A layer's rows, for attention.
    pub(crate) fn layer(&self, layer: usize) -> &KvLayer {
        &self.layers[layer]
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
        for (to, from) in path.iter().map(|&node| node as usize).enumerate().filter(|(to, from)| to != from) {
            for layer in &mut self.layers {
                layer.copy_row(self.committed + from, self.committed + to);
            }
        }
        self.committed += path.len();
        self.pending = 0;
    }

    fn truncate(&mut self, len: usize) {
        self.committed = self.committed.min(len);
        self.pending = 0;
    }
    fn reserve(&mut self, _rows: usize) -> Result<(), OutOfCacheMemory> {
        Ok(())
    }

    fn fork(&self, len: usize, _capacity: usize) -> Self {
        let mut fork = self.clone();
        fork.truncate(len);
        fork
    }
}
