//! What each layer is given of a token besides the residual stream: a part of an embedding of its own, and of a projection of the
//! first.

use lookahead_kernels::{Activations, Kernels, add, gate, scale};
use lookahead_trie::TokenId;

use super::linear::apply;
use super::norm::normalise;
use crate::architecture::{Architecture, PerLayer};
use crate::weights::{PerLayerInputsWeights, PerLayerWeights};

/// Memory of the inputs, kept for the next pass.
#[derive(Debug, Default)]
pub(super) struct PerLayerInputs {
    /// `[node][layer][size]`
    inputs: Vec<f32>,
    /// Values of a row.
    width: usize,
    /// A token's embedding.
    embedding: Vec<f32>,
    gates: Vec<f32>,
    /// The input of the product behind them.
    gated: Activations,
}

impl PerLayerInputs {
    /// `inputs = (norm(projection(stream) / sqrt(hidden)) + embedding(token) * sqrt(size)) / sqrt(2)`, part by part; `stream` is what
    /// enters the first layer, `input` is scratch.
    pub(super) fn prepare<'a>(
        &mut self,
        kernels: &Kernels,
        architecture: &Architecture,
        weights: &PerLayerInputsWeights,
        tokens: impl Iterator<Item = &'a TokenId>,
        stream: &mut [f32],
        input: &mut Activations,
    ) {
        let Self { inputs, width, embedding, .. } = self;
        let (isa, hidden, size) = (kernels.isa(), architecture.hidden_size, weights.norm.weight.len());
        let (shape, codes) = ([stream.len() / hidden, hidden], weights.projection.input_codes());
        input.compute(kernels, shape, codes, [(stream, hidden)], hidden, |_, [stream], row| {
            row.copy_from_slice(stream);
        });
        apply(kernels, input, [(&weights.projection, inputs)]);
        *width = weights.projection.matrix.rows();
        embedding.resize(*width, 0.0);
        for (row, &token) in inputs.chunks_exact_mut(*width).zip(tokens) {
            scale(isa, row, 1.0 / (hidden as f32).sqrt());
            for part in row.chunks_exact_mut(size) {
                normalise(isa, architecture.norm, &weights.norm, part);
            }
            // Tokens that stand for images and sounds may have no row: they share the first.
            let token = if (token as usize) < weights.embedding.rows() { token as usize } else { 0 };
            weights.embedding.dequantize_row(token, embedding);
            scale(isa, embedding, (size as f32).sqrt());
            add(isa, row, embedding);
            scale(isa, row, std::f32::consts::FRAC_1_SQRT_2);
        }
    }

    /// `out = projection(activation(gate(stream)) * inputs)`
    pub(super) fn run(
        &mut self,
        kernels: &Kernels,
        spec: &PerLayer,
        weights: &PerLayerWeights,
        stream: &Activations,
        out: &mut Vec<f32>,
    ) {
        let Self { inputs, width, gates, gated, .. } = self;
        let (size, codes) = (spec.size, weights.projection.input_codes());
        let shape = [stream.tokens(), size];
        apply(kernels, stream, [(&weights.gate, gates)]);
        let sources = [(&mut gates[..], size), (&mut inputs[..], *width)];
        gated.compute(kernels, shape, codes, sources, 8 * size, |_, [gates, inputs], row| {
            gate(kernels.isa(), spec.activation, gates, &inputs[spec.layer * size..][..size], row);
        });
        apply(kernels, gated, [(&weights.projection, out)]);
    }
}
