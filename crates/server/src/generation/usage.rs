//! The tokens that a request takes.

use std::time::Duration;

use lookahead_engine::{DraftOrigin, GenerationStats, OriginCounts};

/// The tokens that a request took, and what lookahead did for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Of prompts, each counted once.
    pub(crate) prompt_tokens: usize,
    /// Of those, the ones that did not have to be computed, as an earlier request began alike.
    pub(crate) cached_tokens: usize,
    /// Of answers, the tokens that end them included.
    pub(crate) completion_tokens: usize,
    /// Of those, the ones that the model thought before it answered.
    pub(crate) reasoning_tokens: usize,
    /// Tokens of the prediction that became part of an answer, and those that did not.
    pub(crate) accepted_prediction_tokens: u64,
    pub(crate) rejected_prediction_tokens: u64,
    /// Forward passes after the prefill, and the tokens that they produced.
    pub(crate) steps: u64,
    pub(crate) decode_tokens: u64,
    /// Tokens that were drafted, and those that the model accepted.
    pub(crate) drafted: u64,
    pub(crate) accepted: u64,
    /// What the accepted ones were taken from.
    pub(crate) accepted_by_origin: OriginCounts,
    /// Time from the first chunk of a prompt to the first token of its answer, and of the passes behind it; of all answers.
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

impl Usage {
    /// Adds an answer, of which the first tokens were the `dictated` ones of the prompt. The prompt counts if it is the first one
    /// to it.
    pub(super) fn add(
        &mut self,
        stats: &GenerationStats,
        is_first: bool,
        prediction_tokens: usize,
        dictated: usize,
    ) {
        if is_first {
            self.prompt_tokens += stats.prompt_tokens + dictated;
            self.cached_tokens += stats.cached_tokens;
        }
        self.completion_tokens += stats.completion_tokens.saturating_sub(dictated);
        let accepted = stats.accepted_by_origin.of(DraftOrigin::Reference);
        self.accepted_prediction_tokens += accepted;
        self.rejected_prediction_tokens += (prediction_tokens as u64).saturating_sub(accepted);
        self.steps += stats.steps();
        self.decode_tokens += stats.decode_tokens as u64;
        self.drafted += stats.draft_tokens();
        self.accepted += stats.accepted_tokens();
        self.accepted_by_origin.join(&stats.accepted_by_origin);
        self.prefill += stats.prefill;
        self.decode += stats.decode;
    }
}
