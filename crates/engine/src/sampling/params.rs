//! How tokens are chosen: the parameters and their ranges.

use std::hash::{BuildHasher as _, RandomState};

use lookahead_model::TokenId;

/// A bias beyond this decides alone anyway; OpenAI's bound.
const MAX_LOGIT_BIAS: f32 = 100.0;

/// How tokens are chosen. Every processor has a value that turns it off; [`SamplingParams::greedy`] has them
/// all off.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the most likely token (the lowest id of equals) and ignores the fields below up to `min_p` and
    /// `seed`; below 1 sharpens the distribution, above 1 flattens it.
    pub temperature: f32,
    /// Only the `top_k` most likely tokens stay; 0 is off.
    pub top_k: usize,
    /// Only the fewest most likely tokens stay whose probabilities, among those that top-k left, add up to
    /// `top_p`; 1 is off.
    pub top_p: f32,
    /// Only tokens at least `min_p` times as likely as the most likely one stay; 0 is off.
    pub min_p: f32,
    /// Logits of tokens in the penalty window are divided by this if positive, else multiplied; 1 is off.
    pub repetition_penalty: f32,
    /// Taken off the logit of every token that occurs in the penalty window; 0 is off.
    pub presence_penalty: f32,
    /// Taken off a token's logit for each of its occurrences in the penalty window; 0 is off.
    pub frequency_penalty: f32,
    /// The last tokens that the penalties look at, prompt included; 64 as in llama.cpp, 0 turns the penalties
    /// off, `usize::MAX` looks at the whole sequence.
    pub penalty_window: usize,
    /// Added to the logits of these tokens, first of all.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Names the random numbers: the one of position `i` (an index into prompt and answer together) depends
    /// on
    /// `(seed, i)` alone.
    pub seed: u64,
}

impl SamplingParams {
    /// A seed that was hardly used before: 32 bits of the system's randomness, so that people can copy it and every JSON
    /// reader keeps all of it.
    pub fn new_seed() -> u64 {
        u64::from(RandomState::new().hash_one(()) as u32)
    }

    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// Names the first field that is out of range, its value and the range.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let checks = [
            ("temperature", self.temperature, self.temperature >= 0.0, "0 or more"),
            ("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "0 to 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 to 1"),
            ("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "above 0"),
            ("presence_penalty", self.presence_penalty, self.presence_penalty.abs() <= 2.0, "-2 to 2"),
            ("frequency_penalty", self.frequency_penalty, self.frequency_penalty.abs() <= 2.0, "-2 to 2"),
        ];
        let biases = self
            .logit_bias
            .iter()
            .map(|&(_, bias)| ("logit_bias", bias, bias.abs() <= MAX_LOGIT_BIAS, "-100 to 100"));
        for (field, value, in_range, allowed) in checks.into_iter().chain(biases) {
            if !(in_range && value.is_finite()) {
                return Err(SamplingError { field, value, allowed });
            }
        }
        Ok(())
    }
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self::greedy()
    }
}

/// A sampling parameter outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}; it must be {allowed}")]
pub struct SamplingError {
    /// The field of [`SamplingParams`].
    pub field: &'static str,
    /// The value given.
    pub value: f32,
    /// The values allowed.
    pub allowed: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        let greedy = SamplingParams::greedy;
        let cases = [
            (SamplingParams { temperature: -0.1, ..greedy() }, "temperature is -0.1; it must be 0 or more"),
            (
                SamplingParams { temperature: f32::NAN, ..greedy() },
                "temperature is NaN; it must be 0 or more",
            ),
            (
                SamplingParams { temperature: f32::INFINITY, ..greedy() },
                "temperature is inf; it must be 0 or more",
            ),
            (SamplingParams { top_p: -0.1, ..greedy() }, "top_p is -0.1; it must be 0 to 1"),
            (SamplingParams { top_p: 1.5, ..greedy() }, "top_p is 1.5; it must be 0 to 1"),
            (SamplingParams { min_p: 2.0, ..greedy() }, "min_p is 2; it must be 0 to 1"),
            (
                SamplingParams { repetition_penalty: 0.0, ..greedy() },
                "repetition_penalty is 0; it must be above 0",
            ),
            (
                SamplingParams { presence_penalty: -3.0, ..greedy() },
                "presence_penalty is -3; it must be -2 to 2",
            ),
            (
                SamplingParams { frequency_penalty: 9.0, ..greedy() },
                "frequency_penalty is 9; it must be -2 to 2",
            ),
        ];
        for (params, message) in cases {
            assert_eq!(params.validate().unwrap_err().to_string(), message);
        }
        assert_eq!(greedy().validate(), Ok(()));
    }
}
