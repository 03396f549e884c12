//! Attention of tree nodes over a KV cache.
//!
//! A node sees the context and its own ancestors: logical positions in ascending order, wherever their rows lie. The
//! definition, for one node and head:
//!
//! - `score[j] = dot(query, key[j]) * scale`; lane `i` of a dot product adds the dimensions `i` modulo 8 in ascending
//!   order by fused multiply-add, and the lanes are added as in [`Simd::sum`];
//! - `p[j] = e^(score[j] - max)`, summed in lanes by `j` modulo 8;
//! - `out[d]` adds `p[j] * value[j][d]` in ascending order of `j` by fused multiply-add, and is divided by the sum.
//!
//! Nothing in it depends on other nodes, so it does not matter what tree a node is part of.

use std::ops::Range;

use crate::elementwise::exp_sum;
use crate::pool::Disjoint;
use crate::simd::{Simd, simd_fn};
use crate::{Isa, Kernels};

/// Nodes to a task: they read the same keys and values, which then come from the cache.
const TASK_NODES: usize = 8;

/// Sizes of an attention operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Factor on the dot products.
    pub scale: f32,
}

/// The rows of the cache that a node sees, in logical order: a range, then single rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VisibleRows {
    /// Rows that follow each other.
    pub range: Range<usize>,
    /// The rest of the node's path, itself included, where it does not continue the range.
    pub path: Vec<u32>,
}

impl VisibleRows {
    /// Number of rows.
    #[allow(clippy::len_without_is_empty, reason = "a node sees at least itself")]
    pub fn len(&self) -> usize {
        self.range.len() + self.path.len()
    }
}

/// Keys and values of one layer of one sequence: `[kv_head][row][head_dim]`, `capacity` rows a head.
#[derive(Clone, Copy, Debug)]
pub struct KeysValues<'a> {
    /// Keys, rotated already.
    pub keys: &'a [f32],
    /// Values.
    pub values: &'a [f32],
    /// Rows that a head has room for.
    pub capacity: usize,
}

/// Per-thread scratch space for scores. Kept between operators.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    scores: Vec<f32>,
}

/// One sequence's nodes: `queries` and `out` are `[node][head][head_dim]`, `visible` has an entry a node.
///
/// # Panics
/// If lengths do not fit the shape, or a visible row lies beyond the cache.
pub fn attention(
    kernels: &Kernels,
    shape: AttentionShape,
    queries: &[f32],
    cache: KeysValues<'_>,
    visible: &[VisibleRows],
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim, .. } = shape;
    let nodes = visible.len();
    assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "query heads share key heads evenly");
    assert!(queries.len() == nodes * heads * head_dim && out.len() == queries.len(), "a row a node");
    assert!(cache.keys.len() == cache.values.len(), "as many keys as values");
    assert!(cache.keys.len() >= kv_heads * cache.capacity * head_dim, "a row of keys a position");
    let longest = visible.iter().map(VisibleRows::len).max().unwrap_or(0);
    if scratch.scores.len() < longest * kernels.threads() {
        // Rounded up, so that a growing context allocates rarely.
        scratch.scores.resize(longest.next_multiple_of(256) * kernels.threads(), 0.0);
    }
    let scores_stride = scratch.scores.len() / kernels.threads();
    let scores = Disjoint::new(&mut scratch.scores);
    let out = Disjoint::new(out);
    let node_tiles = nodes.div_ceil(TASK_NODES);
    let work = longest * head_dim * 2 * nodes.min(TASK_NODES);
    kernels.run(heads * node_tiles, work, |thread, task| {
        let (head, tile) = (task / node_tiles, task % node_tiles);
        let rows = head / (heads / kv_heads) * cache.capacity * head_dim..;
        let keys = &cache.keys[rows.clone()][..cache.capacity * head_dim];
        let values = &cache.values[rows][..cache.capacity * head_dim];
        for node in tile * TASK_NODES..((tile + 1) * TASK_NODES).min(nodes) {
            let offset = (node * heads + head) * head_dim;
            let query = &queries[offset..][..head_dim];
            // SAFETY: a thread runs one task at a time; each node and head belongs to one task.
            let (scores, out) = unsafe {
                (scores.part(thread * scores_stride, visible[node].len()), out.part(offset, head_dim))
            };
            attend(kernels.isa(), shape.scale, query, keys, values, &visible[node], scores, out);
        }
    });
}

#[allow(clippy::too_many_arguments, reason = "the operands of the formula")]
fn attend(
    isa: Isa,
    scale: f32,
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    visible: &VisibleRows,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (in_range, on_path) = scores.split_at_mut(visible.range.len());
    score_range(isa, scale, query, keys, visible.range.clone(), in_range);
    score_path(isa, scale, query, keys, &visible.path, on_path);
    let sum = exp_sum(isa, scores);
    let (in_range, on_path) = scores.split_at(visible.range.len());
    out.fill(0.0);
    add_range(isa, in_range, values, visible.range.clone(), out);
    add_path(isa, on_path, values, &visible.path, out);
    for out in out {
        *out /= sum;
    }
}

simd_fn! {
    fn score_range(simd, scale: f32, query: &[f32], keys: &[f32], rows: Range<usize>, scores: &mut [f32]) {
        score_rows(simd, scale, query, keys, rows, scores);
    }
}

simd_fn! {
    fn score_path(simd, scale: f32, query: &[f32], keys: &[f32], path: &[u32], scores: &mut [f32]) {
        score_rows(simd, scale, query, keys, path.iter().map(|&row| row as usize), scores);
    }
}

simd_fn! {
    fn add_range(simd, scores: &[f32], values: &[f32], rows: Range<usize>, out: &mut [f32]) {
        add_values(simd, scores, values, rows, out);
    }
}

simd_fn! {
    fn add_path(simd, scores: &[f32], values: &[f32], path: &[u32], out: &mut [f32]) {
        add_values(simd, scores, values, path.iter().map(|&row| row as usize), out);
    }
}

/// `scores[i] = dot(query, row i) * scale`
#[inline(always)]
fn score_rows<S: Simd>(
    simd: S,
    scale: f32,
    query: &[f32],
    keys: &[f32],
    rows: impl Iterator<Item = usize> + Clone,
    scores: &mut [f32],
) {
    let head_dim = query.len();
    let mut rows = rows.map(|row| &keys[row * head_dim..][..head_dim]);
    let (fours, rest) = scores.as_chunks_mut::<4>();
    for scores in fours {
        // Four rows at once: each dot product alone would wait for its own additions.
        let four: [&[f32]; 4] = std::array::from_fn(|_| rows.next().unwrap_or(query));
        let dots = dot(simd, query, four);
        for i in 0..4 {
            scores[i] = dots[i] * scale;
        }
    }
    for (score, row) in rest.iter_mut().zip(rows) {
        *score = dot(simd, query, [row])[0] * scale;
    }
}

#[inline(always)]
fn dot<S: Simd, const N: usize>(simd: S, query: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    let mut lanes = [simd.splat(0.0); N];
    let (query_chunks, query_rest) = query.as_chunks::<8>();
    let row_chunks = rows.map(|row| &row.as_chunks::<8>().0[..query_chunks.len()]);
    for (c, query) in query_chunks.iter().enumerate() {
        let query = simd.load(query);
        for n in 0..N {
            lanes[n] = simd.fma(query, simd.load(&row_chunks[n][c]), lanes[n]);
        }
    }
    if !query_rest.is_empty() {
        // The missing dimensions add 0 * 0 to lanes that end earlier: no change, but for the sign of a zero.
        let pad = |values: &[f32]| {
            let mut padded = [0.0; 8];
            padded[..values.len()].copy_from_slice(values);
            padded
        };
        let tail = query_chunks.len() * 8;
        let query = simd.load(&pad(query_rest));
        for n in 0..N {
            lanes[n] = simd.fma(query, simd.load(&pad(&rows[n][tail..])), lanes[n]);
        }
    }
    let mut dots = [0.0; N];
    for n in 0..N {
        dots[n] = simd.sum(lanes[n]);
    }
    dots
}

/// `out[d] += scores[i] * value row i[d]`, in the order of the rows.
#[inline(always)]
fn add_values<S: Simd>(
    simd: S,
    scores: &[f32],
    values: &[f32],
    rows: impl Iterator<Item = usize> + Clone,
    out: &mut [f32],
) {
    let head_dim = out.len();
    let (tiles, rest) = out.as_chunks_mut::<64>();
    for (t, out) in tiles.iter_mut().enumerate() {
        let mut sums = [simd.splat(0.0); 8];
        for i in 0..8 {
            sums[i] = simd.load(chunk(out, 8 * i));
        }
        for (score, row) in scores.iter().zip(rows.clone()) {
            let p = simd.splat(*score);
            let value = &values[row * head_dim + 64 * t..][..64];
            for i in 0..8 {
                sums[i] = simd.fma(p, simd.load(chunk(value, 8 * i)), sums[i]);
            }
        }
        for i in 0..8 {
            let mut lanes = [0.0; 8];
            simd.store(sums[i], &mut lanes);
            out[8 * i..][..8].copy_from_slice(&lanes);
        }
    }
    let first = tiles.len() * 64;
    for (score, row) in scores.iter().zip(rows) {
        let value = &values[row * head_dim + first..][..rest.len()];
        for (out, value) in rest.iter_mut().zip(value) {
            *out = score.mul_add(*value, *out);
        }
    }
}

#[inline(always)]
fn chunk(values: &[f32], start: usize) -> &[f32; 8] {
    const ZEROS: &[f32; 8] = &[0.0; 8];
    values[start..].first_chunk().unwrap_or(ZEROS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::math;

    /// The formulas of the module's documentation, one value at a time.
    fn definition(
        shape: AttentionShape,
        query: &[f32],
        cache: KeysValues<'_>,
        head: usize,
        rows: &[usize],
    ) -> Vec<f32> {
        let dim = shape.head_dim;
        let base = head / (shape.heads / shape.kv_heads) * cache.capacity * dim;
        let sum = |lanes: [f32; 8]| {
            ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
        };
        let scores: Vec<f32> = rows
            .iter()
            .map(|row| {
                let mut lanes = [0.0f32; 8];
                for d in 0..dim {
                    lanes[d % 8] = query[d].mul_add(cache.keys[base + row * dim + d], lanes[d % 8]);
                }
                sum(lanes) * shape.scale
            })
            .collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let p: Vec<f32> = scores.iter().map(|score| math::exp(score - largest)).collect();
        let mut lanes = [0.0f32; 8];
        p.iter().enumerate().for_each(|(j, p)| lanes[j % 8] += p);
        (0..dim)
            .map(|d| {
                let add =
                    |out: f32, (row, p): (&usize, &f32)| p.mul_add(cache.values[base + row * dim + d], out);
                rows.iter().zip(&p).fold(0.0f32, add) / sum(lanes)
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn every_kernel_gives_the_bits_of_the_definition(
            head_dim in prop::sample::select(vec![4usize, 8, 12, 16, 32, 64, 80, 128]),
            group in 1usize..4,
            kv_heads in 1usize..3,
            nodes in 1usize..12,
            first in 0usize..5,
            contiguous in 1usize..40,
            noise in prop::collection::vec(-2f32..2.0, 997),
            path in prop::collection::vec(45u32..60, 0..9),
        ) {
            let shape = AttentionShape { heads: group * kv_heads, kv_heads, head_dim, scale: 0.3 };
            let capacity = 60;
            let value = |i: usize, salt: usize| noise[(i * 31 + salt) % noise.len()];
            let rows = kv_heads * capacity * head_dim;
            let keys: Vec<f32> = (0..rows).map(|i| value(i, 1)).collect();
            let values: Vec<f32> = (0..rows).map(|i| value(i, 500)).collect();
            let cache = KeysValues { keys: &keys, values: &values, capacity };
            let row = shape.heads * head_dim;
            let queries: Vec<f32> = (0..nodes * row).map(|i| value(i, 77)).collect();
            let visible: Vec<VisibleRows> = (0..nodes)
                .map(|node| VisibleRows {
                    range: first..first + contiguous,
                    path: path[..path.len().min(node)].to_vec(),
                })
                .collect();
            let expected: Vec<u32> = (0..nodes)
                .flat_map(|node| {
                    let path = visible[node].path.iter().map(|&r| r as usize);
                    let rows: Vec<usize> = visible[node].range.clone().chain(path).collect();
                    let queries = &queries;
                    (0..shape.heads).flat_map(move |head| {
                        let query = &queries[node * row + head * head_dim..][..head_dim];
                        definition(shape, query, cache, head, &rows)
                    })
                })
                .map(f32::to_bits)
                .collect();
            for isa in Isa::available() {
                for threads in [1, 2] {
                    let kernels = Kernels::with_isa(isa, threads);
                    let mut out = vec![0.0; queries.len()];
                    let mut scratch = AttentionScratch::default();
                    attention(&kernels, shape, &queries, cache, &visible, &mut scratch, &mut out);
                    let found: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
                    prop_assert_eq!(&found, &expected, "{:?}, {} threads", isa, threads);
                }
            }
        }
    }
}
