//! Norms of a row.

use lookahead_kernels::{Isa, layer_norm_in_place, rms_norm, rms_norm_in_place};

use crate::architecture::{Norm, NormKind, QkNorm};
use crate::weights::NormWeights;

/// `row = norm(row)`
pub(super) fn normalise(isa: Isa, norm: Norm, weights: &NormWeights, row: &mut [f32]) {
    match norm.kind {
        NormKind::Rms => rms_norm_in_place(isa, row, &weights.weight, norm.epsilon),
        NormKind::Layer => layer_norm_in_place(isa, row, &weights.weight, &weights.bias, norm.epsilon),
    }
}

/// `out = norm(row)`; without weights `out = row`.
pub(super) fn normalise_to(
    isa: Isa,
    norm: Norm,
    weights: Option<&NormWeights>,
    row: &[f32],
    out: &mut [f32],
) {
    match weights {
        Some(weights) if norm.kind == NormKind::Rms => {
            rms_norm(isa, row, &weights.weight, norm.epsilon, out);
        }
        weights => {
            out.copy_from_slice(row);
            if let Some(weights) = weights {
                normalise(isa, norm, weights, out);
            }
        }
    }
}

/// Normalises queries or keys of a node, all heads side by side.
pub(super) fn normalise_heads(
    isa: Isa,
    norm: Norm,
    kind: QkNorm,
    weights: &NormWeights,
    head_dim: usize,
    row: &mut [f32],
) {
    match kind {
        QkNorm::Whole => normalise(isa, norm, weights, row),
        QkNorm::Heads | QkNorm::Unweighted => {
            for head in row.chunks_exact_mut(head_dim) {
                normalise(isa, norm, weights, head);
            }
        }
        QkNorm::EachHead => {
            for (head, weight) in row.chunks_exact_mut(head_dim).zip(weights.weight.chunks_exact(head_dim)) {
                match norm.kind {
                    NormKind::Rms => rms_norm_in_place(isa, head, weight, norm.epsilon),
                    NormKind::Layer => layer_norm_in_place(isa, head, weight, &[], norm.epsilon),
                }
            }
        }
    }
}
