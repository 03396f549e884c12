//! A narrow map beside attention.

use super::backend::{Backend, Normalised};
use crate::architecture::Norm;
use crate::weights::LaurelWeights;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct LaurelBuffers<Rows, Input> {
    /// What is between the two maps.
    between: Rows,
    right_input: Input,
}

/// `out = input + norm(right(left(input)))`, for so many nodes.
pub(super) fn run_laurel<B: Backend>(
    backend: &mut B,
    norm: Norm,
    weights: &LaurelWeights,
    nodes: usize,
    input: &B::Input,
    buffers: &mut LaurelBuffers<B::Rows, B::Input>,
    out: &mut B::Rows,
) {
    let LaurelBuffers { between, right_input } = buffers;
    let LaurelWeights { left, right, norm: norm_weights } = weights;
    backend.apply(input, [(left, &mut *between)]);
    let (shape, codes) = ([nodes, left.matrix.rows()], right.input_codes());
    backend.normalise(Normalised { shape, norm, weights: None, codes }, between, right_input);
    backend.apply(right_input, [(right, &mut *out)]);
    backend.normalise_and_add(norm, norm_weights, input, out);
}
