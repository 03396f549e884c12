//! Comparing an answer with the one of plain decoding.

use lookahead_engine::{FinishReason, GenerationStats};
use lookahead_model::TokenId;

/// What one run produced.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) tokens: Vec<TokenId>,
    /// For each token a hash over the bits of the logits that chose it.
    pub(super) logits: Vec<u64>,
    pub(super) finish_reason: FinishReason,
    pub(super) stats: GenerationStats,
}

/// How an answer differs from the plain one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Positions that were compared: as many as the longer answer has.
    pub(super) tokens: usize,
    /// Positions with different tokens; a token that only one answer has counts.
    pub(super) differing_tokens: usize,
    /// Positions whose rows of logits differ in a bit or more; likewise.
    pub(super) differing_logits_rows: usize,
    /// Why the two ended, plain first, if for different reasons.
    pub(super) finish_reasons: Option<[FinishReason; 2]>,
    /// The first position that differs.
    pub(super) first: Option<Position>,
}

/// A position at which two answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Index in the answer.
    pub(super) index: usize,
    /// What plain decoding says there, if its answer is that long.
    pub(super) plain: Option<TokenId>,
    /// What the other run says there.
    pub(super) found: Option<TokenId>,
    /// Whether the logits differ as well.
    pub(super) logits_differ: bool,
}

impl Comparison {
    pub(super) fn of(plain: &Outcome, other: &Outcome) -> Self {
        let tokens = plain.tokens.len().max(other.tokens.len());
        let mut comparison = Self { tokens, ..Self::default() };
        for index in 0..tokens.max(plain.logits.len()).max(other.logits.len()) {
            let [plain_token, found] = [plain, other].map(|outcome| outcome.tokens.get(index).copied());
            let logits_differ = plain.logits.get(index) != other.logits.get(index);
            comparison.differing_tokens += usize::from(plain_token != found);
            comparison.differing_logits_rows += usize::from(logits_differ);
            if comparison.first.is_none() && (plain_token != found || logits_differ) {
                comparison.first = Some(Position { index, plain: plain_token, found, logits_differ });
            }
        }
        let finish_reasons = [plain.finish_reason, other.finish_reason];
        comparison.finish_reasons = (finish_reasons[0] != finish_reasons[1]).then_some(finish_reasons);
        comparison
    }

    /// Whether nothing differs.
    pub(super) fn is_equal(&self) -> bool {
        self.differing_tokens == 0 && self.differing_logits_rows == 0 && self.finish_reasons.is_none()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn outcome(
        tokens: &[TokenId],
        logits: &[u64],
        finish_reason: FinishReason,
    ) -> Outcome {
        let (tokens, logits) = (tokens.to_vec(), logits.to_vec());
        Outcome { tokens, logits, finish_reason, stats: GenerationStats::default() }
    }

    #[test]
    fn equal_answers_have_no_difference() {
        let plain = outcome(&[1, 2, 3], &[10, 20, 30], FinishReason::Length);
        let comparison = Comparison::of(&plain, &plain.clone());
        assert_eq!(comparison, Comparison { tokens: 3, ..Comparison::default() });
        assert!(comparison.is_equal());
    }

    #[test]
    fn each_kind_of_difference_is_found_and_the_first_position_told() {
        let plain = outcome(&[1, 2, 3], &[10, 20, 30], FinishReason::Length);
        let compare = |tokens: &[TokenId], logits: &[u64], finish| {
            let comparison = Comparison::of(&plain, &outcome(tokens, logits, finish));
            assert!(!comparison.is_equal());
            comparison
        };

        let token = compare(&[1, 9, 3], &[10, 20, 30], FinishReason::Length);
        assert_eq!((token.differing_tokens, token.differing_logits_rows), (1, 0));
        let position = Position { index: 1, plain: Some(2), found: Some(9), logits_differ: false };
        assert_eq!(token.first, Some(position));

        let logits = compare(&[1, 2, 3], &[10, 21, 31], FinishReason::Length);
        assert_eq!((logits.differing_tokens, logits.differing_logits_rows), (0, 2));
        let position = Position { index: 1, plain: Some(2), found: Some(2), logits_differ: true };
        assert_eq!(logits.first, Some(position));

        let shorter = compare(&[1, 2], &[10, 20], FinishReason::Length);
        assert_eq!((shorter.tokens, shorter.differing_tokens, shorter.differing_logits_rows), (3, 1, 1));
        let position = Position { index: 2, plain: Some(3), found: None, logits_differ: true };
        assert_eq!(shorter.first, Some(position));

        let finish = compare(&[1, 2, 3], &[10, 20, 30], FinishReason::Stop);
        assert_eq!(finish.finish_reasons, Some([FinishReason::Length, FinishReason::Stop]));
        assert_eq!(finish.first, None);
    }

    #[test]
    fn a_missing_trace_is_a_difference() {
        let plain = outcome(&[1, 2], &[10, 20], FinishReason::Length);
        let untraced = Comparison::of(&plain, &outcome(&[1, 2], &[], FinishReason::Length));
        assert_eq!(untraced.differing_logits_rows, 2);
    }
}
