//! What each layer is given of a token besides the residual stream: a part of an embedding of its own, and of a projection of the
//! first.

use super::backend::{Backend, Step};
use super::residual::Residual;
use crate::architecture::{self, Architecture, PerLayer};
use crate::weights::{PerLayerInputsWeights, PerLayerWeights};

/// Memory of the inputs, kept for the next pass.
#[derive(Debug, Default)]
pub(super) struct PerLayerInputs<Rows, Input> {
    /// `[node][layer][size]`
    inputs: Rows,
    gates: Rows,
    /// The input of the product behind them.
    gated: Input,
}

impl<Rows, Input> PerLayerInputs<Rows, Input> {
    /// Computes the inputs of all layers; `entering` is what enters the first, `input` is scratch.
    pub(super) fn prepare<B: Backend<Rows = Rows, Input = Input>>(
        &mut self,
        backend: &mut B,
        architecture: &Architecture,
        weights: &PerLayerInputsWeights,
        batch: &[Step<'_, B>],
        entering: &mut Residual<'_, B>,
        input: &mut Input,
    ) {
        entering.read(backend, architecture::Input::Plain, None, weights.projection.input_codes(), input);
        backend.apply(input, [(&weights.projection, &mut self.inputs)]);
        backend.add_layer_embeddings(architecture, weights, batch, &mut self.inputs);
    }

    /// `out = projection(activation(gate(stream)) * inputs)`
    pub(super) fn run<B: Backend<Rows = Rows, Input = Input>>(
        &mut self,
        backend: &mut B,
        spec: &PerLayer,
        weights: &PerLayerWeights,
        stream: &Input,
        out: &mut Rows,
    ) {
        let Self { inputs, gates, gated } = self;
        backend.apply(stream, [(&weights.gate, gates)]);
        backend.gate_layer_inputs(spec, gates, inputs, weights.projection.input_codes(), gated);
        backend.apply(gated, [(&weights.projection, out)]);
    }
}
