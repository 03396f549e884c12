//! Mixtures of experts: every token goes to the few experts that a router chooses for it, and every expert's weights are
//! read once for all tokens that chose it. A token's results are added in the order of the experts' numbers.

use std::ops::BitOr;

use lookahead_kernels::{Activations, InputCodes, add, add_scaled, scale, scale_each};

use super::Cpu;
use super::routing::{Routes, sigmoid};
use crate::architecture::Experts;
use crate::transformer::backend::Backend;
use crate::transformer::feed_forward::{HiddenLayer, run_mlp};
use crate::weights::{ExpertsWeights, MlpWeights};

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct ExpertsBuffers {
    /// The router's outputs: `[token][expert]`.
    scores: Vec<f32>,
    routes: Routes,
    /// The rows of one expert's tokens.
    input: Activations,
    /// What it makes of them.
    result: Vec<f32>,
    shared_gates: Vec<f32>,
    hidden: HiddenLayer<Vec<f32>, Activations>,
}

/// `out = sum of weight * expert(input)` over each token's experts, or of `expert(weight * input)`, plus the shared expert. Where there are
/// learned scales, it is `weight * scale * expert(scales * input)`.
pub(super) fn run_experts(
    cpu: &mut Cpu,
    spec: &Experts,
    weights: &ExpertsWeights,
    input: &Activations,
    buffers: &mut ExpertsBuffers,
    out: &mut Vec<f32>,
) {
    let ExpertsBuffers { scores, routes, input: expert_input, result, shared_gates, hidden } = buffers;
    let (isa, tokens, columns) = (cpu.kernels.isa(), input.tokens(), input.columns());
    cpu.apply(input, [(&weights.router, scores)]);
    out.clear();
    out.resize(tokens * columns, 0.0);
    let weighs_inputs = spec.routing.weighs_inputs;
    let codes = weights.experts.iter().map(MlpWeights::input_codes).fold(InputCodes::NONE, BitOr::bitor);
    for routes in routes.choose(spec, &weights.choice_bias, scores).chunk_by(|a, b| a.expert == b.expert) {
        expert_input.compute(&cpu.kernels, [routes.len(), columns], codes, [], columns, |index, [], row| {
            row.copy_from_slice(input.row(routes[index].token));
            scale_each(isa, row, &weights.input_scales);
            if weighs_inputs {
                scale(isa, row, routes[index].weight);
            }
        });
        let expert = routes[0].expert;
        let result_scale = weights.result_scales.get(expert).copied().unwrap_or(1.0);
        run_mlp(cpu, &spec.expert, &weights.experts[expert], expert_input, hidden, result);
        for (route, result) in routes.iter().zip(result.chunks_exact(columns)) {
            let weight = if weighs_inputs { 1.0 } else { route.weight } * result_scale;
            add_scaled(isa, &mut out[route.token * columns..][..columns], result, weight);
        }
    }
    let (Some(shared), Some(weights)) = (&spec.shared, &weights.shared) else { return };
    run_mlp(cpu, &shared.mlp, &weights.mlp, input, hidden, result);
    let rows = out.chunks_exact_mut(columns).zip(result.chunks_exact(columns));
    match &weights.gate {
        None => rows.for_each(|(row, result)| add(isa, row, result)),
        Some(gate) => {
            cpu.apply(input, [(gate, shared_gates)]);
            for ((row, result), gate) in rows.zip(&*shared_gates) {
                add_scaled(isa, row, result, sigmoid(*gate));
            }
        }
    }
}
