//! How the nodes of one forward pass are shared out among the drafts of its sequences.

use crate::CostCurve;

/// How many nodes each draft is to keep, roots included, for the most expected tokens per time of the whole pass.
///
/// `drafts` holds the path probabilities of each, from the root on, the likeliest first. The drafts of all sequences
/// compete: those of the greatest probability run first, whoever they belong to, and as many as pay by `cost` beside
/// `others`, the nodes of sequences whose drafts are not to be cut. So drafts shrink as sequences join. A tie goes to the
/// earlier sequence and node, so that the result depends on the probabilities alone.
pub(crate) fn share(cost: &CostCurve, others: usize, drafts: &[&[f32]]) -> Vec<usize> {
    let mut keep = vec![1; drafts.len()];
    let mut candidates: Vec<(f32, usize)> = Vec::new();
    for (sequence, probabilities) in drafts.iter().enumerate() {
        // A node runs only with all nodes before it: it counts as no likelier than they.
        let mut least = 1.0f32;
        candidates.extend(probabilities.iter().skip(1).map(|&probability| {
            least = least.min(probability);
            (least, sequence)
        }));
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable: nodes of a sequence stay in order
    let (nodes, tokens) = (others + drafts.len(), (others + drafts.len()) as f64);
    let best = cost.best_addition(nodes, tokens, candidates.iter().map(|&(probability, _)| probability));
    for (_, sequence) in &candidates[..best] {
        keep[*sequence] += 1;
    }
    keep
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::CostPoint;

    fn curve(points: &[(usize, f64)]) -> CostCurve {
        CostCurve::new(points.iter().map(|&(tokens, ms)| CostPoint { tokens, ms }).collect()).unwrap()
    }

    #[test]
    fn a_lone_draft_is_cut_as_by_the_curve_alone() {
        let curve = curve(&[(1, 1.0), (4, 1.2), (5, 2.0), (8, 2.1)]);
        for draft in [&[1.0, 0.9, 0.8, 0.7, 0.6, 0.5][..], &[1.0, 0.1], &[1.0], &[1.0, 0.5, 0.1, 0.1, 0.1]] {
            assert_eq!(share(&curve, 0, &[draft]), [curve.best_prefix(draft)], "{draft:?}");
        }
    }

    #[test]
    fn the_likeliest_drafts_of_all_sequences_run_first() {
        // The sixth node is where passes become dear.
        let curve = curve(&[(1, 1.0), (5, 1.1), (6, 9.0)]);
        let sure = [1.0, 0.9, 0.8, 0.7, 0.6];
        let unsure = [1.0, 0.75, 0.1];
        assert_eq!(share(&curve, 0, &[&unsure, &sure]), [2, 3]);
        assert_eq!(share(&curve, 0, &[&sure, &unsure]), [3, 2]);
        assert_eq!(share(&curve, 3, &[&sure, &unsure]), [1, 1], "others have taken what is cheap");
    }

    #[test]
    fn drafts_shrink_as_sequences_join() {
        let curve = curve(&[(1, 1.0), (2, 1.2), (4, 1.6), (8, 2.4), (16, 4.4), (32, 9.0), (64, 20.0)]);
        let draft = [1.0, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];
        let lengths = [1, 2, 4, 8, 16].map(|sequences| share(&curve, 0, &vec![&draft[..]; sequences])[0]);
        assert!(lengths.is_sorted_by(|a, b| a >= b) && lengths[0] > lengths[4], "{lengths:?}");
    }

    proptest! {
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
            let rate = |keep: &[usize]| {
                let tokens: f64 = drafts.iter().zip(keep).flat_map(|(draft, &keep)| &draft[..keep]).map(|&p| f64::from(p)).sum();
                (others as f64 + tokens) / curve.ms(others + keep.iter().sum::<usize>())
            };
            let slices: Vec<&[f32]> = drafts.iter().map(Vec::as_slice).collect();
            let chosen = rate(&share(&curve, others, &slices));
            let mut keep = vec![1; drafts.len()];
            loop {
                prop_assert!(rate(&keep) <= chosen + 1e-9, "{:?} promises more", keep);
                let Some(next) = (0..drafts.len()).find(|&s| keep[s] < drafts[s].len()) else { break };
                keep[..next].fill(1);
                keep[next] += 1;
            }
        }
    }
}
