//! Repetition, presence and frequency penalties over the last tokens of the history.

use lookahead_model::TokenId;

use super::params::SamplingParams;

/// Whether any penalty changes any logit.
pub(super) fn are_on(params: &SamplingParams) -> bool {
    let off =
        params.repetition_penalty == 1.0 && params.presence_penalty == 0.0 && params.frequency_penalty == 0.0;
    !off && params.penalty_window > 0
}

/// How many tokens the penalties lower at most after `history` tokens; `None` if they may raise some.
pub(super) fn lowered(params: &SamplingParams, history: usize) -> Option<usize> {
    let only_lower =
        params.repetition_penalty >= 1.0 && params.presence_penalty >= 0.0 && params.frequency_penalty >= 0.0;
    match (are_on(params), only_lower) {
        (false, _) => Some(0),
        (true, true) => Some(params.penalty_window.min(history)),
        (true, false) => None,
    }
}

/// The tokens in the last `penalty_window` tokens of `history`, ascending, with the number of their occurrences. `window` is
/// scratch.
pub(super) fn occurrences<'w>(
    params: &SamplingParams,
    history: &[TokenId],
    window: &'w mut Vec<TokenId>,
) -> impl Iterator<Item = (TokenId, usize)> + use<'w> {
    window.clear();
    window.extend_from_slice(&history[history.len().saturating_sub(params.penalty_window)..]);
    window.sort_unstable();
    window.chunk_by(|a, b| a == b).map(|occurrences| (occurrences[0], occurrences.len()))
}

/// The logit of a token that occurs so often in the window. The formulas are llama.cpp's.
pub(super) fn penalised(params: &SamplingParams, logit: f32, occurrences: usize) -> f32 {
    let logit =
        if logit > 0.0 { logit / params.repetition_penalty } else { logit * params.repetition_penalty };
    logit - (occurrences as f32 * params.frequency_penalty + params.presence_penalty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_count_occurrences_in_the_window_only() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            penalty_window: 4,
            ..SamplingParams::greedy()
        };
        let mut window = Vec::new();
        // Token 3 lies before the window.
        let counts: Vec<_> = occurrences(&params, &[3, 0, 2, 0, 9], &mut window).collect();
        assert_eq!(counts, [(0, 2), (2, 1), (9, 1)]);
        assert_eq!(penalised(&params, 4.0, 2), 2.0 - 1.0 - 0.25);
        assert_eq!(penalised(&params, -4.0, 1), -8.0 - 0.5 - 0.25);
    }

    #[test]
    fn penalties_that_may_raise_a_logit_are_known() {
        let off = SamplingParams::greedy();
        let lower = SamplingParams { repetition_penalty: 1.1, frequency_penalty: 0.5, ..off.clone() };
        for (params, expected) in [
            (off.clone(), Some(0)),
            (lower.clone(), Some(9)),
            (SamplingParams { penalty_window: 5, ..lower.clone() }, Some(5)),
            (SamplingParams { presence_penalty: -0.1, ..lower }, None),
            (SamplingParams { repetition_penalty: 0.9, ..off.clone() }, None),
            (SamplingParams { repetition_penalty: 0.9, penalty_window: 0, ..off }, Some(0)),
        ] {
            assert_eq!(lowered(&params, 9), expected, "{params:?}");
        }
    }

    #[test]
    fn penalties_are_on_when_one_differs_from_its_neutral_value() {
        let off = SamplingParams::greedy();
        assert!(!are_on(&off));
        assert!(are_on(&SamplingParams { repetition_penalty: 1.1, ..off.clone() }));
        assert!(are_on(&SamplingParams { presence_penalty: -0.5, ..off.clone() }));
        assert!(!are_on(&SamplingParams { frequency_penalty: 0.5, penalty_window: 0, ..off }));
    }
}
