//! The sampler: a row of logits and a history in, a token out.

use lookahead_model::{Candidate, TokenId};

use super::{SamplingError, SamplingParams, candidates, penalties, philox, weight};
use crate::constraint::allows;

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

    /// Whether every choice is the most likely token: a row's best says all then.
    pub fn is_argmax(&self) -> bool {
        self.params.temperature == 0.0 && !self.changes_logits()
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
                penalties::apply(&self.params, history, &mut self.window, &mut self.changed);
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
        let random = philox::random_bits(self.params.seed, position);
        let temperature = self.params.temperature;
        let chosen = if candidates::are_cut(&self.params, logits.len()) {
            candidates::select(&self.params, logits, max, &mut self.candidates);
            self.kept.clear();
            self.kept.extend(self.candidates.iter().map(|candidate| candidate.logit));
            let index = weight::draw(&self.kept, max, temperature, random, &mut self.blocks);
            index.map(|index| self.candidates[index].token)
        } else {
            weight::draw(logits, max, temperature, random, &mut self.blocks).map(|index| index as TokenId)
        };
        chosen.unwrap_or(most_likely) // the most likely token always has a weight, so there is a choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!biased.is_argmax());
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
