//! What enters the first layer.

use lookahead_kernels::{Kernels, add, scale};
use lookahead_trie::TokenId;

use super::norm::normalise;
use crate::architecture::Architecture;
use crate::weights::Weights;

/// Writes the embeddings of `tokens` at `positions` to `stream`, `[node][hidden]`; `position_row` is scratch.
pub(super) fn embed<'a>(
    kernels: &Kernels,
    architecture: &Architecture,
    weights: &Weights,
    tokens: impl Iterator<Item = &'a TokenId>,
    positions: &[usize],
    position_row: &mut Vec<f32>,
    stream: &mut [f32],
) {
    let (isa, hidden, embedding) = (kernels.isa(), architecture.hidden_size, &architecture.embedding);
    for ((row, &token), position) in stream.chunks_exact_mut(hidden).zip(tokens).zip(positions) {
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
