//! What a generation did and where its time went.

use std::time::Duration;

use lookahead_trie::DraftOrigin;

/// How often each length occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts one occurrence of `length`.
    pub fn add(&mut self, length: usize) {
        if self.counts.len() <= length {
            self.counts.resize(length + 1, 0);
        }
        self.counts[length] += 1;
    }

    /// Occurrences by length: entry `n` counts the length `n`. Ends with the longest length that occurred.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Occurrences of any length.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all lengths.
    pub fn sum(&self) -> u64 {
        self.counts.iter().zip(0u64..).map(|(count, length)| count * length).sum()
    }

    /// The mean length; 0 if nothing was counted.
    pub fn mean(&self) -> f64 {
        ratio(self.sum() as f64, self.total() as f64)
    }
}

/// Tokens by what they were taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginCounts([u64; DraftOrigin::ALL.len()]);

impl OriginCounts {
    /// Counts one token.
    pub fn add(&mut self, origin: DraftOrigin) {
        self.0[origin as usize] += 1;
    }

    /// Adds the counts of another generation.
    pub fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// The tokens of an origin.
    pub fn of(&self, origin: DraftOrigin) -> u64 {
        self.0[origin as usize]
    }
}

/// The numbers of one generation.
///
/// The prefill ends with the forward pass that chooses the first token; a *step* is a forward pass after
/// that. In a batch, every sequence counts the whole time of the passes it took part in: that is what its
/// user waited.
#[derive(Clone, Debug, Default)]
pub struct GenerationStats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, the ones that were in the cache already when it began.
    pub cached_tokens: usize,
    /// Tokens produced, an end token included.
    pub completion_tokens: usize,
    /// Tokens produced by decode steps: all but the one that the prefill chose.
    pub decode_tokens: usize,
    /// Forward passes of the prefill.
    pub prefill_passes: usize,
    /// Draft length of each step: nodes of its tree besides the root.
    pub draft_lengths: Histogram,
    /// Accepted length of each step: draft tokens that became output.
    pub accepted_lengths: Histogram,
    /// What the drafted tokens were taken from.
    pub drafted_by_origin: OriginCounts,
    /// What the accepted ones were taken from.
    pub accepted_by_origin: OriginCounts,
    /// Time from the first chunk of the prompt to the first token.
    pub prefill: Duration,
    /// Time of the decode steps, all their parts included.
    pub decode: Duration,
    /// The part of `decode` spent on drafting.
    pub retrieval: Duration,
    /// The part of `decode` spent in the model.
    pub forward: Duration,
    /// The part of `decode` spent on choosing tokens.
    pub verify: Duration,
    /// Time in which the drafter learned the prompt and the tokens produced.
    pub insert: Duration,
}

impl GenerationStats {
    /// Decode steps: forward passes after the prefill.
    pub fn steps(&self) -> u64 {
        self.draft_lengths.total()
    }

    /// Effective decoding length: tokens produced per decode step; 1 for plain decoding, 0 without steps.
    pub fn edl(&self) -> f64 {
        ratio(self.decode_tokens as f64, self.steps() as f64)
    }

    /// Tokens drafted.
    pub fn draft_tokens(&self) -> u64 {
        self.draft_lengths.sum()
    }

    /// Draft tokens that became output.
    pub fn accepted_tokens(&self) -> u64 {
        self.accepted_lengths.sum()
    }

    /// Tokens of the prompt per second of prefill.
    pub fn prefill_tokens_per_s(&self) -> f64 {
        ratio(self.prompt_tokens as f64, self.prefill.as_secs_f64())
    }

    /// Tokens produced by decode steps per second of decoding.
    pub fn decode_tokens_per_s(&self) -> f64 {
        ratio(self.decode_tokens as f64, self.decode.as_secs_f64())
    }
}

/// `a / b`, or 0 if `b` is 0.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_sums_and_averages() {
        let mut lengths = Histogram::default();
        for length in [3, 0, 3, 1] {
            lengths.add(length);
        }
        assert_eq!(lengths.counts(), [1, 1, 0, 2]);
        assert_eq!((lengths.total(), lengths.sum(), lengths.mean()), (4, 7, 1.75));
    }

    #[test]
    fn ratios_without_steps_are_zero() {
        let stats = GenerationStats::default();
        assert_eq!((stats.edl(), stats.decode_tokens_per_s(), stats.draft_lengths.mean()), (0.0, 0.0, 0.0));
    }
}
