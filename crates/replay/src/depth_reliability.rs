//! How true a draft engine's estimates are, by the depth of what it drafted.

use lookahead_model::TokenTree;
use serde::Serialize;

/// Ranges of depths told apart, each to before the next one's first.
const FIRST_DEPTHS: [usize; 7] = [1, 2, 3, 5, 9, 17, 33];

/// Drafted tokens whose parents were accepted, in one range of depths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DepthReliability {
    /// The least depth of the range; 1 is next to the root. The range ends before the next one's.
    pub depth: usize,
    /// How many there were.
    pub drafted: u64,
    /// The sum of the probabilities that they were given behind their parents: as many should be accepted.
    pub expected: f64,
    /// How many were accepted.
    pub accepted: u64,
}

/// All ranges.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ReliabilityByDepth([DepthReliability; FIRST_DEPTHS.len()]);

impl Default for ReliabilityByDepth {
    fn default() -> Self {
        Self(FIRST_DEPTHS.map(|depth| DepthReliability { depth, ..DepthReliability::default() }))
    }
}

impl ReliabilityByDepth {
    /// The ranges, the least depth first.
    pub fn ranges(&self) -> &[DepthReliability] {
        &self.0
    }

    /// Adds the nodes of `tree` that hang on `path`, the accepted nodes from the root on, and were given these path
    /// `probabilities`.
    pub(crate) fn add(&mut self, tree: &TokenTree, probabilities: &[f32], path: &[u32]) {
        for (node, &parent) in tree.parents().iter().enumerate().skip(1) {
            let Some(above) = path.iter().position(|&passed| passed == parent) else { continue };
            let depth = above + 1;
            let Some(range) = self.0.iter_mut().rev().find(|range| range.depth <= depth) else { continue };
            range.drafted += 1;
            range.expected += f64::from(probabilities[node] / probabilities[parent as usize]);
            range.accepted += u64::from(path.get(depth).is_some_and(|&next| next as usize == node));
        }
    }

    /// Adds what was seen elsewhere.
    pub(crate) fn join(&mut self, other: &Self) {
        for (range, other) in self.0.iter_mut().zip(&other.0) {
            range.drafted += other.drafted;
            range.expected += other.expected;
            range.accepted += other.accepted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_count_at_their_depth_if_their_parent_was_accepted() {
        // 0 - 1 - 2 - 3, and 4 beside 2, 5 beside 1 with 6 behind it.
        let tree = TokenTree::new((0..7).collect(), vec![0, 0, 1, 2, 1, 0, 5]).unwrap();
        let probabilities = [1.0, 0.5, 0.25, 0.25, 0.125, 0.25, 0.25];
        let (mut seen, mut sum) = (ReliabilityByDepth::default(), ReliabilityByDepth::default());
        seen.add(&tree, &probabilities, &[0, 1, 2]);
        sum.join(&seen);
        let of = |range: &DepthReliability| (range.depth, range.drafted, range.expected, range.accepted);
        let first: Vec<_> = sum.ranges()[..4].iter().map(of).collect();
        assert_eq!(first, [(1, 2, 0.75, 1), (2, 2, 0.75, 1), (3, 1, 1.0, 0), (5, 0, 0.0, 0)]);
    }
}
