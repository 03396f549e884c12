//! Log probabilities of tokens under the model's own distribution: before bias, penalties and temperature.

use lookahead_model::{Candidate, TokenId};

use super::candidates::argmax;
use super::weight::{FULL_WEIGHT, total_weight};

/// How likely the model held the chosen token and others in its place: natural logarithms.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// Of the chosen token.
    pub logprob: f32,
    /// The most likely tokens, the likeliest first; as many as were asked for.
    pub top: Vec<(TokenId, f32)>,
}

impl TokenLogprobs {
    /// Those of `token` and of the `count` most likely ones by a row of logits.
    ///
    /// The sum over the vocabulary is one of integers ([`total_weight`]), so that no bit depends on its order.
    pub(crate) fn of(logits: &[f32], token: TokenId, count: usize) -> Self {
        let max = argmax(logits).map_or(0.0, |(_, max)| max);
        let log_total = libm::log(total_weight(logits, max, 1.0) as f64 / FULL_WEIGHT);
        let logprob = |logit: f32| (f64::from(logit - max) - log_total) as f32;
        Self {
            logprob: logits.get(token as usize).map_or(f32::NEG_INFINITY, |&logit| logprob(logit)),
            top: most_likely(logits, count).into_iter().map(|c| (c.token, logprob(c.logit))).collect(),
        }
    }
}

/// The `count` most likely tokens of a row, the likeliest first; fewer where logits are NaN.
pub(crate) fn most_likely(logits: &[f32], count: usize) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = logits
        .iter()
        .zip(0..)
        .map(|(&logit, token)| Candidate { token, logit })
        .filter(|candidate| !candidate.logit.is_nan())
        .collect();
    if count == 0 {
        return Vec::new();
    }
    if count < all.len() {
        all.select_nth_unstable_by(count - 1, Candidate::by_rank);
        all.truncate(count);
    }
    all.sort_unstable_by(Candidate::by_rank);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let probabilities = [0.5f32, 0.125, 0.25, 0.125];
        let logits = probabilities.map(|p| p.ln() + 3.0);
        let logprobs = TokenLogprobs::of(&logits, 2, 3);
        assert!((logprobs.logprob - 0.25f32.ln()).abs() < 1e-6);
        let tokens: Vec<TokenId> = logprobs.top.iter().map(|&(token, _)| token).collect();
        assert_eq!(tokens, [0, 2, 1], "of equals the lowest id");
        for (token, logprob) in logprobs.top {
            assert!((logprob - probabilities[token as usize].ln()).abs() < 1e-6, "{token}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_among_the_likeliest() {
        let logprobs = TokenLogprobs::of(&[f32::NAN, 0.0, f32::NEG_INFINITY], 1, 9);
        assert_eq!(logprobs.top, [(1, 0.0), (2, f32::NEG_INFINITY)]);
        assert!(TokenLogprobs::of(&[0.0, 1.0], 0, 0).top.is_empty());
        assert_eq!(TokenLogprobs::of(&[0.0], 7, 0).logprob, f32::NEG_INFINITY);
    }
}
