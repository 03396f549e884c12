//! How large a draft pays, by what a pass costs.
//!
//! A draft of N nodes, the root counted, yields the sum of their path probabilities in expected tokens (the root stands
//! for the token that every pass yields) and costs the time of a pass over N tokens. The number of nodes with the greatest
//! ratio is the best. All numbers are compared, instead of stopping at the first node that does not pay, as kernels compute
//! tokens in tiles: behind a node that opens a tile, several may be nearly free.

use crate::{CostCurve, PassCost, PassLoad};

/// What a sequence offers to run in a pass that it shares with others.
#[derive(Clone, Copy, Debug)]
pub struct Bid<'a> {
    /// Positions of its context.
    pub context: usize,
    /// The path probabilities of its draft, from the root on, the likeliest first; none if it takes no part in the pass.
    pub probabilities: &'a [f32],
}

impl CostCurve {
    /// How many of the leading nodes of a draft tree to run, for the most expected tokens per time; the fewest where
    /// that is a tie. `probabilities` are the path probabilities of the nodes: of the root, which is 1, then of the
    /// drafts, the likeliest first. At least 1, unless there is not even a root.
    pub fn best_prefix(&self, probabilities: &[f32]) -> usize {
        self.best_common_prefix(&[probabilities])
    }

    /// As [`best_prefix`](Self::best_prefix), the same number of nodes for each of several drafts, for engines that run trees
    /// of one size: a draft that has fewer nodes costs as if it had as many.
    pub fn best_common_prefix(&self, drafts: &[&[f32]]) -> usize {
        let longest = drafts.iter().map(|draft| draft.len()).max().unwrap_or(0);
        let expected =
            |node: usize| drafts.iter().filter_map(|draft| draft.get(node)).copied().map(f64::from).sum();
        if longest == 0 {
            return 0;
        }
        let row = PassLoad::of_sequence(drafts.len(), 0);
        let additions = (1..longest).map(|node| (row, expected(node)));
        1 + PassCost::from(self).best_addition(row, expected(0), additions)
    }

    /// As [`PassCost::share`], where a pass costs what the curve says of its nodes, whatever their contexts. `others` are nodes of
    /// sequences whose drafts are not to be cut.
    pub fn share(&self, others: usize, drafts: &[&[f32]]) -> Vec<usize> {
        let bids: Vec<Bid<'_>> =
            drafts.iter().map(|&probabilities| Bid { context: 0, probabilities }).collect();
        PassCost::from(self).share(PassLoad::of_sequence(others, 0), &bids)
    }
}

impl PassCost<'_> {
    /// How many nodes each sequence is to run, roots included, for the most expected tokens per time of a pass that all share.
    ///
    /// All drafts compete: those that promise the most for what attention makes them cost run first, whoever they belong to, and
    /// as many as pay beside `others`, the load of sequences whose drafts are not to be cut. So drafts shrink as sequences join.
    /// A tie goes to the earlier sequence and node, so that the result depends on the probabilities and costs alone.
    pub fn share(&self, others: PassLoad, bids: &[Bid<'_>]) -> Vec<usize> {
        let mut sizes: Vec<usize> = bids.iter().map(|bid| bid.probabilities.len().min(1)).collect();
        let mut load = others;
        let mut candidates: Vec<Candidate> = Vec::new();
        for (sequence, bid) in bids.iter().enumerate().filter(|(_, bid)| !bid.probabilities.is_empty()) {
            load += PassLoad::of_sequence(1, bid.context);
            let price = self.further_node_ms(bid.context);
            // A node runs only with all nodes before it: it counts as no likelier than they.
            let mut least = 1.0f32;
            candidates.extend(bid.probabilities[1..].iter().map(|&probability| {
                least = least.min(probability);
                Candidate { sequence, probability: least.into(), worth: f64::from(least) / price }
            }));
        }
        candidates.sort_by(|a, b| b.worth.total_cmp(&a.worth)); // stable: nodes of a sequence stay in order
        let additions = candidates.iter().map(|candidate| {
            (PassLoad::of_nodes(1, bids[candidate.sequence].context), candidate.probability)
        });
        let best = self.best_addition(load, load.nodes as f64, additions);
        for candidate in &candidates[..best] {
            sizes[candidate.sequence] += 1;
        }
        sizes
    }

    /// How many of the leading `additions`, of load and of expected tokens, to make to a pass that runs `load` already and
    /// yields `tokens` expected tokens by it.
    fn best_addition(
        &self,
        mut load: PassLoad,
        mut tokens: f64,
        additions: impl Iterator<Item = (PassLoad, f64)>,
    ) -> usize {
        let (mut best, mut best_rate) = (0, tokens / self.ms(load));
        for (count, (more_load, more_tokens)) in (1..).zip(additions) {
            load += more_load;
            tokens += more_tokens;
            let rate = tokens / self.ms(load);
            if rate > best_rate {
                (best, best_rate) = (count, rate);
            }
        }
        best
    }
}

/// A drafted node that competes for a place in a pass.
struct Candidate {
    sequence: usize,
    probability: f64,
    /// What it promises for its price.
    worth: f64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::CostPoint;

    fn curve(points: &[(usize, f64)]) -> CostCurve {
        CostCurve::new(points.iter().map(|&(tokens, ms)| CostPoint { tokens, ms }).collect()).unwrap()
    }

    /// A root and drafts.
    fn drafts(probability: f32, count: usize) -> Vec<f32> {
        [&[1.0][..], &vec![probability; count]].concat()
    }

    #[test]
    fn a_flat_curve_drafts_everything_and_a_proportional_one_nothing() {
        let flat = curve(&[(1, 3.0), (64, 3.0)]);
        let proportional = curve(&[(1, 3.0), (2, 6.0)]);
        for probability in [0.01, 0.5, 0.99] {
            assert_eq!(flat.best_prefix(&drafts(probability, 20)), 21);
            assert_eq!(proportional.best_prefix(&drafts(probability, 20)), 1);
        }
        assert_eq!(proportional.best_prefix(&drafts(1.0, 5)), 1, "a tie goes to the smaller tree");
        assert_eq!(flat.best_prefix(&drafts(0.0, 5)), 1, "what is never accepted is not worth a node");
        assert_eq!(flat.best_prefix(&[]), 0);
    }

    #[test]
    fn a_step_is_taken_where_the_nodes_behind_it_pay_for_it() {
        // Tiles of four tokens: the fifth token costs as much as the fifth to the eighth together.
        let steps = curve(&[(1, 1.0), (4, 1.0), (5, 1.8), (8, 1.8), (9, 2.6)]);
        // At 0.4, four nodes yield 2.2 tokens in 1, eight 3.8 in 1.8: less. At 0.6, 2.8 in 1 and 5.2 in 1.8: more.
        assert_eq!(steps.best_prefix(&drafts(0.4, 7)), 4);
        assert_eq!(steps.best_prefix(&drafts(0.6, 7)), 8);
        assert_eq!(steps.best_prefix(&drafts(0.9, 7)), 8);
        assert_eq!(steps.best_prefix(&drafts(0.9, 5)), 4, "two nodes do not fill the second tile");
        assert_eq!(steps.best_prefix(&drafts(0.9, 2)), 3);
    }

    #[test]
    fn drafts_of_one_size_are_as_long_as_pays_for_all() {
        let curve = curve(&[(1, 1.0), (16, 2.5)]);
        let (sure, unsure) = (drafts(0.9, 7), drafts(0.05, 3));
        assert_eq!(curve.best_common_prefix(&[&sure]), curve.best_prefix(&sure));
        assert_eq!(curve.best_common_prefix(&[&sure, &sure]), 8);
        // At 2 of each, 4 nodes; the unsure one costs as much as the other.
        assert_eq!(curve.best_common_prefix(&[&unsure, &unsure]), 1);
        assert_eq!(curve.best_common_prefix(&[&sure, &unsure]), 8);
        assert_eq!(curve.best_common_prefix(&[&drafts(0.15, 7), &unsure]), 1);
        assert_eq!(curve.best_common_prefix(&[]), 0);
    }

    #[test]
    fn who_takes_no_part_in_a_pass_gets_no_node_of_it() {
        let curve = curve(&[(1, 1.0), (2, 1.1), (3, 9.0)]);
        assert_eq!(curve.share(0, &[&[], &[1.0, 0.9, 0.9], &[]]), [0, 2, 0]);
        assert_eq!(curve.share(0, &[&[1.0], &[1.0, 0.9, 0.9]]), [1, 1]);
    }

    #[test]
    fn a_lone_draft_is_cut_as_by_the_curve_alone() {
        let curve = curve(&[(1, 1.0), (4, 1.2), (5, 2.0), (8, 2.1)]);
        for draft in [&[1.0, 0.9, 0.8, 0.7, 0.6, 0.5][..], &[1.0, 0.1], &[1.0], &[1.0, 0.5, 0.1, 0.1, 0.1]] {
            assert_eq!(curve.share(0, &[draft]), [curve.best_prefix(draft)], "{draft:?}");
        }
    }

    #[test]
    fn the_likeliest_drafts_of_all_sequences_run_first() {
        // The sixth node is where passes become dear.
        let curve = curve(&[(1, 1.0), (5, 1.1), (6, 9.0)]);
        let sure = [1.0, 0.9, 0.8, 0.7, 0.6];
        let unsure = [1.0, 0.75, 0.1];
        assert_eq!(curve.share(0, &[&unsure, &sure]), [2, 3]);
        assert_eq!(curve.share(0, &[&sure, &unsure]), [3, 2]);
        assert_eq!(curve.share(3, &[&sure, &unsure]), [1, 1], "others have taken what is cheap");
    }

    #[test]
    fn drafts_shrink_as_sequences_join() {
        let curve = curve(&[(1, 1.0), (2, 1.2), (4, 1.6), (8, 2.4), (16, 4.4), (32, 9.0), (64, 20.0)]);
        let draft = [1.0, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];
        let lengths = [1, 2, 4, 8, 16].map(|sequences| curve.share(0, &vec![&draft[..]; sequences])[0]);
        assert!(lengths.is_sorted_by(|a, b| a >= b) && lengths[0] > lengths[4], "{lengths:?}");
    }

    #[test]
    fn a_node_behind_a_long_context_is_dearer_than_one_behind_a_short_one() {
        let curve = curve(&[(1, 4.0), (65, 36.0)]);
        let draft = [1.0, 0.9, 0.7, 0.5, 0.4, 0.3];
        let bid = |context| Bid { context, probabilities: &draft };
        let alone = |cost: PassCost<'_>, context| cost.share(PassLoad::default(), &[bid(context)])[0];
        let by_positions = PassCost::new(&curve, [1.0, 1.0, 0.0, 1.0]);
        let lengths = [0, 500, 2000, 8000].map(|context| alone(by_positions, context));
        assert!(lengths.is_sorted_by(|a, b| a >= b) && lengths[0] > lengths[3], "{lengths:?}");
        let beside = by_positions.share(PassLoad::default(), &[bid(8000), bid(100)]);
        assert!(beside[0] < beside[1], "{beside:?}");
        // A context that is read once, whatever is drafted behind it, makes drafts cheaper beside it.
        let by_contexts = PassCost::new(&curve, [1.0, 1.0, 1.0, 0.0]);
        let crowded = |context| by_contexts.share(PassLoad::of_sequence(4, 4 * context), &[bid(context)])[0];
        assert!(crowded(8000) > crowded(0));
    }

    #[test]
    fn drafts_shrink_as_sequences_join_whatever_their_contexts_cost() {
        let curve = curve(&[(1, 4.0), (65, 36.0)]);
        let draft = [1.0, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2];
        for factors in [[1.0, 1.0, 0.5, 0.5], [0.9, 0.9, 5.0, 0.6], [2.0, 0.5, 0.1, 3.0]] {
            let cost = PassCost::new(&curve, factors);
            let lengths = [1, 2, 4, 8, 16].map(|sequences| {
                cost.share(PassLoad::default(), &vec![Bid { context: 400, probabilities: &draft }; sequences])
                    [0]
            });
            assert!(
                lengths.is_sorted_by(|a, b| a >= b) && lengths[0] > lengths[4],
                "{factors:?}: {lengths:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_sequence_of_a_pass_runs_its_root(
            drafts in prop::collection::vec((0usize..100_000, prop::collection::vec(0.0f32..=1.0, 0..5)), 0..10),
            factors in [0.0625f64..16.0, 0.0625..16.0, 0.0..16.0, 0.0..16.0],
            others in (0usize..3, 0usize..5000),
        ) {
            let curve = curve(&[(1, 3.0), (4, 3.5), (5, 5.0), (64, 40.0)]);
            let bids: Vec<Bid<'_>> =
                drafts.iter().map(|(context, draft)| Bid { context: *context, probabilities: draft }).collect();
            let sizes = PassCost::new(&curve, factors).share(PassLoad::of_sequence(others.0, others.1), &bids);
            prop_assert_eq!(sizes.len(), bids.len());
            for (size, bid) in sizes.into_iter().zip(bids) {
                let most = bid.probabilities.len();
                prop_assert!((most.min(1)..=most).contains(&size), "{} of {}", size, most);
            }
        }

        #[test]
        fn no_other_prefix_is_better(
            steps in prop::collection::vec((1usize..6, 0.01f64..10.0), 1..10),
            mut probabilities in prop::collection::vec(0.0f32..=1.0, 0..40),
        ) {
            let mut tokens = 0;
            let points = steps.into_iter().map(|(step, ms)| {
                tokens += step;
                (tokens, ms)
            });
            let curve = curve(&points.collect::<Vec<_>>());
            probabilities.sort_by(|a, b| b.total_cmp(a));
            probabilities.insert(0, 1.0);
            let rate = |nodes: usize| {
                probabilities[..nodes].iter().map(|&p| f64::from(p)).sum::<f64>() / curve.ms(nodes)
            };
            let best = curve.best_prefix(&probabilities);
            for nodes in 1..=probabilities.len() {
                let is_worse = rate(nodes) < rate(best);
                prop_assert!(is_worse || (nodes >= best && rate(nodes) == rate(best)), "{} and {}", nodes, best);
            }
        }

        #[test]
        fn no_other_share_promises_more(
            drafts in prop::collection::vec(prop::collection::vec(0.0f32..1.0, 0..4), 1..4),
            times in prop::collection::vec(0.1f64..3.0, 13),
            others in 0usize..3,
        ) {
            let mut ms = 1.0;
            let points = (1..).zip(&times).map(|(tokens, more)| { ms += more; (tokens, ms) });
            let curve = curve(&points.collect::<Vec<_>>());
            let drafts: Vec<Vec<f32>> = drafts.into_iter().map(|mut draft| {
                draft.sort_by(|a, b| b.total_cmp(a));
                [vec![1.0], draft].concat()
            }).collect();
            let rate = |sizes: &[usize]| {
                let tokens: f64 = drafts.iter().zip(sizes).flat_map(|(draft, &size)| &draft[..size]).map(|&p| f64::from(p)).sum();
                (others as f64 + tokens) / curve.ms(others + sizes.iter().sum::<usize>())
            };
            let slices: Vec<&[f32]> = drafts.iter().map(Vec::as_slice).collect();
            let chosen = rate(&curve.share(others, &slices));
            let mut sizes = vec![1; drafts.len()];
            loop {
                prop_assert!(rate(&sizes) <= chosen + 1e-9, "{:?} promises more", sizes);
                let Some(next) = (0..drafts.len()).find(|&s| sizes[s] < drafts[s].len()) else { break };
                sizes[..next].fill(1);
                sizes[next] += 1;
            }
        }
    }
}
