//! Parts of heads, and products of single heads.

use lookahead_kernels::{Activations, Kernels};

use super::linear::apply;
use crate::transformer::backend::HeadParts;
use crate::weights::Linear;

/// Memory of products of heads, kept for the next ones.
#[derive(Debug, Default)]
pub(super) struct HeadBuffers {
    /// The input of a head's product, and what comes of it.
    input: Activations,
    result: Vec<f32>,
}

/// Multiplies the part `from` of each head of `rows` with the head's own map, and writes the result to the part `to` of the head in `out`.
pub(super) fn apply_to_heads(
    kernels: &Kernels,
    maps: &[Linear],
    [from, to]: [HeadParts; 2],
    rows: &mut [f32],
    buffers: &mut HeadBuffers,
    out: &mut Vec<f32>,
) {
    let HeadBuffers { input, result } = buffers;
    let nodes = rows.len() / from.row_width();
    out.resize(nodes * to.row_width(), 0.0);
    for (head, linear) in maps.iter().enumerate() {
        let (codes, sources) = (linear.input_codes(), [(&mut *rows, from.row_width())]);
        input.compute(kernels, [nodes, from.width], codes, sources, from.width, |_, [row], to| {
            to.copy_from_slice(&row[from.of_head(head)]);
        });
        apply(kernels, input, [(linear, result)]);
        let results = result.chunks_exact(to.width);
        for (row, result) in out.chunks_exact_mut(to.row_width()).zip(results) {
            row[to.of_head(head)].copy_from_slice(result);
        }
    }
}

/// Copies the part `from` of each head of `rows` to the part `to` of the head in `out`.
pub(super) fn copy_heads([from, to]: [HeadParts; 2], rows: &[f32], out: &mut Vec<f32>) {
    let nodes = rows.len() / from.row_width();
    out.resize(nodes * to.row_width(), 0.0);
    let heads = rows.chunks_exact(from.head_dim).zip(out.chunks_exact_mut(to.head_dim));
    for (head, out) in heads {
        out[to.first..][..to.width].copy_from_slice(&head[from.first..][..from.width]);
    }
}
