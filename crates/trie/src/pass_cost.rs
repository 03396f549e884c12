//! What a pass of several sequences costs: what the cost curve says of its nodes, and what their contexts add.
//!
//! A curve is measured with one sequence behind a short context. Attention reads the context of each sequence once for all of
//! its nodes, and computes with it for each of them; so passes of as many nodes differ by their sequences and contexts:
//!
//! `ms = first * curve(1) + further * (curve(nodes) - curve(1)) + context * contexts * u + position * positions * u`,
//!
//! where `u` is what the curve says of a further node, divided by [`USUAL_POSITIONS`], so that all four factors are plain numbers.

use std::ops::AddAssign;

use crate::CostCurve;

/// Positions of a context that take about as long as a further node, where nothing is known of it: 300 for a model of 135 million
/// parameters on a CPU, 5,000 for one of 7 billion.
const USUAL_POSITIONS: f64 = 1024.0;

/// The least that a further node costs, in passes over one: where a curve is flat, contexts still cost something.
const LEAST_NODE: f64 = 1.0 / 256.0;

/// What a pass runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassLoad {
    /// Nodes, of all sequences.
    pub nodes: usize,
    /// Positions in the contexts of its sequences, each sequence's counted once.
    pub contexts: usize,
    /// Positions that its nodes attend to: those of the context for each node.
    pub positions: usize,
}

impl PassLoad {
    /// `nodes` of one sequence behind a context of so many positions.
    pub fn of_sequence(nodes: usize, context: usize) -> Self {
        Self { nodes, contexts: context, positions: context.saturating_mul(nodes) }
    }

    /// Further nodes of a sequence that takes part already.
    pub(crate) fn of_nodes(nodes: usize, context: usize) -> Self {
        Self { contexts: 0, ..Self::of_sequence(nodes, context) }
    }
}

impl AddAssign for PassLoad {
    fn add_assign(&mut self, more: Self) {
        self.nodes += more.nodes;
        self.contexts = self.contexts.saturating_add(more.contexts);
        self.positions = self.positions.saturating_add(more.positions);
    }
}

/// A cost curve with a factor on each of its terms, which whoever runs passes fits to the times that they take.
///
/// ```
/// use lookahead_trie::{Bid, CostCurve, CostPoint, PassCost, PassLoad};
///
/// let points = [(1, 8.0), (17, 24.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
/// let curve = CostCurve::new(points.to_vec())?;
/// let cost = PassCost::new(&curve, [1.0, 1.0, 4.0, 1.0]);
/// // Two nodes, and behind 512 positions two contexts at 4/1024 ms each, and two nodes' attention at 1/1024.
/// let mut load = PassLoad::of_sequence(1, 512);
/// load += PassLoad::of_sequence(1, 512);
/// assert_eq!(cost.ms(load), 9.0 + 4.0 + 1.0);
/// // Contexts make a pass long, whatever is drafted: a further node is worth more beside them, unless it is dear by itself.
/// let bid = |context| Bid { context, probabilities: &[1.0, 0.4, 0.1] };
/// assert_eq!(PassCost::from(&curve).share(PassLoad::default(), &[bid(512), bid(512)]), [2, 2]);
/// # Ok::<(), lookahead_trie::CostCurveError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassCost<'a> {
    curve: &'a CostCurve,
    factors: [f64; PassCost::TERMS],
}

impl<'a> PassCost<'a> {
    /// How many terms there are.
    pub const TERMS: usize = 4;

    /// The terms of `curve`, each times its factor: a pass over one node, its further nodes, contexts, and positions. Factors are
    /// not below 0, and the first is above it.
    pub fn new(curve: &'a CostCurve, factors: [f64; PassCost::TERMS]) -> Self {
        Self { curve, factors }
    }

    /// What the factors stand before, in milliseconds: for who fits them.
    pub fn terms(curve: &CostCurve, load: PassLoad) -> [f64; PassCost::TERMS] {
        let position = node_ms(curve) / USUAL_POSITIONS;
        let further = curve.ms(load.nodes) - curve.ms(1);
        [curve.ms(1), further, position * load.contexts as f64, position * load.positions as f64]
    }

    /// Milliseconds of a pass.
    pub fn ms(&self, load: PassLoad) -> f64 {
        let [first, further, context, position] = self.factors;
        let [one, _, contexts, positions] = Self::terms(self.curve, load);
        // In this form, factors of 1 leave the curve as it is, to the bit.
        further * self.curve.ms(load.nodes)
            + (first - further) * one
            + context * contexts
            + position * positions
    }

    /// Milliseconds of a further node behind `context` positions, wherever the curve has its steps.
    pub fn further_node_ms(&self, context: usize) -> f64 {
        let [_, further, _, position] = self.factors;
        node_ms(self.curve) * (further + position * context as f64 / USUAL_POSITIONS)
    }

    /// Milliseconds of the first node of a further sequence, which reads its context.
    pub fn further_sequence_ms(&self, context: usize) -> f64 {
        let [_, _, factor, _] = self.factors;
        self.further_node_ms(context) + node_ms(self.curve) * factor * context as f64 / USUAL_POSITIONS
    }
}

impl<'a> From<&'a CostCurve> for PassCost<'a> {
    /// A pass of one sequence, behind the context that the curve was measured behind.
    fn from(curve: &'a CostCurve) -> Self {
        Self::new(curve, [1.0, 1.0, 0.0, 0.0])
    }
}

/// What a further node costs by the curve, on the mean of the first sixteen.
fn node_ms(curve: &CostCurve) -> f64 {
    ((curve.ms(17) - curve.ms(1)) / 16.0).max(curve.ms(1) * LEAST_NODE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CostPoint;

    fn curve(points: &[(usize, f64)]) -> CostCurve {
        CostCurve::new(points.iter().map(|&(tokens, ms)| CostPoint { tokens, ms }).collect()).unwrap()
    }

    #[test]
    fn without_factors_a_pass_costs_what_the_curve_says() {
        let curve = curve(&[(1, 3.7), (2, 4.1), (7, 9.3), (64, 41.9)]);
        for nodes in 0..100 {
            assert_eq!(PassCost::from(&curve).ms(PassLoad::of_sequence(nodes, 777)), curve.ms(nodes));
        }
    }

    #[test]
    fn a_pass_is_the_sum_of_its_terms() {
        let curve = curve(&[(1, 8.0), (17, 24.0)]);
        let (factors, mut load) = ([0.5, 2.0, 3.0, 0.25], PassLoad::of_sequence(3, 1024));
        load += PassLoad::of_sequence(2, 512);
        assert_eq!(load, PassLoad { nodes: 5, contexts: 1536, positions: 4096 });
        assert_eq!(PassCost::terms(&curve, load), [8.0, 4.0, 1.5, 4.0]);
        let cost = PassCost::new(&curve, factors);
        assert_eq!(cost.ms(load), 4.0 + 8.0 + 4.5 + 1.0);
        let mut more = load;
        more += PassLoad::of_sequence(1, 512);
        assert_eq!(cost.ms(more) - cost.ms(load), cost.further_sequence_ms(512));
        more += PassLoad::of_nodes(1, 1024);
        let both = cost.further_sequence_ms(512) + cost.further_node_ms(1024);
        assert_eq!(cost.ms(more) - cost.ms(load), both);
    }

    #[test]
    fn contexts_cost_something_beside_a_flat_curve() {
        let curve = curve(&[(1, 5.0)]);
        let cost = PassCost::new(&curve, [1.0; PassCost::TERMS]);
        assert!(cost.ms(PassLoad::of_sequence(1, 1000)) > cost.ms(PassLoad::of_sequence(1, 0)));
        assert!(cost.further_node_ms(0) > 0.0);
    }
}
