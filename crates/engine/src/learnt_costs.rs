//! What passes really cost, learnt from those that run: the factors of [`PassCost`], fitted to their times.
//!
//! The fit is a least-squares one in which later passes count for more, errors count in proportion to the pass, and
//! each factor is drawn to what is usual as far as the passes do not tell. It depends on the reports alone.

use std::time::Duration;

use lookahead_trie::{CostCurve, PassCost, PassLoad};

/// What the factors are where nothing is known: the curve holds, and attention to [1024 positions](PassCost) takes as long as a
/// further node.
const USUAL: Terms = [1.0, 1.0, 0.5, 0.5];

/// How far factors may lie from the usual ones: what another machine or another use of this one makes of the curve, and the
/// difference between models in what their contexts cost.
const DEVIATIONS: Terms = [0.5, 0.5, 4.0, 0.5];

/// How far the time of a pass may lie from the expected one, in proportion, without its being wrong.
const NOISE: f64 = 0.2;

/// Factors keep within this, and its reciprocal: no pass is free, nor are contexts, whatever the times say.
const BOUND: f64 = 16.0;

/// A time that is so many times the expected one counts as no longer: what else runs on the machine may have stopped a pass. That it
/// was done sooner than possible cannot be.
const OUTLIER: f64 = 2.0;

/// How much of what was learnt remains with each pass.
const KEPT: f64 = 0.99;

/// Improvements of each factor after a pass, given the others. They go on from pass to pass.
const SWEEPS: usize = 4;

type Terms = [f64; PassCost::TERMS];

/// The factors that fit the passes so far.
#[derive(Clone, Debug)]
pub(crate) struct LearntCosts {
    factors: Terms,
    /// Sums over passes, of products of terms, and of terms times the time: all in proportion to the usual time.
    products: [Terms; PassCost::TERMS],
    times: Terms,
}

impl Default for LearntCosts {
    fn default() -> Self {
        let zeros = [0.0; PassCost::TERMS];
        Self { factors: USUAL, products: [zeros; PassCost::TERMS], times: zeros }
    }
}

impl LearntCosts {
    /// What passes cost, where `curve` is what was measured.
    pub(crate) fn over<'a>(&self, curve: &'a CostCurve) -> PassCost<'a> {
        PassCost::new(curve, self.factors)
    }

    /// Takes what a pass took.
    pub(crate) fn observe(&mut self, curve: &CostCurve, load: PassLoad, took: Duration) {
        // Beyond its last point a curve only guesses, and chunks of prompts would outweigh all else.
        let is_measured = curve.points().last().is_some_and(|last| load.nodes <= last.tokens);
        let (usual, expected) = (PassCost::new(curve, USUAL).ms(load), self.over(curve).ms(load));
        if load.nodes == 0 || !is_measured || !usual.is_finite() || !expected.is_finite() {
            return;
        }
        // In proportion to a time that does not depend on what was learnt, so that what was wrong is forgotten as fast as it came.
        let terms = PassCost::terms(curve, load).map(|ms| ms / usual);
        let time = (took.as_secs_f64() * 1e3).min(expected * OUTLIER) / usual;
        for (term, (products, times)) in terms.iter().zip(self.products.iter_mut().zip(&mut self.times)) {
            *times = *times * KEPT + term * time;
            for (product, other) in products.iter_mut().zip(&terms) {
                *product = *product * KEPT + term * other;
            }
        }
        for _ in 0..SWEEPS {
            for term in 0..PassCost::TERMS {
                self.improve(term);
            }
        }
    }

    /// Sets the factor of `term` to its best value, given the others.
    fn improve(&mut self, term: usize) {
        let certainty = (NOISE / DEVIATIONS[term]).powi(2);
        let products = &self.products[term];
        let others = (0..PassCost::TERMS).filter(|&other| other != term);
        let explained: f64 = others.map(|other| products[other] * self.factors[other]).sum();
        let best = (self.times[term] - explained + certainty * USUAL[term]) / (products[term] + certainty);
        self.factors[term] = best.clamp(1.0 / BOUND, BOUND);
    }
}

#[cfg(test)]
mod tests {
    use lookahead_trie::CostPoint;

    use super::*;

    /// A pass over one token takes 4 ms, each further one 0.5 ms.
    fn curve() -> CostCurve {
        let points = [(1, 4.0), (65, 36.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
        CostCurve::new(points.to_vec()).unwrap()
    }

    /// So many nodes of each of `sequences`, whose contexts differ.
    fn load(sequences: usize, nodes: usize, context: usize) -> PassLoad {
        let mut load = PassLoad::default();
        for sequence in 0..sequences {
            load += PassLoad::of_sequence(nodes, context + 40 * sequence);
        }
        load
    }

    /// Passes as a server has them, in an order that has no period.
    fn loads() -> impl Iterator<Item = PassLoad> {
        (1usize..).map(|pass| load(1 + pass * 7 % 8, 1 + pass * 5 % 4, 50 + pass * 37 % 700))
    }

    /// Numbers between -1 and 1, the same ones each time.
    fn noise() -> impl Iterator<Item = f64> {
        std::iter::successors(Some(1u64), |state| {
            Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
        })
        .map(|state| (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    }

    fn after(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    fn assert_close(found: f64, truth: f64, tolerance: f64, what: &str) {
        assert!((found / truth - 1.0).abs() <= tolerance, "{what}: {found} is not {truth}");
    }

    #[test]
    fn known_costs_are_found_in_noisy_times() {
        let curve = curve();
        for factors in
            [[0.9, 0.8, 5.0, 0.6], [1.0, 1.0, 0.3, 0.2], [3.0, 0.5, 2.0, 2.0], [0.3, 1.2, 8.0, 1.0]]
        {
            let truth = PassCost::new(&curve, factors);
            let mut learnt = LearntCosts::default();
            for (load, noise) in loads().zip(noise()).take(300) {
                // A tenth more or less; one time in twenty, another program has taken the processor.
                let disturbance = if noise > 0.9 { 6.0 } else { 1.0 + 0.1 * noise };
                learnt.observe(&curve, load, after(truth.ms(load) * disturbance));
            }
            for (sequences, nodes, context) in
                [(1, 1, 200), (1, 8, 200), (4, 2, 500), (8, 1, 300), (8, 3, 700)]
            {
                let load = load(sequences, nodes, context);
                let what = format!("{factors:?}, {load:?}");
                assert_close(learnt.over(&curve).ms(load), truth.ms(load), 0.2, &what);
            }
            let (found, expected) = (learnt.over(&curve).further_node_ms(300), truth.further_node_ms(300));
            assert_close(found, expected, 0.25, &format!("a node by {factors:?}"));
        }
    }

    #[test]
    fn a_few_passes_teach_what_contexts_cost() {
        let curve = curve();
        let truth = PassCost::new(&curve, [0.9, 0.9, 5.0, 0.5]);
        let (mut learnt, eight) = (LearntCosts::default(), load(8, 1, 300));
        assert!(learnt.over(&curve).ms(eight) < 0.8 * truth.ms(eight), "the curve alone is off");
        for load in loads().take(20) {
            learnt.observe(&curve, load, after(truth.ms(load)));
        }
        assert_close(learnt.over(&curve).ms(eight), truth.ms(eight), 0.06, "after 20 passes");
    }

    #[test]
    fn what_has_changed_is_learnt_anew() {
        let curve = curve();
        let mut learnt = LearntCosts::default();
        for factors in [[1.0, 1.0, 4.0, 0.5], [2.0, 1.5, 1.0, 1.0], [0.5, 0.5, 4.0, 0.5]] {
            let truth = PassCost::new(&curve, factors);
            for load in loads().take(600) {
                learnt.observe(&curve, load, after(truth.ms(load)));
            }
            let load = load(8, 2, 400);
            assert_close(learnt.over(&curve).ms(load), truth.ms(load), 0.05, &format!("{factors:?}"));
        }
    }

    #[test]
    fn what_no_pass_tells_is_as_usual() {
        let curve = curve();
        let mut learnt = LearntCosts::default();
        // Plain passes of one sequence, on a machine half as fast as when the curve was measured.
        for context in 0..300 {
            learnt.observe(&curve, load(1, 1, context), after(8.0));
        }
        let cost = learnt.over(&curve);
        assert_close(cost.ms(load(1, 1, 300)), 8.0, 0.05, "what has run");
        let node = cost.ms(load(1, 2, 0)) - cost.ms(load(1, 1, 0));
        assert!((0.4..=1.2).contains(&node), "{node} ms for a node, of which nothing is known but the curve");
    }

    #[test]
    fn times_that_cannot_be_leave_every_cost_above_nothing_and_finite() {
        let curve = curve();
        let check = |learnt: &LearntCosts| {
            let cost = learnt.over(&curve);
            let (short, long) = (cost.ms(load(2, 2, 100)), cost.ms(load(2, 2, 5000)));
            assert!(short > 0.0 && long > short && long.is_finite(), "{short} {long}");
            assert!(
                cost.further_node_ms(0) > 0.0 && cost.further_sequence_ms(5000) > cost.further_node_ms(5000)
            );
        };
        for took in [Duration::ZERO, Duration::MAX, Duration::from_secs(1000)] {
            let mut learnt = LearntCosts::default();
            for load in loads().take(400) {
                learnt.observe(&curve, load, took);
                check(&learnt);
            }
            for load in loads().take(1200) {
                learnt.observe(&curve, load, after(curve.ms(load.nodes)));
            }
            let plain = load(1, 1, 100);
            assert_close(learnt.over(&curve).ms(plain), 4.0, 0.2, "what was wrong is forgotten");
        }
        let mut learnt = LearntCosts::default();
        let many = PassLoad { nodes: 1, contexts: usize::MAX, positions: usize::MAX };
        for load in [PassLoad::default(), many, load(1, 65, 0)] {
            learnt.observe(&curve, load, after(4.0));
            check(&learnt);
        }
    }

    #[test]
    fn a_pass_beyond_the_curve_teaches_nothing() {
        let (curve, mut learnt) = (curve(), LearntCosts::default());
        learnt.observe(&curve, load(1, 66, 0), after(1.0));
        learnt.observe(&curve, PassLoad::default(), after(1.0));
        assert_eq!(learnt.factors, USUAL);
    }
}
