//! Networks of one hidden layer.

use lookahead_kernels::{Activations, Kernels, activate, gate, keep_outliers};

use super::linear::apply;
use crate::architecture::Mlp;
use crate::weights::MlpWeights;

/// The hidden layer, kept for the next network.
#[derive(Debug, Default)]
pub(super) struct HiddenLayer {
    gate: Vec<f32>,
    up: Vec<f32>,
    /// The input of the product behind it.
    input: Activations,
}

/// `out = down(activation(gate(input)) * up(input))`, or without a gate `out = down(activation(up(input)))`.
pub(super) fn run_mlp(
    kernels: &Kernels,
    spec: &Mlp,
    weights: &MlpWeights,
    input: &Activations,
    hidden: &mut HiddenLayer,
    out: &mut Vec<f32>,
) {
    let HiddenLayer { gate: gates, up: ups, input: down_input } = hidden;
    let (shape, activation) = ([input.tokens(), spec.size], spec.activation);
    let codes = weights.down.input_codes();
    let isa = kernels.isa();
    let thin_out = |row: &mut [f32]| {
        if let Some(deviations) = spec.sparsity {
            keep_outliers(isa, row, deviations);
        }
    };
    if let Some(gate_weights) = &weights.gate {
        apply(kernels, input, [(gate_weights, gates), (&weights.up, ups)]);
        let sources = [(&mut gates[..], spec.size), (&mut ups[..], spec.size)];
        down_input.compute(kernels, shape, codes, sources, 8 * spec.size, |_, [gates, ups], row| {
            thin_out(gates);
            gate(isa, activation, gates, ups, row);
        });
    } else {
        apply(kernels, input, [(&weights.up, ups)]);
        let sources = [(&mut ups[..], spec.size)];
        down_input.compute(kernels, shape, codes, sources, 8 * spec.size, |_, [ups], row| {
            thin_out(ups);
            activate(isa, activation, ups, row);
        });
    }
    apply(kernels, down_input, [(&weights.down, out)]);
}
