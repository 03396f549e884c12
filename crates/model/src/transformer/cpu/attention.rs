//! Rows of queries, keys, values and gates, and the caches that they meet in.

use lookahead_kernels::{
    Activation, Attended, AttentionScratch, AttentionShape, Isa, Kernels, KvShape, attention, gate, scale,
    sigmoid,
};

use super::norm::normalise_heads;
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::transformer::backend::{AttentionBlock, CacheLayer};
use crate::transformer::placements::Placements;

/// Normalises queries, keys and values, and turns the first two to their positions. There may be no keys and values.
pub(super) fn turn(
    kernels: &Kernels,
    block: &AttentionBlock<'_>,
    placements: &Placements,
    queries: &mut [f32],
    keys_and_values: Option<[&mut Vec<f32>; 2]>,
) {
    let &AttentionBlock { spec, weights, norm, rope, .. } = block;
    let isa = kernels.isa();
    let tokens = placements.positions.len();
    let [keys, values] = keys_and_values.map(|rows| rows.map(|rows| &mut rows[..])).unwrap_or_default();
    let [query_width, key_width, value_width] =
        [&*queries, &*keys, &*values].map(|rows| rows.len() / tokens.max(1));
    let rows = [(queries, query_width), (keys, key_width), (values, value_width)];
    kernels.for_each_row(tokens, 4 * (query_width + key_width), rows, |token, [query, key, value]| {
        if let (Some(kind), Some(weights)) = (spec.value_norm, &weights.value_norm) {
            normalise_heads(isa, norm, kind, weights, spec.value_dim, value);
        }
        let position = placements.positions[token];
        let normalise = |rows: [&mut [f32]; 2]| {
            if let Some(kind) = spec.qk_norm {
                for (row, weights) in rows.into_iter().zip(&weights.qk_norms) {
                    normalise_heads(isa, norm, kind, weights, spec.key_dim, row);
                }
            }
        };
        if !spec.norm_is_behind_rope {
            normalise([&mut *query, &mut *key]);
        }
        if let Some(rope) = rope {
            for row in [&mut *query, &mut *key] {
                rope.rotate(isa, row, spec.key_dim, position);
            }
        }
        if spec.norm_is_behind_rope {
            normalise([&mut *query, &mut *key]);
        }
        if let Some(factor) = spec.query_scale.map(|scale| scale.at(position)).filter(|&factor| factor != 1.0)
        {
            scale(isa, query, factor);
        }
    });
}

/// Writes the nodes' keys and values to a layer of their caches.
pub(super) fn store(
    CacheLayer { index, shape }: CacheLayer,
    batch: &mut [SequenceStep<'_, KvCache>],
    placements: &Placements,
    [keys, values]: [&Vec<f32>; 2],
) {
    let KvShape { heads, key_dim, value_dim } = shape;
    let (key_width, value_width) = (heads * key_dim, heads * value_dim);
    let value_stride = values.len() / placements.positions.len().max(1);
    for (step, nodes) in batch.iter_mut().zip(&placements.sequences) {
        for (node, row) in nodes.clone().enumerate() {
            let key = &keys[row * key_width..][..key_width];
            let value = &values[row * value_stride..][..value_width];
            step.cache.write(index, node, key, value);
        }
    }
}

/// Attention of the nodes over what they see of a layer of their caches.
pub(super) fn attend(
    kernels: &Kernels,
    (layer, shape): (CacheLayer, AttentionShape<'_>),
    batch: &[SequenceStep<'_, KvCache>],
    placements: &Placements,
    queries: &[f32],
    scratch: &mut AttentionScratch,
    out: &mut Vec<f32>,
) {
    let attended = |sequence: usize| Attended {
        layer: batch[sequence].cache.layer(layer.index),
        visible: &placements.visible[sequence],
    };
    out.resize(placements.positions.len() * shape.heads * layer.shape.value_dim, 0.0);
    attention(kernels, shape, queries, batch.len(), &attended, scratch, out);
}

/// `row = sigmoid(gates) * values`; there are as many gates as values, or one for each head, or none.
pub(super) fn gate_heads(isa: Isa, gates: &[f32], values: &[f32], row: &mut [f32]) {
    if gates.len() == values.len() {
        return gate(isa, Activation::Sigmoid, gates, values, row);
    }
    row.copy_from_slice(values);
    let head_dim = values.len() / gates.len().max(1);
    for (head, gate) in row.chunks_exact_mut(head_dim).zip(gates) {
        scale(isa, head, sigmoid(*gate));
    }
}
