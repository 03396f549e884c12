//! Attention of tree nodes over a KV cache.
//!
//! A node sees the context and its own ancestors: logical positions in ascending order, wherever their rows lie. The
//! definition, for one node and head:
//!
//! - `score[j] = dot(query, key[j]) * scale`, the dimensions added in ascending order by fused multiply-add; then the soft
//!   cap, if there is one; then, with ALiBi, the head's slope times how far back `j` lies is taken off by fused multiply-add;
//! - positions are taken in chunks of [`CHUNK`], from position 0 on. In each, `p[j] = e^(score[j] - max)`, `sum` adds the
//!   `p[j]` in eight lanes, the visible positions in turn, and `out[d]` adds `p[j] * value[j][d]` in ascending order of
//!   `j` by fused multiply-add;
//! - the chunks are added in ascending order by fused multiply-add, each times `e^(max - largest max)`: `out[d]` and
//!   `sum`, and the result is their quotient. The sink of a head, if there is one, is a chunk of its own before them: its score is
//!   its `max`, its `sum` is 1, and it adds nothing to `out[d]`.
//!
//! Nothing in it depends on other nodes, so it does not matter what tree a node is part of. Query heads that share keys
//! and values, and nodes that see the same rows, are computed together: what is loaded serves all of them.

mod kv_page;
mod kv_type;

use std::ops::Range;
use std::ptr;

use self::kv_page::TILE_ROWS;
pub use self::kv_page::{KvLayer, KvLayout, KvPage, KvShape, PAGE_ROWS};
use self::kv_type::{Byte, Half, KvElement, Single};
pub use self::kv_type::{KvType, UnknownKvType};
use crate::disjoint::Disjoint;
use crate::elementwise::{add_scaled, soft_cap, softmax_numerators};
use crate::kernels::Kernels;
use crate::math::exp;
use crate::simd::{self, GROUP, Isa, MAX_PARTS, Simd, simd_fn};

/// Positions whose part of the result is computed alone: long contexts have work for many threads.
pub const CHUNK: usize = 512;

// No page goes over the border of a chunk.
const _: () = assert!(CHUNK.is_multiple_of(PAGE_ROWS));

/// Queries of a task: they read the same keys and values, which then come from the cache.
///
/// Most models have 2, 3, 4, 6 or 12 query heads to a head of keys: a task has whole nodes of them.
const TASK_QUERIES: usize = 12;

/// Sizes of an attention operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape<'a> {
    /// Query heads, a multiple of the heads of keys and values.
    pub heads: usize,
    /// Factor on the dot products.
    pub scale: f32,
    /// Which positions up to its own a node sees; all if `None`.
    pub window: Option<Window>,
    /// Bends scores so that they stay within it: `cap * tanh(score / cap)` (Gemma 2).
    pub soft_cap: Option<f32>,
    /// Whether scores fall with the distance, by a slope for each head: ALiBi (Press et al., 2022).
    pub alibi: bool,
    /// For each head the score of a sink: a position before all others whose value is zero (Xiao et al., "Efficient Streaming
    /// Language Models with Attention Sinks", 2023). Empty if there are none.
    pub sinks: &'a [f32],
}

/// Which positions up to its own a node sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last ones, so many at most.
    Sliding(usize),
    /// Positions lie in chunks of so many: those of its own chunk (Llama 4).
    Chunk(usize),
}

impl Window {
    /// The first that a node sees which is at `position`.
    pub fn start(self, position: usize) -> usize {
        match self {
            Self::Sliding(positions) => (position + 1).saturating_sub(positions),
            Self::Chunk(positions) => position - position % positions,
        }
    }
}

/// The slope of ALiBi for head `head` of `heads`: `2^-(8 (head + 1) / heads)` for a power of two; else those of the power
/// below, then every second one of the power above.
pub fn alibi_slope(head: usize, heads: usize) -> f32 {
    let below = 1 << heads.ilog2();
    let exponent = if head < below {
        8.0 * (head + 1) as f64 / below as f64
    } else {
        4.0 * (2 * (head - below) + 1) as f64 / below as f64
    };
    libm::exp2(-exponent) as f32
}

/// The rows of a cache that each node of a tree sees: a context that all rows from 0 on belong to, then single rows.
/// Reused between passes.
#[derive(Clone, Debug, Default)]
pub struct VisibleRows {
    /// For each node, how many rows its context has, and where its other rows end in `paths`.
    nodes: Vec<(usize, usize)>,
    paths: Vec<u32>,
}

impl VisibleRows {
    /// Forgets all nodes.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.paths.clear();
    }

    /// Adds a node that sees the rows `0..context`, then those of `path`: ascending rows behind the context, itself the
    /// last, where its path does not continue the context.
    pub fn push(&mut self, context: usize, path: impl Iterator<Item = u32>) {
        self.paths.extend(path);
        self.nodes.push((context, self.paths.len()));
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many rows the context of node `node` has, and the other rows that it sees.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn of_node(&self, node: usize) -> (usize, &[u32]) {
        let start = if node == 0 { 0 } else { self.nodes[node - 1].1 };
        let (context, end) = self.nodes[node];
        (context, &self.paths[start..end])
    }

    fn node(&self, node: usize) -> Seen<'_> {
        let (context, path) = self.of_node(node);
        Seen { context: 0..context, path }
    }
}

/// Rows in logical order: `context`, then `path`.
#[derive(Clone, Debug, Default)]
struct Seen<'a> {
    context: Range<usize>,
    path: &'a [u32],
}

impl Seen<'_> {
    fn len(&self) -> usize {
        self.context.len() + self.path.len()
    }

    /// Of a node that sees everything from position 0 on, the rows at `positions`.
    fn at(&self, positions: Range<usize>) -> Self {
        let context = self.context.end;
        let clamp = |position: usize| position.saturating_sub(context).min(self.path.len());
        Seen {
            context: positions.start.min(context)..positions.end.min(context),
            path: &self.path[clamp(positions.start)..clamp(positions.end)],
        }
    }

    /// The rows from the first to the last, whether seen or not.
    fn span(&self) -> Range<usize> {
        let first = if self.context.is_empty() { self.path.first() } else { None };
        let start = first.map_or(self.context.start, |&row| row as usize);
        start..self.path.last().map_or(self.context.end, |&row| row as usize + 1)
    }
}

/// A sequence of which nodes attend to a layer of its cache.
#[derive(Clone, Copy, Debug)]
pub struct Attended<'a> {
    /// The layer.
    pub layer: KvLayer<'a>,
    /// What each of its nodes sees of it.
    pub visible: &'a VisibleRows,
}

/// What chunks of positions come to, and per-thread space for scores. Kept between operators.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    parts: Vec<Part>,
    /// `[thread][dimension][query of the task]`
    queries: Vec<f32>,
    /// `[thread][query of the task][row]`
    scores: Vec<f32>,
    /// `[thread][query of the task][dimension]`
    task_outs: Vec<f32>,
    /// Of each sequence `[chunk][node][head]`: the greatest score and the sum of the numerators.
    stats: Vec<[f32; 2]>,
    /// Of each sequence `[chunk][node][head][dimension]`, unnormalised.
    outs: Vec<f32>,
}

/// A sequence's share of the work, and where it begins.
#[derive(Debug)]
struct Part {
    nodes: usize,
    chunks: Range<usize>,
    /// Tasks of a head of keys and a chunk, and the most queries that one has.
    tiles: usize,
    tile: usize,
    first_task: usize,
    first_node: usize,
    /// Among the results of chunks.
    first_result: usize,
}

/// The nodes of so many `sequences`, each what `attended` says, whose caches have one layout: `queries` are `[node][head][key_dim]` and `out` is
/// `[node][head][value_dim]`, of all nodes in the order of their sequences. Threads share out the work of all sequences at once.
///
/// # Panics
/// If lengths do not fit the shape, or a visible row lies beyond the cache's pages.
pub fn attention<'a>(
    kernels: &Kernels,
    shape: AttentionShape<'_>,
    queries: &[f32],
    sequences: usize,
    attended: &(dyn Fn(usize) -> Attended<'a> + Sync),
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    if sequences == 0 {
        return;
    }
    let kv_shape = attended(0).layer.shape();
    let KvShape { heads: kv_heads, key_dim, value_dim } = kv_shape;
    let heads = shape.heads;
    assert!(heads > 0 && heads.is_multiple_of(kv_heads), "query heads share key heads evenly");
    assert!(shape.sinks.is_empty() || shape.sinks.len() == heads, "a sink for each head");
    let group = heads / kv_heads;
    let parts = &mut scratch.parts;
    parts.clear();
    let (mut tasks, mut nodes, mut results) = (0, 0, 0);
    let (mut stride, mut work) = (0, 0);
    for Attended { layer, visible } in (0..sequences).map(attended) {
        assert!(layer.shape() == kv_shape, "caches of one model");
        let own = visible.len();
        let longest = (0..own).map(|node| visible.node(node).len()).max().unwrap_or(0);
        let first_chunk = (0..own).map(|node| window(&shape, &visible.node(node)).start / CHUNK).min();
        let chunks = first_chunk.unwrap_or(0)..longest.div_ceil(CHUNK);
        let tiles = (own * group).div_ceil(TASK_QUERIES);
        let tile = (own * group).div_ceil(tiles.max(1));
        // The rows of a chunk's positions span no more than it and the tree.
        stride = stride.max(longest.min(CHUNK) + own + 2 * TILE_ROWS);
        work = work.max(longest.min(CHUNK) * tile);
        let count = chunks.len();
        parts.push(Part {
            nodes: own,
            chunks,
            tiles,
            tile,
            first_task: tasks,
            first_node: nodes,
            first_result: results,
        });
        tasks += count * kv_heads * tiles;
        nodes += own;
        results += count * own * heads;
    }
    let parts = &scratch.parts[..];
    assert_eq!(queries.len(), nodes * heads * key_dim, "queries of each node");
    assert_eq!(out.len(), nodes * heads * value_dim, "results of each node");

    // Rounded up, so that a growing context allocates rarely.
    let stride = stride.next_multiple_of(CHUNK / 2);
    let width = value_dim.next_multiple_of(GROUP);
    let queries_at_once = kernels.threads() * TASK_QUERIES;
    grow(&mut scratch.queries, queries_at_once * key_dim);
    grow(&mut scratch.scores, queries_at_once * stride);
    grow(&mut scratch.task_outs, queries_at_once * width);
    grow(&mut scratch.stats, results);
    grow(&mut scratch.outs, results * value_dim);
    let task_queries = Disjoint::new(&mut scratch.queries);
    let scores = Disjoint::new(&mut scratch.scores);
    let task_outs = Disjoint::new(&mut scratch.task_outs);
    let stats = Disjoint::new(&mut scratch.stats);
    let outs = Disjoint::new(&mut scratch.outs);
    let out = Disjoint::new(out);

    // `query` is the number among the queries of the part's sequence.
    let combine_query = |part: &Part, visible: &VisibleRows, query: usize| {
        let positions = window(&shape, &visible.node(query / heads));
        let seen = positions.start / CHUNK..positions.end.div_ceil(CHUNK);
        let parts = seen.map(|chunk| {
            let at = part.first_result + (chunk - part.chunks.start) * part.nodes * heads + query;
            // SAFETY: all parts of this query are computed; nobody writes them any more.
            unsafe { (stats.part(at, 1)[0], &*outs.part(at * value_dim, value_dim)) }
        });
        let number = part.first_node * heads + query;
        let sink = shape.sinks.get(query % heads).copied();
        // SAFETY: nobody else combines this query.
        combine(kernels.isa(), sink, parts, unsafe { out.part(number * value_dim, value_dim) });
    };
    kernels.run(tasks, (key_dim + value_dim) * work, |thread, task| {
        let sequence = parts.partition_point(|part| part.first_task <= task) - 1;
        let Attended { layer, visible } = attended(sequence);
        let part = &parts[sequence];
        let Part { nodes, ref chunks, tiles, tile, .. } = *part;
        let task = task - part.first_task;
        let (index, kv_head) = (task % tiles, task / tiles % kv_heads);
        let chunk = chunks.start + task / tiles / kv_heads;
        let first = index * tile;
        // The queries of a head of keys, node by node; their numbers among all of the sequence.
        let number =
            |query: usize| (first + query) / group * heads + kv_head * group + (first + query) % group;
        let queries = &queries[part.first_node * heads * key_dim..][..nodes * heads * key_dim];
        let mut task = Task {
            shape,
            layer,
            kv_head,
            queries: [&[]; TASK_QUERIES],
            seen: [const { Seen { context: 0..0, path: &[] } }; TASK_QUERIES],
            slopes: [(0.0, 0); TASK_QUERIES],
            len: tile.min(nodes * group - first),
            is_first: index + 1 == tiles, // tasks are taken from the last on
        };
        for query in 0..task.len {
            let node = visible.node((first + query) / group);
            let positions = window(&shape, &node);
            let start = positions.start.max(chunk * CHUNK);
            task.seen[query] = node.at(start..start.max((chunk + 1) * CHUNK));
            task.queries[query] = &queries[number(query) * key_dim..][..key_dim];
            if shape.alibi && start < node.len() {
                task.slopes[query] = (alibi_slope(number(query) % heads, heads), node.len() - 1 - start);
            }
        }
        let results = |query: usize| {
            let at = part.first_result + (chunk - chunks.start) * nodes * heads + number(query);
            // SAFETY: each query and chunk belongs to one task.
            unsafe { (&mut stats.part(at, 1)[0], outs.part(at * value_dim, value_dim)) }
        };
        // SAFETY: a thread runs one task at a time.
        let mut space = unsafe {
            Space {
                queries: task_queries.part(thread * TASK_QUERIES * key_dim, TASK_QUERIES * key_dim),
                scores: scores.part(thread * TASK_QUERIES * stride, TASK_QUERIES * stride),
                stride,
                outs: task_outs.part(thread * TASK_QUERIES * width, TASK_QUERIES * width),
            }
        };
        match layer.kv_type() {
            KvType::F32 => task.run::<Single>(kernels.isa(), &mut space, results),
            KvType::F16 => task.run::<Half>(kernels.isa(), &mut space, results),
            KvType::Q8_0 => task.run::<Byte>(kernels.isa(), &mut space, results),
        }
        if chunks.len() == 1 {
            (0..task.len).for_each(|query| combine_query(part, visible, number(query)));
        }
    });
    for (sequence, part) in parts.iter().enumerate().filter(|(_, part)| part.chunks.len() > 1) {
        let visible = attended(sequence).visible;
        kernels.run_rows(part.nodes * heads, part.chunks.len() * value_dim, |query| {
            combine_query(part, visible, query);
        });
    }
}

fn grow<T: Clone + Default>(values: &mut Vec<T>, len: usize) {
    if values.len() < len {
        values.resize(len, T::default());
    }
}

/// The positions that a node sees.
fn window(shape: &AttentionShape<'_>, node: &Seen<'_>) -> Range<usize> {
    let start = shape.window.map_or(0, |window| window.start(node.len() - 1));
    start..node.len()
}

simd_fn! {
    /// `score -= slope * distance`; `distance` is that of the first, and falls by one from each to the next.
    fn add_alibi(_simd, slope: f32, distance: usize, scores: &mut [f32]) {
        for (index, score) in scores.iter_mut().enumerate() {
            *score = (-slope).mul_add((distance - index) as i32 as f32, *score);
        }
    }
}

/// `out = sum(e^(max_i - max) out_i) / (e^(sink - max) + sum(e^(max_i - max) sum_i))`
fn combine<'a>(
    isa: Isa,
    sink: Option<f32>,
    parts: impl Iterator<Item = ([f32; 2], &'a [f32])> + Clone,
    out: &mut [f32],
) {
    let first = sink.unwrap_or(f32::NEG_INFINITY);
    let largest = parts.clone().fold(first, |a, ([max, _], _)| if max > a { max } else { a });
    let mut total = sink.map_or(0.0, |sink| exp(sink - largest));
    out.fill(0.0);
    for ([max, sum], part) in parts {
        let scale = exp(max - largest);
        total = scale.mul_add(sum, total);
        add_scaled(isa, out, part, scale);
    }
    for out in out {
        *out /= total;
    }
}

/// Some queries that share a head of keys and values, at a chunk of positions.
struct Task<'a> {
    shape: AttentionShape<'a>,
    layer: KvLayer<'a>,
    kv_head: usize,
    queries: [&'a [f32]; TASK_QUERIES],
    /// What each query sees of the chunk.
    seen: [Seen<'a>; TASK_QUERIES],
    /// With ALiBi, the slope of each query's head and how far back the first that it sees of the chunk lies.
    slopes: [(f32, usize); TASK_QUERIES],
    len: usize,
    /// Whether no other task has read these keys and values before.
    is_first: bool,
}

/// A thread's space for a task.
struct Space<'a> {
    /// `[dimension][query]`
    queries: &'a mut [f32],
    /// `[query][row]`, `stride` rows a query.
    scores: &'a mut [f32],
    stride: usize,
    /// `[query][dimension]`, whole groups of dimensions.
    outs: &'a mut [f32],
}

impl Task<'_> {
    /// Where the queries end that see what query `first` sees: those of the same node.
    #[inline(always)]
    fn end_of_node(&self, first: usize, end: usize) -> usize {
        let seen = &self.seen[first];
        let mut next = first + 1;
        while next < end
            && self.seen[next].context == seen.context
            && ptr::eq(self.seen[next].path, seen.path)
        {
            next += 1;
        }
        next
    }

    /// Computes every query's greatest score, sum of numerators, and unnormalised output.
    fn run<'b, E: KvElement>(
        &self,
        isa: Isa,
        space: &mut Space<'_>,
        results: impl Fn(usize) -> (&'b mut [f32; 2], &'b mut [f32]),
    ) {
        let spans = self.seen[..self.len].iter().filter(|seen| seen.len() > 0).map(Seen::span);
        let Some(span) = spans.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)) else { return };
        assert!(span.end <= self.layer.rows(), "rows of the cache");
        let first_row = span.start / TILE_ROWS * TILE_ROWS;
        score_rows::<E>(isa, self, first_row..span.end, space);
        let mut stats = [[0.0; 2]; TASK_QUERIES];
        for (query, scores) in space.scores.chunks_exact_mut(space.stride).take(self.len).enumerate() {
            let seen = &self.seen[query];
            let start = seen.score_start(first_row);
            let path_start = start + seen.context.len();
            // A path ascends, so nothing is overwritten that is still to be moved.
            for (to, &row) in seen.path.iter().enumerate() {
                scores[path_start + to] = scores[row as usize - first_row];
            }
            let scores = &mut scores[start..start + seen.len()];
            if let Some(cap) = self.shape.soft_cap {
                soft_cap(isa, scores, cap);
            }
            if self.shape.alibi {
                let (slope, distance) = self.slopes[query];
                add_alibi(isa, slope, distance, scores);
            }
            stats[query] = softmax_numerators(isa, scores).into();
        }
        let width = space.outs.len() / TASK_QUERIES;
        space.outs[..self.len * width].fill(0.0);
        add_values::<E>(isa, self, first_row, space);
        for (query, out) in space.outs.chunks_exact(width).take(self.len).enumerate() {
            let (result_stats, result) = results(query);
            *result_stats = stats[query];
            result.copy_from_slice(&out[..result.len()]);
        }
    }
}

impl Seen<'_> {
    /// Where the seen rows' scores start among those of all rows from `first_row` on, once they are moved together.
    fn score_start(&self, first_row: usize) -> usize {
        if self.context.is_empty() { 0 } else { self.context.start - first_row }
    }
}

simd_fn! {
    /// `score = dot(query, key) * scale`, for all of `rows`, and some behind them.
    fn score_rows<E: KvElement>(simd, task: &Task<'_>, rows: Range<usize>, space: &mut Space<'_>) {
        for (query, values) in task.queries[..task.len].iter().enumerate() {
            for (lanes, value) in space.queries.as_chunks_mut::<TASK_QUERIES>().0.iter_mut().zip(*values) {
                lanes[query] = *value;
            }
        }
        let mut first = 0;
        while first < task.len {
            let rows = rows.clone();
            first += match task.len - first {
                1 => score_tile::<S, E, 2, 1>(simd, task, first, rows, space),
                2 if const { S::TILES.len() > 1 } => score_tile::<S, E, 2, 2>(simd, task, first, rows, space),
                3 if const { S::TILES.len() > 1 } => score_tile::<S, E, 2, 3>(simd, task, first, rows, space),
                9.. if const { S::PARTS < S::TILE_VECTORS } => score_tile::<S, E, 1, 12>(simd, task, first, rows, space),
                5.. if const { S::PARTS < S::TILE_VECTORS } => score_tile::<S, E, 2, 8>(simd, task, first, rows, space),
                _ => score_tile::<S, E, 2, 4>(simd, task, first, rows, space),
            };
        }
    }
}

/// The scores of `T` queries from `first` on, for `V` vectors of rows at once: one alone would wait for its own additions, where
/// queries are few. Returns `T`. What is computed beyond the last query goes nowhere.
#[inline(always)]
fn score_tile<S: Simd, E: KvElement, const V: usize, const T: usize>(
    simd: S,
    task: &Task<'_>,
    first: usize,
    rows: Range<usize>,
    space: &mut Space<'_>,
) -> usize {
    let block_bytes = GROUP * task.layer.key_bytes();
    let key_dim = task.layer.shape().key_dim;
    let queries = &space.queries[..TASK_QUERIES * key_dim];
    let count = T.min(task.len - first);
    let scale = simd.splat(task.shape.scale);
    let is_cold = task.is_first && first == 0;
    let blocks = V / S::PARTS;
    for row in rows.clone().step_by(blocks * GROUP) {
        let keys = &task.layer.keys(task.kv_head, row)[..blocks * block_bytes];
        // Keys are asked for as those before them are multiplied, and values, which come next.
        let values = task.layer.values(task.kv_head, row);
        let (key_bytes, value_bytes) =
            (keys.len() / key_dim, blocks * GROUP * task.layer.value_bytes() / key_dim);
        let mut dots = [[simd.splat(0.0); T]; V];
        for (dim, queries) in queries.as_chunks::<TASK_QUERIES>().0.iter().enumerate() {
            let queries: &[f32; T] = simd::first(&queries[first..]);
            if is_cold {
                simd.prefetch(keys, keys.len() + dim * key_bytes);
                simd.prefetch(values, dim * value_bytes);
            }
            let mut key = [simd.splat(0.0); V];
            for v in 0..V {
                key[v] = E::load_key(simd, &keys[v / S::PARTS * block_bytes..], dim, v % S::PARTS);
            }
            for t in 0..T {
                let query = simd.splat(queries[t]);
                for v in 0..V {
                    dots[v][t] = simd.fma(key[v], query, dots[v][t]);
                }
            }
        }
        for t in 0..T {
            if t < count {
                let at = (first + t) * space.stride + row - rows.start;
                for v in 0..V {
                    let scores = &mut space.scores[at + v / S::PARTS * GROUP..];
                    let scores = scores.first_chunk_mut().expect("whole groups of rows");
                    simd.store(simd.mul(dots[v][t], scale), scores, v % S::PARTS);
                }
            }
        }
    }
    T
}

/// Rows of a cache, in logical order.
trait Rows: Copy {
    fn len(self) -> usize;
    /// Those from the `index`th on that follow one another in a page.
    fn run(self, index: usize) -> Range<usize>;
}

/// So many rows from a first one on.
#[derive(Clone, Copy)]
struct From(usize, usize);

impl Rows for From {
    #[inline(always)]
    fn len(self) -> usize {
        self.1
    }

    #[inline(always)]
    fn run(self, index: usize) -> Range<usize> {
        let (row, end) = (self.0 + index, self.0 + self.1);
        row..end.min((row / PAGE_ROWS + 1) * PAGE_ROWS)
    }
}

impl Rows for &[u32] {
    #[inline(always)]
    fn len(self) -> usize {
        <[u32]>::len(self)
    }

    #[inline(always)]
    fn run(self, index: usize) -> Range<usize> {
        let row = self[index] as usize;
        row..row + 1
    }
}

simd_fn! {
    /// `out += p * value` for every row that a query sees, in ascending order.
    fn add_values<E: KvElement>(simd, task: &Task<'_>, first_row: usize, space: &mut Space<'_>) {
        let mut next = 0;
        while next < task.len {
            let tile = next..task.len.min(next + value_queries::<S>());
            next = tile.end;
            // The part of their contexts that all of them see, which is most of it.
            let mut shared = 0..usize::MAX;
            for seen in &task.seen[tile.clone()] {
                shared.start = shared.start.max(seen.context.start);
                shared.end = shared.end.min(seen.context.end);
            }
            shared.end = shared.end.max(shared.start);
            let mut first = tile.start;
            while first < tile.end {
                let (queries, seen) = (first..task.end_of_node(first, tile.end), &task.seen[first]);
                let before = seen.context.start..seen.context.end.min(shared.start);
                add_context::<S, E>(simd, task, queries.clone(), before, first_row, space);
                first = queries.end;
            }
            add_context::<S, E>(simd, task, tile.clone(), shared.clone(), first_row, space);
            let mut first = tile.start;
            while first < tile.end {
                let (queries, seen) = (first..task.end_of_node(first, tile.end), &task.seen[first]);
                let behind = seen.context.start.max(shared.end)..seen.context.end;
                add_context::<S, E>(simd, task, queries.clone(), behind, first_row, space);
                let at = seen.score_start(first_row) + seen.context.len();
                add_rows::<S, E>(simd, task, queries.clone(), seen.path, at, space);
                first = queries.end;
            }
        }
    }
}

/// [`add_rows`] for rows of a context.
#[inline(always)]
fn add_context<S: Simd, E: KvElement>(
    simd: S,
    task: &Task<'_>,
    queries: Range<usize>,
    rows: Range<usize>,
    first_row: usize,
    space: &mut Space<'_>,
) {
    if !rows.is_empty() {
        add_rows::<S, E>(simd, task, queries, From(rows.start, rows.len()), rows.start - first_row, space);
    }
}

/// Queries that rows of values are added for at once: as many as their sums have registers for.
const fn value_queries<S: Simd>() -> usize {
    if S::PARTS == 1 { 6 } else { 4 }
}

/// Adds `rows`, which all of the `queries` see, to their outputs; their numerators start at `at`.
#[inline(always)]
fn add_rows<S: Simd, E: KvElement>(
    simd: S,
    task: &Task<'_>,
    queries: Range<usize>,
    rows: impl Rows,
    at: usize,
    space: &mut Space<'_>,
) {
    if rows.len() == 0 {
        return;
    }
    let groups = task.layer.shape().value_dim.div_ceil(GROUP);
    // More groups of dimensions at once than their sums have registers for are of no use.
    let mut group = 0;
    while group < groups {
        let queries = queries.clone();
        let is_wide = groups - group >= 4;
        group += match queries.len() {
            1 if is_wide => value_tile::<S, E, 1, 4>(simd, task, queries, rows, at, group, space),
            1 => value_tile::<S, E, 1, 1>(simd, task, queries, rows, at, group, space),
            2 | 3 if const { S::PARTS == 1 } && is_wide => {
                value_tile::<S, E, 3, 4>(simd, task, queries, rows, at, group, space)
            }
            2 | 3 => value_tile::<S, E, 3, 1>(simd, task, queries, rows, at, group, space),
            _ if const { S::PARTS == 1 } && is_wide => {
                value_tile::<S, E, 6, 4>(simd, task, queries, rows, at, group, space)
            }
            _ if const { S::PARTS == 1 } => {
                value_tile::<S, E, 6, 1>(simd, task, queries, rows, at, group, space)
            }
            _ => value_tile::<S, E, 4, 1>(simd, task, queries, rows, at, group, space),
        };
    }
}

/// [`add_rows`] for at most `T` queries and `G` groups of dimensions from `group` on; returns `G`. What is computed beyond the last
/// query is the last query's once more.
#[inline(always)]
fn value_tile<S: Simd, E: KvElement, const T: usize, const G: usize>(
    simd: S,
    task: &Task<'_>,
    tile: Range<usize>,
    rows: impl Rows,
    at: usize,
    group: usize,
    space: &mut Space<'_>,
) -> usize {
    let row_bytes = task.layer.value_bytes();
    let width = space.outs.len() / TASK_QUERIES;
    let mut queries = [0; T];
    let mut numerators = [&[][..]; T];
    for t in 0..T {
        queries[t] = (tile.start + t).min(tile.end - 1);
        numerators[t] = &space.scores[queries[t] * space.stride + at..][..rows.len()];
    }
    let mut sums = [[[simd.splat(0.0); MAX_PARTS]; G]; T];
    for t in 0..T {
        for g in 0..G {
            for part in 0..S::PARTS {
                let lanes = &space.outs[queries[t] * width + (group + g) * GROUP..];
                sums[t][g][part] = simd.load(simd::first(lanes), part);
            }
        }
    }
    let mut index = 0;
    while index < rows.len() {
        let run = rows.run(index);
        let values = &task.layer.values(task.kv_head, run.start)[..run.len() * row_bytes];
        let mut run_numerators = [&[][..]; T];
        for t in 0..T {
            run_numerators[t] = &numerators[t][index..][..run.len()];
        }
        for (row, values) in values.chunks_exact(row_bytes).enumerate() {
            for part in 0..S::PARTS {
                let mut loaded = [simd.splat(0.0); G];
                for g in 0..G {
                    loaded[g] = E::load_value(simd, values, group + g, part);
                }
                for t in 0..T {
                    let p = simd.splat(run_numerators[t][row]);
                    for g in 0..G {
                        sums[t][g][part] = simd.fma(p, loaded[g], sums[t][g][part]);
                    }
                }
            }
        }
        index += run.len();
    }
    for t in 0..T {
        for g in 0..G {
            let lanes = space.outs[queries[t] * width + (group + g) * GROUP..].first_chunk_mut();
            let lanes = lanes.expect("whole groups of dimensions");
            for part in 0..S::PARTS {
                simd.store(sums[t][g][part], lanes, part);
            }
        }
    }
    G
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_alibi_are_those_of_the_paper() {
        let slopes = |heads| (0..heads).map(|head| alibi_slope(head, heads)).collect::<Vec<_>>();
        assert_eq!(slopes(8), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015_625, 0.007_812_5, 0.003_906_25]);
        // Six heads: those of four, then the first and third of eight.
        assert_eq!(slopes(6), [0.25, 0.0625, 0.015_625, 0.003_906_25, 0.5, 0.125]);
    }
}
