//! Attention of nodes to the rows of their sequences: the same additions in the same order as
//! [`lookahead_kernels::attention`]'s.
//!
//! A workgroup computes what a chunk of positions comes to for one node and head; a second operator adds up the chunks.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use lookahead_kernels::{ATTENTION_CHUNK, KvShape, Window};

use crate::gpu::{Access, Gpu};
use crate::kv_pages::KvMemory;
use crate::pass::Pass;

/// In parameters: not there.
const NONE: u32 = u32::MAX;

/// The rows that each node of a pass sees of its sequence: a context that all rows from 0 on belong to, then single rows.
#[derive(Clone, Debug, Default)]
pub struct SeenRows {
    nodes: Vec<SeenNode>,
    /// Slots of the pages of sequences, and rows of paths.
    indices: Vec<u32>,
    /// Where the slots of the sequence begin.
    slots: usize,
}

#[derive(Clone, Copy, Debug)]
struct SeenNode {
    context: usize,
    path_len: usize,
    /// Among the indices.
    path: usize,
    slots: usize,
}

impl SeenRows {
    /// Forgets all nodes.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.indices.clear();
    }

    /// Nodes from now on are of a sequence whose pages lie in these slots.
    pub fn begin_sequence(&mut self, slots: impl IntoIterator<Item = u32>) {
        self.slots = self.indices.len();
        self.indices.extend(slots);
    }

    /// Adds a node of the sequence that sees the rows `0..context`, then those of `path`: ascending rows behind the context, itself the
    /// last, where its path does not continue the context. It sees one row at least.
    pub fn push(&mut self, context: usize, path: impl IntoIterator<Item = u32>) {
        let start = self.indices.len();
        self.indices.extend(path);
        let path_len = self.indices.len() - start;
        self.nodes.push(SeenNode { context, path_len, path: start, slots: self.slots });
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Puts it among the words of a pass: four of each node, then the indices, which those count from the first word on.
    pub fn put(&self, pass: &mut Pass) -> usize {
        let indices = 4 * self.nodes.len();
        let nodes = self.nodes.iter().flat_map(|node| {
            [node.context, node.path_len, indices + node.path, indices + node.slots].map(|word| word as u32)
        });
        pass.put_words(nodes.chain(self.indices.iter().copied()).collect())
    }

    /// The chunks of positions that nodes see.
    fn chunks(&self, window: Option<Window>) -> Range<usize> {
        let lens = || self.nodes.iter().map(|node| node.context + node.path_len);
        let start = lens().map(|len| window.map_or(0, |window| window.start(len - 1))).min();
        let end = lens().max().unwrap_or(0);
        start.unwrap_or(0) / ATTENTION_CHUNK..end.div_ceil(ATTENTION_CHUNK)
    }
}

/// An attention operator of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Keys and values.
    pub kv: &'a KvMemory,
    /// Which of its layers.
    pub layer: usize,
    /// Query heads, a multiple of the heads of keys and values.
    pub heads: usize,
    /// Factor on the dot products.
    pub scale: f32,
    /// Which positions up to its own a node sees; all if `None`.
    pub window: Option<Window>,
    /// Bends scores so that they stay within it.
    pub soft_cap: Option<f32>,
    /// Constants `[head]`: the slopes of ALiBi ([`alibi_slope`](lookahead_kernels::alibi_slope)), if there are any.
    pub slopes: Option<usize>,
    /// Constants `[head]`: the scores of sinks, if there are any.
    pub sinks: Option<usize>,
}

/// Where an attention operator reads and writes, in a pass.
#[derive(Clone, Debug)]
pub struct AttentionPlaces {
    /// Words: where [`SeenRows::put`] has put what nodes see.
    pub seen: usize,
    /// Floats `[node][head][key_dim]`.
    pub queries: usize,
    /// Floats for what chunks of positions come to: of as many nodes at once as have room, which are all with as many as
    /// [`Attention::chunk_floats`] says. Operators one behind the other can have the same.
    pub chunks: Range<usize>,
    /// Floats `[node][head][value_dim]`: the result.
    pub out: usize,
}

impl Attention<'_> {
    /// Floats for what chunks of positions come to, of so many nodes at once.
    pub fn chunk_floats(&self, seen: &SeenRows, nodes: usize) -> usize {
        let KvShape { value_dim, .. } = self.kv.shape(self.layer);
        seen.chunks(self.window).len() * nodes * self.heads * (2 + value_dim)
    }

    /// Records it.
    ///
    /// # Panics
    /// If the heads do not share those of keys and values evenly, or there is no room for the chunks of a node.
    pub fn record(&self, gpu: &Gpu, pass: &mut Pass, seen: &SeenRows, places: &AttentionPlaces) {
        let Self { kv, layer, heads, scale, window, soft_cap, slopes, sinks } = *self;
        assert!(heads.is_multiple_of(kv.shape(layer).heads), "query heads share key heads evenly");
        let pipeline = |operator, source| {
            kv.pipeline(gpu, layer, operator, Access::Read, || {
                let chunk = format!("const CHUNK = {ATTENTION_CHUNK}u;\n");
                [&chunk, include_str!("../shaders/attention.wgsl"), source].concat()
            })
        };
        let attend = pipeline("attend", include_str!("../shaders/attend.wgsl"));
        let combine = pipeline("combine", include_str!("../shaders/combine.wgsl"));
        let chunks = seen.chunks(window);
        let (sliding, chunked) = match window {
            None => (NONE, NONE),
            Some(Window::Sliding(positions)) => (positions as u32, NONE),
            Some(Window::Chunk(positions)) => (NONE, positions as u32),
        };
        let constants = |at: Option<usize>| at.map_or(NONE, |at| at as u32);
        let at_once = places.chunks.len() / self.chunk_floats(seen, 1).max(1);
        assert!(at_once > 0 || seen.is_empty(), "room for the chunks of a node");
        for first_node in (0..seen.len()).step_by(at_once.max(1)) {
            let nodes = at_once.min(seen.len() - first_node);
            let parts = places.chunks.start + 2 * chunks.len() * nodes * heads;
            let parameters = [
                first_node as u32,
                nodes as u32,
                heads as u32,
                chunks.start as u32,
                places.seen as u32,
                places.queries as u32,
                places.chunks.start as u32,
                parts as u32,
                places.out as u32,
                scale.to_bits(),
                sliding,
                chunked,
                soft_cap.unwrap_or(0.0).to_bits(),
                constants(slopes),
                constants(sinks),
            ];
            pass.run(Arc::clone(&attend), Some(kv.read(layer)), &parameters, [heads, nodes, chunks.len()]);
            pass.run(Arc::clone(&combine), None, &parameters, [heads, nodes, 1]);
        }
    }
}
