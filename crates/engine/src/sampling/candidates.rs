//! The tokens that top-k, top-p and min-p leave, found without sorting the vocabulary.
//!
//! Ranks are canonical: logit descending, among equals the lowest id first. NaN and −∞ are never candidates.

use lookahead_model::{Candidate, TokenId};

use super::params::SamplingParams;
use super::weight::{FULL_WEIGHT, total_weight, weight};

/// The highest logit and the lowest token that has it; `None` if every logit is NaN.
pub(super) fn argmax(logits: &[f32]) -> Option<(TokenId, f32)> {
    // Sixteen running maxima, so that the compiler can use vector instructions; `>` is false for NaN.
    const LANES: usize = 16;
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for (max, &logit) in maxima.iter_mut().zip(chunk) {
            *max = if logit > *max { logit } else { *max };
        }
    }
    let max = maxima.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &l| if l > max { l } else { max });
    let token = logits.iter().position(|&logit| logit == max)?;
    Some((token as TokenId, max))
}

/// Whether top-k, top-p or min-p can leave out any of `vocabulary_size` tokens.
pub(super) fn are_cut(params: &SamplingParams, vocabulary_size: usize) -> bool {
    (1..vocabulary_size).contains(&params.top_k) || params.top_p < 1.0 || params.min_p > 0.0
}

/// Fills `candidates` with what top-k, top-p and min-p leave of `logits`, by id. `max` is the highest logit,
/// finite.
pub(super) fn select(params: &SamplingParams, logits: &[f32], max: f32, candidates: &mut Vec<Candidate>) {
    // Tokens nearer than this to the most likely one nearly always hold top-p; the others need not be looked
    // at.
    const NEAR: f32 = 8.0;
    if (1..logits.len()).contains(&params.top_k) {
        top_k(params.top_k, logits, candidates);
        cut(params, max, candidates);
        return;
    }
    if params.top_p < 1.0 {
        let target = top_p_of(params, total_weight(logits, max, 1.0));
        gather(logits, max - NEAR, candidates);
        if sum(max, candidates) < target {
            gather(logits, f32::MIN, candidates);
        }
        top_p(target, max, candidates);
    } else {
        // A little low, as this logarithm may differ between platforms: the weights decide.
        gather(logits, max + params.min_p.ln() - 0.1, candidates);
    }
    min_p(params, max, candidates);
}

/// Leaves of `candidates`, which are those of top-k by id, what top-p and min-p leave.
pub(super) fn cut(params: &SamplingParams, max: f32, candidates: &mut Vec<Candidate>) {
    if params.top_p < 1.0 {
        top_p(top_p_of(params, sum(max, candidates)), max, candidates);
    }
    min_p(params, max, candidates);
}

/// The weight that the candidates of top-p add up to, where all weights add up to `total`.
fn top_p_of(params: &SamplingParams, total: u64) -> u64 {
    (f64::from(params.top_p) * total as f64).ceil() as u64
}

fn min_p(params: &SamplingParams, max: f32, candidates: &mut Vec<Candidate>) {
    if params.min_p > 0.0 {
        let least = (f64::from(params.min_p) * FULL_WEIGHT).ceil() as u64;
        candidates.retain(|candidate| weight(candidate.logit - max) >= least);
    }
}

/// The tokens whose logit is at least `floor`, by id.
fn gather(logits: &[f32], floor: f32, candidates: &mut Vec<Candidate>) {
    let floor = floor.max(f32::MIN);
    candidates.clear();
    let all = logits.iter().zip(0..).map(|(&logit, token)| Candidate { token, logit });
    candidates.extend(all.filter(|candidate| candidate.logit >= floor));
}

fn sum(max: f32, candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|candidate| weight(candidate.logit - max)).sum()
}

/// The `k` most likely tokens: one pass that holds at most 2 k of them at a time.
fn top_k(k: usize, logits: &[f32], candidates: &mut Vec<Candidate>) {
    candidates.clear();
    let mut threshold = f32::NEG_INFINITY;
    for (&logit, token) in logits.iter().zip(0..) {
        // False for NaN, and for a later token that only equals the k-th best: it ranks behind that.
        if logit > threshold {
            candidates.push(Candidate { token, logit });
            if candidates.len() == 2 * k {
                let (_, last, _) = candidates.select_nth_unstable_by(k - 1, Candidate::by_rank);
                threshold = last.logit;
                candidates.truncate(k);
            }
        }
    }
    candidates.sort_unstable_by(Candidate::by_rank);
    candidates.truncate(k);
    candidates.sort_unstable_by_key(|candidate| candidate.token);
}

/// The fewest most likely of `candidates` whose weights add up to `target`; those of all do.
///
/// The weights are added up in narrow bands of logits; only the band in which the target is reached is
/// sorted.
fn top_p(target: u64, max: f32, candidates: &mut Vec<Candidate>) {
    const BANDS: usize = 256;
    const BANDS_PER_UNIT: f32 = 8.0; // the last band begins where weights are 0
    let band_of =
        |candidate: &Candidate| (((max - candidate.logit) * BANDS_PER_UNIT) as usize).min(BANDS - 1);
    let weight_of = |candidate: &Candidate| weight(candidate.logit - max);

    let mut bands = [0; BANDS];
    for candidate in candidates.iter() {
        bands[band_of(candidate)] += weight_of(candidate);
    }
    let (mut sum, mut edge) = (0, 0);
    while edge < BANDS - 1 && sum + bands[edge] < target {
        sum += bands[edge];
        edge += 1;
    }
    let mut ranked: Vec<Candidate> = candidates.iter().copied().filter(|c| band_of(c) == edge).collect();
    ranked.sort_unstable_by(Candidate::by_rank);
    let last = ranked.iter().find(|candidate| {
        sum += weight_of(candidate);
        sum >= target
    });
    if let Some(last) = last {
        candidates.retain(|candidate| candidate.by_rank(last).is_le());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: rank everything, then cut.
    fn by_full_sort(params: &SamplingParams, logits: &[f32]) -> Vec<TokenId> {
        let mut ranked: Vec<Candidate> =
            logits.iter().zip(0..).map(|(&logit, token)| Candidate { token, logit }).collect();
        ranked.sort_by(Candidate::by_rank);
        let max = ranked[0].logit;
        let weight_of = |candidate: &Candidate| weight(candidate.logit - max);
        if params.top_k > 0 {
            ranked.truncate(params.top_k);
        }
        if params.top_p < 1.0 {
            let total: u64 = ranked.iter().map(weight_of).sum();
            let mut before = 0;
            ranked.retain(|candidate| {
                let stays = before == 0 || (before as f64) < f64::from(params.top_p) * total as f64;
                before += weight_of(candidate);
                stays
            });
        }
        ranked.retain(|candidate| weight_of(candidate) as f64 >= f64::from(params.min_p) * FULL_WEIGHT);
        let mut tokens: Vec<TokenId> = ranked.iter().map(|candidate| candidate.token).collect();
        tokens.sort_unstable();
        tokens
    }

    proptest! {
        #[test]
        fn selection_equals_the_full_sort(
            // Few distinct values, so that there are ties at every cut.
            steps in prop::collection::vec(-60i32..20, 1..300),
            scale in prop::sample::select(vec![0.05f32, 0.25, 1.0, 3.0]),
            top_k in prop::sample::select(vec![0usize, 1, 2, 7, 40, 1000]),
            top_p in prop::sample::select(vec![1.0f32, 0.999, 0.9, 0.5, 1e-6, 0.0]),
            min_p in prop::sample::select(vec![0.0f32, 0.05, 0.5, 1.0]),
        ) {
            let logits: Vec<f32> = steps.iter().map(|&step| step as f32 * scale).collect();
            let params = SamplingParams { top_k, top_p, min_p, ..SamplingParams::greedy() };
            let mut candidates = Vec::new();
            select(&params, &logits, argmax(&logits).unwrap().1, &mut candidates);
            let tokens: Vec<TokenId> = candidates.iter().map(|candidate| candidate.token).collect();
            prop_assert_eq!(tokens, by_full_sort(&params, &logits));
        }

        #[test]
        fn argmax_equals_a_plain_scan(steps in prop::collection::vec(-3i32..3, 1..100)) {
            let logits: Vec<f32> = steps.iter().map(|&s| if s == -3 { f32::NAN } else { s as f32 }).collect();
            let mut best: Option<(TokenId, f32)> = None;
            for (token, &logit) in logits.iter().enumerate() {
                if !logit.is_nan() && best.is_none_or(|(_, max)| logit > max) {
                    best = Some((token as TokenId, logit));
                }
            }
            prop_assert_eq!(argmax(&logits), best);
        }
    }
}
