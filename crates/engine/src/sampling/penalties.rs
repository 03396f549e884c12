//! Repetition, presence and frequency penalties over the last tokens of the history.

use lookahead_model::TokenId;

use super::SamplingParams;

/// Whether any penalty changes any logit.
pub(super) fn are_on(params: &SamplingParams) -> bool {
    let off =
        params.repetition_penalty == 1.0 && params.presence_penalty == 0.0 && params.frequency_penalty == 0.0;
    !off && params.penalty_window > 0
}

/// Lowers the logits of the tokens in the last `penalty_window` tokens of `history`.
///
/// The formulas are llama.cpp's. `window` is scratch.
pub(super) fn apply(
    params: &SamplingParams,
    history: &[TokenId],
    window: &mut Vec<TokenId>,
    logits: &mut [f32],
) {
    window.clear();
    window.extend_from_slice(&history[history.len().saturating_sub(params.penalty_window)..]);
    window.sort_unstable();
    for occurrences in window.chunk_by(|a, b| a == b) {
        let Some(logit) = logits.get_mut(occurrences[0] as usize) else { continue };
        if *logit > 0.0 {
            *logit /= params.repetition_penalty;
        } else {
            *logit *= params.repetition_penalty;
        }
        *logit -= occurrences.len() as f32 * params.frequency_penalty + params.presence_penalty;
    }
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
        let mut logits = [4.0, 4.0, -4.0, 4.0];
        // Token 3 lies before the window, token 9 is in no row.
        apply(&params, &[3, 0, 2, 0, 9], &mut Vec::new(), &mut logits);
        assert_eq!(logits, [2.0 - 1.0 - 0.25, 4.0, -8.0 - 0.5 - 0.25, 4.0]);
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
