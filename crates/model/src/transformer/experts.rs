//! Mixtures of experts: every token goes to the few experts that a router chooses for it, and every expert's weights are
//! read once for all tokens that chose it. A token's results are added in the order of the experts' numbers.

use std::ops::BitOr;

use lookahead_kernels::InputCodes;

use super::backend::{Backend, Gathered};
use super::feed_forward::{HiddenLayer, run_mlp};
use super::routing::{Routes, sigmoid};
use crate::architecture::Experts;
use crate::weights::{ExpertsWeights, MlpWeights};

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct ExpertsBuffers<Rows, Input> {
    /// The router's outputs `[token][expert]`, and the gates of the shared expert `[token]`.
    scores: Rows,
    gates: Rows,
    /// The same, where routes are chosen.
    read_scores: Vec<f32>,
    read_gates: Vec<f32>,
    routes: Routes,
    /// The rows of one expert's tokens.
    input: Input,
    /// What it makes of them.
    result: Rows,
    hidden: HiddenLayer<Rows, Input>,
}

/// `out = sum of weight * expert(input)` over each token's experts, or of `expert(weight * input)`, plus the shared expert. Where there are
/// learned scales, it is `weight * scale * expert(scales * input)`.
pub(super) fn run_experts<B: Backend>(
    backend: &mut B,
    spec: &Experts,
    weights: &ExpertsWeights,
    input: &B::Input,
    buffers: &mut ExpertsBuffers<B::Rows, B::Input>,
    out: &mut B::Rows,
) {
    let ExpertsBuffers {
        scores,
        gates,
        read_scores,
        read_gates,
        routes,
        input: expert_input,
        result,
        hidden,
    } = buffers;
    let width = weights.router.matrix.columns();
    let shared = spec.shared.as_ref().zip(weights.shared.as_ref());
    let shared_gate = shared.and_then(|(_, weights)| weights.gate.as_ref());
    if let Some(gate) = shared_gate {
        backend.apply(input, [(&weights.router, scores), (gate, gates)]);
        backend.read_back([(scores, read_scores), (gates, read_gates)]);
    } else {
        backend.apply(input, [(&weights.router, scores)]);
        backend.read_back([(scores, read_scores)]);
    }
    backend.zero(input, out);
    let weighs_inputs = spec.routing.weighs_inputs;
    let codes = weights.experts.iter().map(MlpWeights::input_codes).fold(InputCodes::NONE, BitOr::bitor);
    let routes = routes.choose(spec, &weights.choice_bias, read_scores);
    for routes in routes.chunk_by(|a, b| a.expert == b.expert) {
        let gathered = Gathered { routes, scales: &weights.input_scales, weighs_inputs, codes };
        backend.gather(&gathered, input, expert_input);
        let expert = routes[0].expert;
        run_mlp(backend, &spec.expert, &weights.experts[expert], expert_input, hidden, result);
        let result_scale = weights.result_scales.get(expert).copied().unwrap_or(1.0);
        let weight = |weight| if weighs_inputs { 1.0 } else { weight } * result_scale;
        let rows = routes.iter().map(|route| (route.token, weight(route.weight)));
        backend.add_rows(rows, width, result, out);
    }
    let Some((shared, weights)) = shared else { return };
    run_mlp(backend, &shared.mlp, &weights.mlp, input, hidden, result);
    if shared_gate.is_some() {
        let rows = read_gates.iter().map(|&gate| sigmoid(gate)).enumerate();
        backend.add_rows(rows, width, result, out);
    } else {
        backend.add_rows((0..).map(|token| (token, 1.0)), width, result, out);
    }
}
