//! A narrow map beside attention.

use lookahead_kernels::{Activations, Kernels, add};

use super::linear::apply_series;
use super::norm::normalise;
use crate::architecture::Norm;
use crate::weights::LaurelWeights;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct LaurelBuffers {
    between: Vec<f32>,
    second_input: Activations,
}

/// `out = input + norm(right(left(input)))`
pub(super) fn run_laurel(
    kernels: &Kernels,
    norm: Norm,
    weights: &LaurelWeights,
    input: &Activations,
    buffers: &mut LaurelBuffers,
    out: &mut Vec<f32>,
) {
    let LaurelBuffers { between, second_input } = buffers;
    apply_series(kernels, input, &weights.maps, second_input, between, out);
    let (isa, columns) = (kernels.isa(), input.columns());
    kernels.for_each_row(input.tokens(), 3 * columns, [(out, columns)], |token, [row]| {
        normalise(isa, norm, &weights.norm, row);
        add(isa, row, input.row(token));
    });
}
