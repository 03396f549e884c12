//! What attention to long contexts costs beside the rest of a pass, learnt from the passes that run.
//!
//! A cost curve tells the time of a pass by its tokens, behind a short context. The time beyond that is taken for the
//! attention of its tokens to the positions of their contexts, in proportion (least squares; later passes count for more).

use lookahead_trie::CostCurve;

use crate::engine::PassReport;

/// Positions of a context for which attention takes about as long as the rest of the model takes for a further row, where
/// nothing is known of it: 300 for a model of 135 million parameters on a CPU, 5,000 for one of 7 billion.
const USUAL: usize = 1024;

/// Positions that a pass attends to, over all its tokens, below which its time says nothing about attention.
const FEWEST: usize = 4096;

/// How much of what was learnt remains with each pass.
const KEPT: f64 = 0.98;

/// Sums over passes that attended to many positions, of positions and of milliseconds beyond the cost curve's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContextCost {
    positions_times_ms: f64,
    positions_squared: f64,
}

impl ContextCost {
    /// Takes what a pass took.
    pub(super) fn observe(&mut self, pass: &PassReport, cost: &CostCurve) {
        // Beyond its last point a curve only guesses, and chunks of prompts would outweigh all else.
        let is_measured = cost.points().last().is_some_and(|last| pass.tokens <= last.tokens);
        if pass.positions < FEWEST || !is_measured {
            return;
        }
        let beyond = pass.forward.as_secs_f64() * 1e3 - cost.ms(pass.tokens);
        let positions = pass.positions as f64;
        self.positions_times_ms = self.positions_times_ms * KEPT + positions * beyond;
        self.positions_squared = self.positions_squared * KEPT + positions * positions;
    }

    /// Positions of a context for which attention takes as long as the rest of the model takes for a further row.
    pub(super) fn positions_of_a_row(&self, cost: Option<&CostCurve>) -> usize {
        let Some(cost) = cost.filter(|_| self.positions_squared > 0.0) else { return USUAL };
        let row = (cost.ms(17) - cost.ms(1)) / 16.0;
        let position = self.positions_times_ms / self.positions_squared;
        // One that took no time at all would say that contexts are free.
        let positions = if position > 0.0 { row / position } else { f64::MAX };
        positions.clamp(USUAL as f64 / 16.0, USUAL as f64 * 16.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::CostPoint;

    /// A pass over one token takes 10 ms, each more 1 ms.
    fn curve() -> CostCurve {
        let points = [(1, 10.0), (64, 73.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
        CostCurve::new(points.to_vec()).unwrap()
    }

    /// A pass where attention to so many positions takes 1 ms, as a row does.
    fn pass(tokens: usize, context: usize, positions_of_a_ms: usize) -> PassReport {
        let positions = tokens * context;
        let ms = 9.0 + tokens as f64 + positions as f64 / positions_of_a_ms as f64;
        PassReport { tokens, positions, forward: Duration::from_secs_f64(ms / 1e3), ..PassReport::default() }
    }

    #[test]
    fn the_cost_of_positions_is_learnt_from_long_contexts() {
        let mut cost = ContextCost::default();
        cost.observe(&pass(16, 100, 1), &curve());
        assert_eq!(cost.positions_of_a_row(Some(&curve())), USUAL, "a short context says nothing");
        cost.observe(&PassReport { forward: Duration::ZERO, ..pass(256, 6000, 1) }, &curve());
        for tokens in 1..20 {
            cost.observe(&pass(tokens, 6000, 300), &curve());
        }
        assert!((295..=305).contains(&cost.positions_of_a_row(Some(&curve()))));
        assert_eq!(cost.positions_of_a_row(None), USUAL);
        for pass_number in 0..300 {
            cost.observe(&pass(1 + pass_number % 60, 6000, 5000), &curve());
        }
        assert!((4800..=5000).contains(&cost.positions_of_a_row(Some(&curve()))));
    }

    #[test]
    fn noise_neither_frees_contexts_nor_forbids_them() {
        let (mut fast, mut slow) = (ContextCost::default(), ContextCost::default());
        fast.observe(&PassReport { forward: Duration::ZERO, ..pass(16, 6000, 1) }, &curve());
        assert_eq!(fast.positions_of_a_row(Some(&curve())), 16 * USUAL);
        slow.observe(&PassReport { forward: Duration::from_secs(1000), ..pass(16, 6000, 1) }, &curve());
        assert_eq!(slow.positions_of_a_row(Some(&curve())), USUAL / 16);
    }
}
