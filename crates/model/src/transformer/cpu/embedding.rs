//! Embeddings of tokens.

use std::f32::consts::FRAC_1_SQRT_2;

use lookahead_kernels::{Isa, add, scale};
use lookahead_trie::TokenId;

use super::norm::normalise;
use crate::architecture::Architecture;
use crate::weights::{PerLayerInputsWeights, Weights};

/// Writes the embeddings of tokens at their positions to `stream`, `[node][hidden]`; `position_row` is scratch.
pub(in crate::transformer) fn embed<'a>(
    isa: Isa,
    architecture: &Architecture,
    weights: &Weights,
    tokens: impl Iterator<Item = (&'a TokenId, &'a usize)>,
    position_row: &mut Vec<f32>,
    stream: &mut [f32],
) {
    let (hidden, embedding) = (architecture.hidden_size, &architecture.embedding);
    for (row, (&token, position)) in stream.chunks_exact_mut(hidden).zip(tokens) {
        weights.embedding.dequantize_row(token as usize, row);
        if embedding.scale != 1.0 {
            scale(isa, row, embedding.scale);
        }
        if let (Some(table), Some(first)) = (&weights.positions, embedding.first_position) {
            position_row.resize(hidden, 0.0);
            table.dequantize_row(first + position, position_row);
            add(isa, row, position_row);
        }
        if let Some(norm) = &weights.embedding_norm {
            normalise(isa, architecture.norm, norm, row);
        }
    }
}

/// Makes projections of the residual stream, `[node][layer][size]`, into what layers are given besides: normalises them, and adds the
/// embeddings of `tokens`; `embedding` is scratch.
pub(super) fn add_layer_embeddings<'a>(
    isa: Isa,
    architecture: &Architecture,
    weights: &PerLayerInputsWeights,
    tokens: impl Iterator<Item = &'a TokenId>,
    embedding: &mut Vec<f32>,
    inputs: &mut [f32],
) {
    let (hidden, size) = (architecture.hidden_size, weights.norm.weight.len());
    let width = weights.projection.matrix.rows();
    embedding.resize(width, 0.0);
    for (row, &token) in inputs.chunks_exact_mut(width).zip(tokens) {
        scale(isa, row, 1.0 / (hidden as f32).sqrt());
        for part in row.chunks_exact_mut(size) {
            normalise(isa, architecture.norm, &weights.norm, part);
        }
        layer_embedding(isa, weights, token, embedding);
        add(isa, row, embedding);
        scale(isa, row, FRAC_1_SQRT_2);
    }
}

/// Writes what layers are given of a token besides the residual stream to `row`, `[layer][size]`, as it is before anything is added.
pub(in crate::transformer) fn layer_embedding(
    isa: Isa,
    weights: &PerLayerInputsWeights,
    token: TokenId,
    row: &mut [f32],
) {
    // Tokens that stand for images and sounds may have no row: they share the first.
    let token = if (token as usize) < weights.embedding.rows() { token as usize } else { 0 };
    weights.embedding.dequantize_row(token, row);
    scale(isa, row, (weights.norm.weight.len() as f32).sqrt());
}
