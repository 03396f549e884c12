//! Networks of one hidden layer.

use super::backend::Backend;
use crate::architecture::Mlp;
use crate::weights::MlpWeights;

/// The hidden layer, kept for the next network.
#[derive(Debug, Default)]
pub(super) struct HiddenLayer<Rows, Input> {
    gate: Rows,
    up: Rows,
    /// The input of the product behind it.
    input: Input,
}

/// `out = down(activation(gate(input)) * up(input))`, or without a gate `out = down(activation(up(input)))`.
pub(super) fn run_mlp<B: Backend>(
    backend: &mut B,
    spec: &Mlp,
    weights: &MlpWeights,
    input: &B::Input,
    hidden: &mut HiddenLayer<B::Rows, B::Input>,
    out: &mut B::Rows,
) {
    let HiddenLayer { gate: gates, up: ups, input: down_input } = hidden;
    let codes = weights.down.input_codes();
    if let Some(gate) = &weights.gate {
        backend.apply(input, [(gate, gates), (&weights.up, ups)]);
        backend.activate(spec, Some(gates), ups, codes, down_input);
    } else {
        backend.apply(input, [(&weights.up, ups)]);
        backend.activate(spec, None, ups, codes, down_input);
    }
    backend.apply(down_input, [(&weights.down, out)]);
}
