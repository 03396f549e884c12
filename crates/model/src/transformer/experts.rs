//! Mixtures of experts: every token goes to the few experts that a router chooses for it, and every expert's weights are
//! read once for all tokens that chose it.
//!
//! Which experts a token takes, and in which order their results are added (by their numbers), depends on that token alone:
//! its result is the same in any batch.

use lookahead_kernels::{Activations, Kernels, add_scaled};

use super::{HiddenLayer, apply, needs_codes, run_mlp};
use crate::architecture::Experts;
use crate::weights::{ExpertsWeights, MlpWeights};

/// A token's way through one expert.
#[derive(Clone, Copy, Debug)]
struct Route {
    expert: usize,
    token: usize,
    weight: f32,
}

/// Who goes where. Reused between passes.
#[derive(Debug, Default)]
pub(super) struct Routing {
    /// The router's logits: `[token][expert]`; then probabilities.
    scores: Vec<f32>,
    /// A token's experts, best first.
    ranking: Vec<usize>,
    /// By expert, then by token.
    routes: Vec<Route>,
    /// The rows of one expert's tokens.
    input: Activations,
    /// What it makes of them.
    result: Vec<f32>,
    shared_gates: Vec<f32>,
}

impl ExpertsWeights {
    pub(super) fn needs_codes(&self) -> bool {
        let shared = self.shared.as_ref();
        needs_codes(&self.router) || shared.is_some_and(|(mlp, gate)| mlp.needs_codes() || needs_codes(gate))
    }
}

impl Routing {
    /// `out = sum of weight * expert(input)` over each token's experts, plus the shared expert.
    pub(super) fn run(
        &mut self,
        kernels: &Kernels,
        spec: &Experts,
        weights: &ExpertsWeights,
        input: &Activations,
        hidden: &mut HiddenLayer,
        out: &mut Vec<f32>,
    ) {
        let (tokens, columns) = (input.tokens(), input.columns());
        apply(kernels, input, [(&weights.router, &mut self.scores)]);
        self.route(spec);
        out.clear();
        out.resize(tokens * columns, 0.0);
        let codes = weights.experts.iter().any(MlpWeights::needs_codes);
        for routes in self.routes.chunk_by(|a, b| a.expert == b.expert) {
            self.input.compute(kernels, [routes.len(), columns], codes, [], columns, |index, [], row| {
                row.copy_from_slice(input.row(routes[index].token));
            });
            let expert = &weights.experts[routes[0].expert];
            run_mlp(kernels, &spec.expert, expert, &self.input, hidden, &mut self.result);
            for (route, result) in routes.iter().zip(self.result.chunks_exact(columns)) {
                let row = &mut out[route.token * columns..][..columns];
                add_scaled(kernels.isa(), row, result, route.weight);
            }
        }
        if let (Some(mlp), Some((shared, gate))) = (&spec.shared, &weights.shared) {
            apply(kernels, input, [(gate, &mut self.shared_gates)]);
            run_mlp(kernels, mlp, shared, input, hidden, &mut self.result);
            let rows = out.chunks_exact_mut(columns).zip(self.result.chunks_exact(columns));
            for ((row, result), gate) in rows.zip(&self.shared_gates) {
                add_scaled(kernels.isa(), row, result, 1.0 / (1.0 + libm::expf(-gate)));
            }
        }
    }

    /// Chooses each token's experts: those of the greatest probabilities, among equals the lower number.
    fn route(&mut self, spec: &Experts) {
        self.routes.clear();
        for (token, scores) in self.scores.chunks_exact_mut(spec.count).enumerate() {
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for score in scores.iter_mut() {
                *score = libm::expf(*score - largest);
            }
            let sum: f32 = scores.iter().sum();
            self.ranking.clear();
            self.ranking.extend(0..spec.count);
            self.ranking.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            let chosen = &self.ranking[..spec.active];
            let divisor =
                if spec.normalised { chosen.iter().map(|&expert| scores[expert]).sum() } else { sum };
            let routes =
                chosen.iter().map(|&expert| Route { expert, token, weight: scores[expert] / divisor });
            self.routes.extend(routes);
        }
        self.routes.sort_unstable_by_key(|route| (route.expert, route.token));
    }
}
