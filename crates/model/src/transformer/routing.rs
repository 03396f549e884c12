//! Which experts each token takes, and with what weights.
//!
//! It depends on that token alone, so that its result is the same in any batch.

use std::cmp::Ordering;

use crate::architecture::{ExpertGroups, Experts, RouterScores};

/// A token's way through one expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Route {
    pub(super) expert: usize,
    pub(super) token: usize,
    pub(super) weight: f32,
}

/// Who goes where. Reused between passes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// A token's experts, best first.
    ranking: Vec<usize>,
    /// Its groups of experts, best first, and how good they are.
    groups: Vec<(usize, f32)>,
    /// Its scores with the biases of the experts.
    biased: Vec<f32>,
    /// By expert, then by token.
    ways: Vec<Route>,
}

impl Routes {
    /// The ways of all tokens, by expert, then by token. `scores` are the router's outputs, `[token][expert]`, and are
    /// overwritten; `bias` is added to them where experts are chosen, empty if there is none. Of equal scores the lower number
    /// counts as the greater.
    pub(super) fn choose(&mut self, spec: &Experts, bias: &[f32], scores: &mut [f32]) -> &[Route] {
        let Self { ranking, groups, biased, ways } = self;
        ways.clear();
        for (token, scores) in scores.chunks_exact_mut(spec.count).enumerate() {
            let sum = score(spec, ranking, scores);
            biased.clear();
            biased.extend_from_slice(scores);
            for (score, bias) in biased.iter_mut().zip(bias) {
                *score = *score / sum + bias;
            }
            ranking.clear();
            match spec.routing.groups {
                None => ranking.extend(0..spec.count),
                Some(ExpertGroups { count, active, judged_by }) => {
                    let size = spec.count / count;
                    let members = |group: usize| group * size..(group + 1) * size;
                    groups.clear();
                    groups.extend((0..count).map(|group| {
                        // Of few members: sorted are copies of their scores.
                        ranking.clear();
                        ranking.extend(members(group));
                        ranking.sort_unstable_by(|&a, &b| by_score(biased[a], biased[b]));
                        let best = ranking.iter().take(judged_by).map(|&expert| biased[expert]);
                        (group, best.sum())
                    }));
                    groups.sort_unstable_by(|a, b| by_score(a.1, b.1).then(a.0.cmp(&b.0)));
                    ranking.clear();
                    ranking.extend(groups.iter().take(active).flat_map(|&(group, _)| members(group)));
                }
            }
            ranking.sort_unstable_by(|&a, &b| by_score(biased[a], biased[b]).then(a.cmp(&b)));
            ranking.truncate(spec.active);
            let divisor = if spec.routing.normalised {
                ranking.iter().map(|&expert| scores[expert]).sum()
            } else {
                sum
            };
            ways.extend(ranking.iter().map(|&expert| {
                let weight = scores[expert] / divisor * spec.routing.scale;
                Route { expert, token, weight }
            }));
        }
        ways.sort_unstable_by_key(|route| (route.expert, route.token));
        ways
    }
}

fn by_score(a: f32, b: f32) -> Ordering {
    b.total_cmp(&a)
}

/// Makes a token's router outputs into scores, and returns what those are to be divided by; `ranking` is scratch.
fn score(spec: &Experts, ranking: &mut Vec<usize>, scores: &mut [f32]) -> f32 {
    match spec.routing.scores {
        RouterScores::OneByOne { tolerance } => {
            ranking.clear();
            ranking.extend(0..spec.count);
            ranking.sort_unstable_by(|&a, &b| by_score(scores[a], scores[b]).then(a.cmp(&b)));
            for rank in 0..spec.active {
                let best = scores[ranking[rank]];
                let left = ranking[rank..].iter().map(|&expert| scores[expert]);
                let close = left.filter(|&output| best - output <= tolerance * output.abs().max(best));
                scores[ranking[rank]] = 1.0 / close.map(|output| libm::expf(output - best)).sum::<f32>();
            }
            ranking[spec.active..].iter().for_each(|&expert| scores[expert] = 0.0);
            1.0
        }
        RouterScores::Softmax => {
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for score in scores.iter_mut() {
                *score = libm::expf(*score - largest);
            }
            scores.iter().sum()
        }
        RouterScores::Sigmoid => {
            for score in scores {
                *score = sigmoid(*score);
            }
            1.0
        }
    }
}

/// `1 / (1 + e^-x)`
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

#[cfg(test)]
mod tests {
    use lookahead_kernels::Activation;

    use super::*;
    use crate::architecture::{Mlp, Routing};

    /// The expert and the weight of each way of one token.
    fn routes(count: usize, active: usize, routing: Routing, outputs: &[f32]) -> Vec<(usize, f32)> {
        biased_routes(count, active, routing, &[], outputs)
    }

    /// The same, with a bias of each expert.
    fn biased_routes(
        count: usize,
        active: usize,
        routing: Routing,
        bias: &[f32],
        outputs: &[f32],
    ) -> Vec<(usize, f32)> {
        let expert = Mlp::gated(1, Activation::Silu);
        let spec = Experts { count, active, expert, routing, learned_scales: false, shared: None };
        let mut routes = Routes::default();
        let routes = routes.choose(&spec, bias, &mut outputs.to_vec()).to_vec();
        routes.iter().map(|route| (route.expert, route.weight)).collect()
    }

    const SOFTMAX: Routing = Routing {
        scores: RouterScores::Softmax,
        bias: false,
        groups: None,
        normalised: false,
        scale: 1.0,
        weighs_inputs: false,
    };

    /// The routes' weights, to a few digits.
    fn assert_routes(found: &[(usize, f32)], expected: &[(usize, f32)]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((expert, weight), (expected, expected_weight)) in found.iter().zip(expected) {
            assert_eq!(expert, expected, "{found:?}");
            assert!((weight - expected_weight).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn the_greatest_scores_are_taken_and_weigh_as_the_routing_says() {
        // Probabilities 0.1, 0.4, 0.2, 0.3.
        let outputs = [0.1f32, 0.4, 0.2, 0.3].map(libm::logf);
        assert_routes(&routes(4, 2, SOFTMAX, &outputs), &[(1, 0.4), (3, 0.3)]);
        let normalised = Routing { normalised: true, ..SOFTMAX };
        assert_routes(&routes(4, 2, normalised, &outputs), &[(1, 4.0 / 7.0), (3, 3.0 / 7.0)]);
        let scaled = Routing { scale: 2.5, ..SOFTMAX };
        assert_routes(&routes(4, 2, scaled, &outputs), &[(1, 1.0), (3, 0.75)]);
        let sigmoid = Routing { scores: RouterScores::Sigmoid, ..SOFTMAX };
        assert_routes(&routes(3, 1, sigmoid, &[0.0, -1.0, -2.0]), &[(0, 0.5)]);
    }

    #[test]
    fn experts_come_from_the_best_groups_only() {
        let outputs = [0.3f32, 0.25, 0.01, 0.34, 0.05, 0.05].map(libm::logf);
        let grouped =
            |active| Routing { groups: Some(ExpertGroups { count: 3, active, judged_by: 1 }), ..SOFTMAX };
        assert_routes(&routes(6, 2, SOFTMAX, &outputs), &[(0, 0.3), (3, 0.34)]);
        assert_routes(&routes(6, 2, grouped(1), &outputs), &[(2, 0.01), (3, 0.34)]);
        assert_routes(&routes(6, 3, grouped(2), &outputs), &[(0, 0.3), (1, 0.25), (3, 0.34)]);
    }

    #[test]
    fn a_group_may_be_judged_by_its_two_best() {
        let outputs = [0.4f32, 0.01, 0.3, 0.29].map(libm::logf);
        let judged_by =
            |judged_by| Routing { groups: Some(ExpertGroups { count: 2, active: 1, judged_by }), ..SOFTMAX };
        assert_routes(&routes(4, 1, judged_by(1), &outputs), &[(0, 0.4)]);
        assert_routes(&routes(4, 1, judged_by(2), &outputs), &[(2, 0.3)]);
    }

    #[test]
    fn a_bias_counts_where_experts_are_chosen_and_not_where_they_are_weighed() {
        let outputs = [0.1f32, 0.4, 0.2, 0.3].map(libm::logf);
        assert_routes(&biased_routes(4, 1, SOFTMAX, &[0.5, 0.0, 0.0, 0.0], &outputs), &[(0, 0.1)]);
        let grouped = Routing { groups: Some(ExpertGroups { count: 2, active: 1, judged_by: 1 }), ..SOFTMAX };
        assert_routes(&biased_routes(4, 1, grouped, &[0.0, 0.0, 0.3, 0.0], &outputs), &[(2, 0.2)]);
    }

    #[test]
    fn experts_chosen_one_by_one_compete_with_those_that_are_close() {
        let one_by_one = Routing { scores: RouterScores::OneByOne { tolerance: 0.1 }, ..SOFTMAX };
        // The first competes with the second, the second with none.
        let first = 1.0 / (1.0 + libm::expf(-0.1));
        assert_routes(&routes(4, 2, one_by_one, &[1.5, 1.9, 1.0, 2.0]), &[(1, 1.0), (3, first)]);
        assert_routes(&routes(3, 2, one_by_one, &[0.0; 3]), &[(0, 1.0 / 3.0), (1, 0.5)]);
    }

    #[test]
    fn of_equal_scores_the_lower_number_is_taken() {
        assert_routes(&routes(4, 2, SOFTMAX, &[0.0; 4]), &[(0, 0.25), (1, 0.25)]);
        let grouped = Routing { groups: Some(ExpertGroups { count: 2, active: 1, judged_by: 1 }), ..SOFTMAX };
        assert_routes(&routes(4, 1, grouped, &[0.0; 4]), &[(0, 0.25)]);
    }
}
