//! How the rows of one forward pass are shared out among tenants: of prompts, and nodes of draft trees.
//!
//! The tenant that asks for the least sets the measure. With it and others, a pass takes no longer than it would take alone
//! times the number of tenants, so that neither long prompts nor many answers of one tenant hold up the answer of another.
//! Shares are counted in *units*: the time of a row, of which a row behind a long context takes several, most of all the first one
//! of its sequence. A tenant whose share is too small for its next row saves it for the passes to come (deficit round robin). No
//! token depends on any of this: only how much of a prompt or of a draft a pass runs.

use lookahead_trie::{CostCurve, CostPoint, PassCost, PassLoad};

/// What a sequence could run in the next pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Tokens of its prompt.
    Prefill(usize),
    /// A decode step, with up to so many drafted nodes.
    Decode(usize),
}

/// A sequence that wishes to take part in a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// The number of its tenant: tenants are numbered from 0 on.
    pub(super) tenant: usize,
    pub(super) wish: Wish,
    pub(super) weight: Weight,
    /// The pass that it last took part in.
    pub(super) last_pass: u64,
}

/// Units of a sequence's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    /// Of the first one, which reads the context.
    first: usize,
    /// Of each other.
    further: usize,
}

impl Weight {
    /// Behind a context of so many positions, by what passes cost.
    pub(super) fn behind(context: usize, cost: &PassCost<'_>) -> Self {
        let units = |ms: f64| ((ms / cost.further_node_ms(0)) as usize).max(1);
        Self {
            first: units(cost.further_sequence_ms(context)),
            further: units(cost.further_node_ms(context)),
        }
    }

    fn of(self, rows: usize) -> usize {
        rows.checked_sub(1).map_or(0, |others| self.first.saturating_add(self.further.saturating_mul(others)))
    }
}

impl Wish {
    fn rows(self) -> usize {
        match self {
            Self::Prefill(rows) => rows,
            Self::Decode(drafts) => 1 + drafts,
        }
    }

    fn is_prefill(self) -> bool {
        matches!(self, Self::Prefill(_))
    }
}

/// The rows that each of the `candidates`, which are by age, may run in a pass; 0 for those that sit out. Prompts run
/// `prefill_chunk` rows together, at most. `saved` are the units that each tenant has left of earlier passes.
pub(super) fn share(
    candidates: &[Candidate],
    prefill_chunk: usize,
    cost: &PassCost<'_>,
    saved: &mut [usize],
) -> Vec<usize> {
    let tenants = saved.len();
    let wishes = share_prefill(candidates, tenants, prefill_chunk);
    let units = |rows: &dyn Fn(Wish) -> usize| {
        let mut sums = vec![0; tenants];
        for (candidate, &wish) in candidates.iter().zip(&wishes) {
            sums[candidate.tenant] += candidate.weight.of(rows(wish));
        }
        sums
    };
    let needs = units(&|wish| if wish.is_prefill() { wish.rows() } else { 1 });
    let least = needs.iter().copied().filter(|&need| need > 0).min().unwrap_or(1);
    let wanted = units(&Wish::rows);
    let grants = max_min(units_within(tenants, least, wanted.iter().sum(), cost), &wanted);
    let mut shares = vec![0; candidates.len()];
    for (tenant, saved) in saved.iter_mut().enumerate() {
        *saved = share_among_own(candidates, &wishes, tenant, grants[tenant] + *saved, &mut shares);
    }
    shares
}

/// What passes cost where no curve is known: a pass over 17 rows takes twice the time of a pass over one, as on usual CPUs.
pub(super) fn usual_curve() -> CostCurve {
    let points = [(1, 1.0), (17, 2.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
    CostCurve::new(points.to_vec()).expect("its points ascend")
}

/// The wishes of all candidates, of which the prompts' are cut to `prefill_chunk` together: shared out among tenants, and of
/// a tenant's prompts the older first.
fn share_prefill(candidates: &[Candidate], tenants: usize, prefill_chunk: usize) -> Vec<Wish> {
    let mut prompts = vec![0; tenants];
    for Candidate { tenant, wish, .. } in candidates.iter().filter(|candidate| candidate.wish.is_prefill()) {
        prompts[*tenant] += wish.rows();
    }
    let mut left = max_min(prefill_chunk, &prompts);
    let cut = |candidate: &Candidate| match candidate.wish {
        Wish::Prefill(rows) => {
            let left = &mut left[candidate.tenant];
            let rows = rows.min(*left);
            *left -= rows;
            Wish::Prefill(rows)
        }
        decode @ Wish::Decode(_) => decode,
    };
    candidates.iter().map(cut).collect()
}

/// How many units, of the `wanted`, a pass of several tenants may have: as many as take no longer than the `least` that one of
/// them needs, times the `tenants`.
fn units_within(tenants: usize, least: usize, wanted: usize, cost: &PassCost<'_>) -> usize {
    let time = |units: usize| cost.ms(PassLoad::of_sequence(units, 0));
    let (bound, fewest) = (tenants as f64 * time(least), tenants * least);
    if wanted <= fewest {
        return wanted;
    }
    // Times do not fall, so that this is a search in a sorted list.
    let (mut fits, mut too_many) = (fewest, wanted + 1);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if time(middle) <= bound { fits = middle } else { too_many = middle }
    }
    fits
}

/// Shares `units` out among the sequences of `tenant`: a row to each, then more by equal parts. Where that is too little, those
/// that have sat out the longest come first, and what is left is returned for the next pass.
fn share_among_own(
    candidates: &[Candidate],
    wishes: &[Wish],
    tenant: usize,
    units: usize,
    shares: &mut [usize],
) -> usize {
    let mut own: Vec<usize> =
        (0..candidates.len()).filter(|&i| candidates[i].tenant == tenant && wishes[i].rows() > 0).collect();
    own.sort_by_key(|&i| (candidates[i].last_pass, wishes[i].is_prefill())); // stable: then by age
    let (mut left, mut runs) = (units, 0);
    for &index in &own {
        let Some(less) = left.checked_sub(candidates[index].weight.first) else { break };
        left = less;
        runs += 1;
    }
    let sits_out = runs < own.len();
    own.truncate(runs);
    let wanted: Vec<usize> =
        own.iter().map(|&i| (wishes[i].rows() - 1) * candidates[i].weight.further).collect();
    for (index, more) in own.into_iter().zip(max_min(left, &wanted)) {
        shares[index] = 1 + more / candidates[index].weight.further;
    }
    // Whoever waits for the units of a row does not spend them on others; nobody else saves.
    if sits_out && runs == 0 { left } else { 0 }
}

/// Shares `total` out so that nobody gets more than is `wanted`, and whoever gets less gets no less than another. What does
/// not divide goes to those that want the most.
fn max_min(total: usize, wanted: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&index| wanted[index]);
    let mut shares = vec![0; wanted.len()];
    let (mut left, mut others) = (total, order.len());
    for index in order {
        shares[index] = wanted[index].min(left / others);
        left -= shares[index];
        others -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::Wish::{Decode, Prefill};
    use super::*;

    const LIGHT: Weight = Weight { first: 1, further: 1 };

    fn candidates(of: &[(usize, Wish)]) -> Vec<Candidate> {
        of.iter().map(|&(tenant, wish)| Candidate { tenant, wish, weight: LIGHT, last_pass: 0 }).collect()
    }

    /// The shares of two tenants who have saved nothing.
    fn share_of(candidates: &[Candidate], prefill_chunk: usize, curve: &CostCurve) -> Vec<usize> {
        share(candidates, prefill_chunk, &curve.into(), &mut [0, 0])
    }

    /// A pass over one token takes 10 ms, each more 1 ms.
    fn curve() -> CostCurve {
        let points = [(1, 10.0), (11, 20.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
        CostCurve::new(points.to_vec()).unwrap()
    }

    #[test]
    fn shares_are_equal_where_they_are_not_smaller_by_choice() {
        assert_eq!(max_min(10, &[3, 100, 4]), [3, 4, 3]);
        assert_eq!(max_min(12, &[1, 100, 100]), [1, 5, 6]);
        assert_eq!(max_min(100, &[3, 4]), [3, 4]);
        assert_eq!(max_min(0, &[3, 4]), [0, 0]);
        assert_eq!(max_min(1, &[]), [0; 0]);
    }

    #[test]
    fn a_long_prompt_takes_no_more_time_than_the_answer_beside_it() {
        let shares = share_of(&candidates(&[(0, Prefill(100_000)), (1, Decode(0))]), 256, &curve());
        assert_eq!(shares, [10, 1], "20 ms, of which 10 are the answer's");
        let shares = share_of(&candidates(&[(0, Prefill(100_000)), (1, Decode(4))]), 256, &curve());
        assert_eq!(shares, [6, 5]);
        let shares = share_of(&candidates(&[(0, Prefill(100_000)), (1, Decode(0))]), 256, &usual_curve());
        assert_eq!(shares, [16, 1], "without a curve");
    }

    #[test]
    fn a_short_prompt_is_computed_beside_a_long_one() {
        let shares = share_of(&candidates(&[(0, Prefill(100_000)), (1, Prefill(20))]), 256, &curve());
        assert_eq!(shares, [29, 20], "58 ms: twice those of 20 rows");
        let both = share_of(&candidates(&[(0, Prefill(9999)), (1, Prefill(9999))]), 256, &curve());
        assert_eq!(both, [128, 128], "together no more than a chunk");
    }

    #[test]
    fn many_answers_of_one_tenant_take_turns_beside_one_of_another() {
        let mut of = vec![(0, Decode(0)); 30];
        of.push((1, Decode(0)));
        let mut candidates = candidates(&of);
        let mut turns = vec![0; 31];
        for pass in 1..=30 {
            let shares = share_of(&candidates, 256, &curve());
            assert_eq!((shares.iter().sum::<usize>(), shares[30]), (11, 1));
            for ((candidate, turns), rows) in candidates.iter_mut().zip(&mut turns).zip(shares) {
                if rows > 0 {
                    candidate.last_pass = pass;
                    *turns += 1;
                }
            }
        }
        assert_eq!(turns[..30], [10; 30]);
    }

    #[test]
    fn nobody_sits_out_where_all_ask_for_as_much() {
        let of: Vec<_> = (0..32).map(|index| (index % 2, Decode(0))).collect();
        assert_eq!(share_of(&candidates(&of), 256, &curve()), [1; 32]);
        let shares = share_of(
            &candidates(&[(0, Prefill(50)), (0, Prefill(50)), (0, Decode(0)), (1, Decode(0))]),
            60,
            &usual_curve(),
        );
        assert!(shares[2..] == [1, 1] && shares[0] > 0, "{shares:?}");
    }

    #[test]
    fn an_answer_behind_a_long_context_runs_as_often_as_its_time_allows() {
        let mut candidates = candidates(&[(0, Decode(0)), (1, Decode(0))]);
        candidates[0].weight = Weight { first: 17, further: 2 };
        let (mut saved, mut turns) = ([0, 0], [0, 0]);
        for _ in 0..100 {
            let shares = share(&candidates, 256, &(&curve()).into(), &mut saved);
            turns[0] += shares[0];
            turns[1] += shares[1];
        }
        assert_eq!(turns[1], 100);
        assert!((45..60).contains(&turns[0]), "{turns:?}: 17 units for a row, of 10 a pass");
    }
}
