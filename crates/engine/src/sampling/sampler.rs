//! The sampler: a row of logits and a history in, a token out.

use lookahead_model::{Candidate, Keep, TokenId};

use super::params::{SamplingError, SamplingParams};
use super::{candidates, penalties, philox, weight};
use crate::constraint::allows;

/// Candidates of a row that are asked for instead of the whole row, at most. Of 150,000 logits, to find so many takes half as long
/// as to write and search the row; some 500 take as long.
const MAX_BEST: usize = 128;

/// Chooses tokens by [`SamplingParams`]. Holds scratch memory only: no choice depends on an earlier one.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    changed: Vec<f32>,
    window: Vec<TokenId>,
    candidates: Vec<Candidate>,
    kept: Vec<f32>,
    blocks: Vec<u64>,
}

impl Sampler {
    /// A sampler by `params`.
    ///
    /// # Errors
    /// If a parameter is out of range.
    pub fn new(params: SamplingParams) -> Result<Self, SamplingError> {
        params.validate()?;
        Ok(Self {
            params,
            changed: Vec::new(),
            window: Vec::new(),
            candidates: Vec::new(),
            kept: Vec::new(),
            blocks: Vec::new(),
        })
    }

    /// The parameters.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// What has to be kept of a row of `vocabulary_size` logits for a choice after `history` tokens or fewer.
    ///
    /// With top-k, and for the most likely token, the best of the row say all, as long as nothing raises a logit: what only
    /// lowers those of n tokens moves up others by n ranks at most. Without top-k, a draw needs the weights of all tokens;
    /// they are relative to the greatest logit, which is not known before the last one.
    pub fn keep(&self, vocabulary_size: usize, history: usize) -> Keep {
        let Self { params, .. } = self;
        let chosen_from = if params.temperature == 0.0 { 1 } else { params.top_k };
        let only_lowers = params.logit_bias.iter().all(|&(_, bias)| bias <= 0.0);
        let lowered = penalties::lowered(params, history).filter(|_| only_lowers);
        let best = lowered.map(|lowered| lowered.saturating_add(params.logit_bias.len() + chosen_from));
        match best {
            Some(best) if chosen_from > 0 && best <= MAX_BEST && best < vocabulary_size => Keep::Best(best),
            _ => Keep::Row,
        }
    }

    fn changes_logits(&self) -> bool {
        penalties::are_on(&self.params) || !self.params.logit_bias.is_empty()
    }

    /// The token at index `position` of the sequence, where `history` are the tokens before it, prompt
    /// included, and
    /// `logits` is the row that the model gave the last of them.
    ///
    /// A NaN is never chosen while there is another value (token 0 if there is none), nor is −∞ while there
    /// is a higher one; +∞ is certain.
    pub fn choose(&mut self, logits: &[f32], history: &[TokenId], position: u64) -> TokenId {
        self.choose_allowed(logits, history, position, None)
    }

    /// As [`choose`](Self::choose), among the tokens with a bit in `allowed` (see
    /// [`Constraint::allowed`](crate::Constraint::allowed)). Where none has one, among all.
    pub fn choose_allowed(
        &mut self,
        logits: &[f32],
        history: &[TokenId],
        position: u64,
        allowed: Option<&[u32]>,
    ) -> TokenId {
        let allowed = allowed.filter(|words| words.iter().any(|&word| word != 0));
        let logits = if allowed.is_some() || self.changes_logits() {
            self.changed.clear();
            self.changed.extend_from_slice(logits);
            for &(token, bias) in &self.params.logit_bias {
                if let Some(logit) = self.changed.get_mut(token as usize) {
                    *logit += bias;
                }
            }
            if penalties::are_on(&self.params) {
                for (token, count) in penalties::occurrences(&self.params, history, &mut self.window) {
                    if let Some(logit) = self.changed.get_mut(token as usize) {
                        *logit = penalties::penalised(&self.params, *logit, count);
                    }
                }
            }
            if let Some(allowed) = allowed {
                for (logit, token) in self.changed.iter_mut().zip(0..) {
                    if !allows(allowed, token) {
                        *logit = f32::NAN; // never chosen, not even where all that is allowed is −∞
                    }
                }
            }
            &self.changed
        } else {
            logits
        };
        let Some((most_likely, max)) = candidates::argmax(logits) else { return 0 };
        if self.params.temperature == 0.0 || max.is_infinite() {
            return most_likely;
        }
        let chosen = if candidates::are_cut(&self.params, logits.len()) {
            candidates::select(&self.params, logits, max, &mut self.candidates);
            self.draw(max, position)
        } else {
            let random = philox::random_bits(self.params.seed, position);
            let index = weight::draw(logits, max, self.params.temperature, random, &mut self.blocks);
            index.map(|index| index as TokenId)
        };
        chosen.unwrap_or(most_likely) // the most likely token always has a weight, so there is a choice
    }

    /// As [`choose`](Self::choose), of a row whose `best` are known: at least as many as [`keep`](Self::keep) says, sorted by
    /// rank and filled up with [`Candidate::NONE`]. The choice is the same.
    pub fn choose_among(&mut self, best: &[Candidate], history: &[TokenId], position: u64) -> TokenId {
        self.candidates.clear();
        self.candidates.extend(best.iter().filter(|candidate| **candidate != Candidate::NONE));
        if self.changes_logits() {
            self.lower_candidates(history);
        }
        let Some(&Candidate { token: most_likely, logit: max }) = self.candidates.first() else { return 0 };
        if self.params.temperature == 0.0 || max.is_infinite() {
            return most_likely;
        }
        self.candidates.truncate(self.params.top_k);
        self.candidates.retain(|candidate| candidate.logit > f32::NEG_INFINITY);
        self.candidates.sort_unstable_by_key(|candidate| candidate.token);
        candidates::cut(&self.params, max, &mut self.candidates);
        self.draw(max, position).unwrap_or(most_likely)
    }

    /// Adds bias and penalties to the candidates, and sorts them by rank again.
    fn lower_candidates(&mut self, history: &[TokenId]) {
        let Self { params, candidates, window, .. } = self;
        candidates.sort_unstable_by_key(|candidate| candidate.token);
        let place = |candidates: &[Candidate], token| candidates.binary_search_by_key(&token, |c| c.token);
        for &(token, bias) in &params.logit_bias {
            if let Ok(place) = place(candidates, token) {
                candidates[place].logit += bias;
            }
        }
        if penalties::are_on(params) {
            for (token, count) in penalties::occurrences(params, history, window) {
                if let Ok(place) = place(candidates, token) {
                    candidates[place].logit = penalties::penalised(params, candidates[place].logit, count);
                }
            }
        }
        candidates.sort_unstable_by(Candidate::by_rank);
    }

    /// One of the candidates by weight; `max` is the highest logit of the row.
    fn draw(&mut self, max: f32, position: u64) -> Option<TokenId> {
        let random = philox::random_bits(self.params.seed, position);
        self.kept.clear();
        self.kept.extend(self.candidates.iter().map(|candidate| candidate.logit));
        let index = weight::draw(&self.kept, max, self.params.temperature, random, &mut self.blocks)?;
        Some(self.candidates[index].token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parameters of every kind, each also at the value that turns it off.
    fn params() -> impl Strategy<Value = SamplingParams> {
        let chosen = (
            prop::sample::select(vec![0.0f32, 0.3, 1.0, 4.0]),
            prop::sample::select(vec![0usize, 1, 2, 7, 40, 120, 1000]),
            prop::sample::select(vec![1.0f32, 0.9, 0.5, 1e-6]),
            prop::sample::select(vec![0.0f32, 0.05, 0.5, 1.0]),
        );
        let penalties = (
            prop::sample::select(vec![1.0f32, 1.0, 1.3, 3.0, 0.8]),
            prop::sample::select(vec![0.0f32, 0.0, 0.5, 2.0, -0.5]),
            prop::sample::select(vec![0.0f32, 0.0, 0.25, 2.0, -0.5]),
            prop::sample::select(vec![0usize, 1, 5, 64, usize::MAX]),
        );
        let biases = prop_oneof![
            2 => Just(Vec::new()),
            2 => prop::collection::vec((0u32..320, -9.0f32..=0.0), 1..4),
            1 => prop::collection::vec((0u32..320, -9.0f32..9.0), 1..4),
        ];
        (chosen, penalties, biases, any::<u64>()).prop_map(|(chosen, penalties, logit_bias, seed)| {
            let (temperature, top_k, top_p, min_p) = chosen;
            let (repetition_penalty, presence_penalty, frequency_penalty, penalty_window) = penalties;
            SamplingParams {
                temperature,
                top_k,
                top_p,
                min_p,
                repetition_penalty,
                presence_penalty,
                frequency_penalty,
                penalty_window,
                logit_bias,
                seed,
            }
        })
    }

    /// Logits of few distinct values, so that there are ties at every cut, and some that are no numbers.
    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let logit = prop_oneof![
            40 => (-40i32..20).prop_map(|step| step as f32 * 0.25),
            10 => -1e-3f32..1e-3,
            2 => Just(-0.0f32),
            2 => Just(f32::NEG_INFINITY),
            2 => Just(f32::NAN),
            1 => Just(f32::MIN),
        ];
        let infinite = prop::option::weighted(0.05, any::<prop::sample::Index>());
        (prop::collection::vec(logit, 1..300), infinite).prop_map(|(mut logits, infinite)| {
            if let Some(at) = infinite {
                let at = at.index(logits.len());
                logits[at] = f32::INFINITY;
            }
            logits
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

        #[test]
        fn the_best_of_a_row_choose_as_the_whole_row_does(
            params in params(),
            logits in logits(),
            history in prop::collection::vec(0u32..300, 0..90),
            more in 0usize..3,
        ) {
            let mut sampler = sampler(params);
            let Keep::Best(ranks) = sampler.keep(logits.len(), history.len()) else { return Ok(()) };
            let mut best: Vec<Candidate> = logits
                .iter()
                .zip(0..)
                .map(|(&logit, token)| Candidate { token, logit })
                .filter(|candidate| !candidate.logit.is_nan())
                .collect();
            best.sort_by(Candidate::by_rank);
            best.resize(ranks + more, Candidate::NONE);
            for position in 0..8 {
                let expected = sampler.choose(&logits, &history, position);
                prop_assert_eq!(sampler.choose_among(&best, &history, position), expected);
            }
        }
    }

    #[test]
    fn a_row_is_kept_where_its_best_do_not_say_all() {
        let greedy = SamplingParams::greedy;
        let hot = SamplingParams { temperature: 1.0, ..greedy() };
        for (params, expected) in [
            (greedy(), Keep::Best(1)),
            (hot.clone(), Keep::Row),
            (SamplingParams { top_p: 0.9, ..hot.clone() }, Keep::Row),
            (SamplingParams { top_k: 40, top_p: 0.9, min_p: 0.1, ..hot.clone() }, Keep::Best(40)),
            (SamplingParams { top_k: 40, repetition_penalty: 1.1, ..hot.clone() }, Keep::Best(104)),
            (SamplingParams { top_k: 40, presence_penalty: -0.1, ..hot.clone() }, Keep::Row),
            (SamplingParams { top_k: 129, ..hot }, Keep::Row),
            (SamplingParams { repetition_penalty: 1.1, penalty_window: usize::MAX, ..greedy() }, Keep::Row),
            (SamplingParams { logit_bias: vec![(3, -1.0), (4, -2.0)], ..greedy() }, Keep::Best(3)),
            (SamplingParams { logit_bias: vec![(3, -1.0), (4, 2.0)], ..greedy() }, Keep::Row),
        ] {
            assert_eq!(sampler(params.clone()).keep(1000, 300), expected, "{params:?}");
        }
        assert_eq!(sampler(SamplingParams { top_k: 40, ..greedy() }).keep(40, 0), Keep::Best(1));
    }

    fn sampler(params: SamplingParams) -> Sampler {
        Sampler::new(params).unwrap()
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals_and_never_nan() {
        let mut greedy = sampler(SamplingParams::greedy());
        assert_eq!(greedy.choose(&[1.0, f32::NAN, 3.0, 3.0], &[], 0), 2);
        assert_eq!(greedy.choose(&[f32::NAN, f32::NEG_INFINITY], &[], 0), 1);
        assert_eq!(greedy.choose(&[f32::NAN; 3], &[], 0), 0);
        assert_eq!(greedy.choose(&[-0.0, 0.0], &[], 0), 0);
    }

    #[test]
    fn sampling_never_takes_nan_or_minus_infinity_and_always_plus_infinity() {
        let mut hot = sampler(SamplingParams { temperature: 5.0, ..SamplingParams::greedy() });
        for position in 0..200 {
            assert_eq!(hot.choose(&[f32::NAN, f32::NEG_INFINITY, 0.5], &[], position), 2);
            assert_eq!(hot.choose(&[3.0, f32::INFINITY, 0.5], &[], position), 1);
            assert_eq!(hot.choose(&[f32::NAN; 2], &[], position), 0);
        }
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        // Probabilities 0.5, 0.3, 0.2; at temperature 0.5 they are squared and normalised: 25, 9, 4 of 38.
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        for (temperature, expected) in [(1.0, [0.5, 0.3, 0.2]), (0.5, [25.0 / 38.0, 9.0 / 38.0, 4.0 / 38.0])]
        {
            let mut sampler = sampler(SamplingParams { temperature, seed: 42, ..SamplingParams::greedy() });
            let mut counts = [0u32; 3];
            for position in 0..10_000 {
                counts[sampler.choose(&logits, &[], position) as usize] += 1;
            }
            for (count, probability) in counts.iter().zip(expected) {
                // Four standard deviations of a binomial of 10,000 are at most 0.02.
                let frequency = f64::from(*count) / 10_000.0;
                assert!((frequency - probability).abs() < 0.02, "{counts:?} at temperature {temperature}");
            }
        }
    }

    #[test]
    fn a_choice_does_not_depend_on_earlier_choices() {
        let params = SamplingParams {
            temperature: 1.3,
            top_p: 0.9,
            repetition_penalty: 1.2,
            seed: 9,
            ..SamplingParams::greedy()
        };
        let row =
            |i: u64| -> Vec<f32> { (0..50u64).map(|t| ((t * 37 + i * 11) % 17) as f32 * 0.4).collect() };
        let mut used = sampler(params.clone());
        let forwards: Vec<TokenId> = (0..40).map(|i| used.choose(&row(i), &[3, 4], i)).collect();
        let fresh: Vec<TokenId> =
            (0..40).map(|i| sampler(params.clone()).choose(&row(i), &[3, 4], i)).collect();
        assert_eq!(forwards, fresh);
        assert!(forwards.iter().any(|token| *token != forwards[0]), "the test samples more than one token");
    }

    #[test]
    fn a_bias_is_added_and_only_allowed_tokens_are_chosen() {
        let logits = [1.0, 5.0, 2.0, f32::NEG_INFINITY];
        let mut biased =
            sampler(SamplingParams { logit_bias: vec![(2, 4.0), (9, 1.0)], ..SamplingParams::greedy() });
        assert_eq!(biased.choose(&logits, &[], 0), 2);
        let mut plain = sampler(SamplingParams::greedy());
        for (allowed, token) in [(0b0101, 2), (0b1001, 0), (0b1000, 3), (0b0000, 1), (0b1111, 1)] {
            assert_eq!(plain.choose_allowed(&logits, &[], 0, Some(&[allowed])), token, "{allowed:b}");
        }
        let mut hot = sampler(SamplingParams { temperature: 9.0, top_p: 0.9, ..SamplingParams::greedy() });
        let chosen = |position| hot.choose_allowed(&logits, &[], position, Some(&[0b1101]));
        assert!((0..100).map(chosen).all(|token| token == 0 || token == 2));
    }

    #[test]
    fn the_processors_cut_the_tail() {
        let logits: Vec<f32> = (0..100).map(|token| -(token as f32) * 0.1).collect();
        let hot = SamplingParams { temperature: 3.0, ..SamplingParams::greedy() };
        let highest = |params: SamplingParams| {
            let mut sampler = sampler(params);
            (0..3000).map(|position| sampler.choose(&logits, &[], position)).max().unwrap()
        };
        assert_eq!(highest(SamplingParams { top_k: 5, ..hot.clone() }), 4);
        // exp(-0.1 t) >= 0.5 up to t = 6.
        assert_eq!(highest(SamplingParams { min_p: 0.5, ..hot.clone() }), 6);
        // 1 - exp(-0.1 n) >= 0.5 (1 - exp(-10)) from n = 7 tokens on.
        assert_eq!(highest(SamplingParams { top_p: 0.5, ..hot.clone() }), 6);
        assert!(highest(hot) > 60);
    }
}
