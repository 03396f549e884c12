//! One answer from beginning to end.

use std::ops::ControlFlow;

use lookahead_model::{LanguageModel, TokenId};

use crate::drafter::Drafter;
use crate::{
    Engine, EngineError, FinishReason, GeneratedToken, GenerationRequest, GenerationStats, LogitsTrace,
};

/// A finished generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The answer, an end token included.
    pub token_ids: Vec<TokenId>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its numbers.
    pub stats: GenerationStats,
    /// The fingerprint of its logits, if the request asked for it.
    pub logits_trace: Option<LogitsTrace>,
    /// For each token of the answer the model's most likely ones in its place, best first; empty unless the request
    /// asked for it.
    pub runners_up: Vec<Vec<TokenId>>,
}

impl Generation {
    /// Of a request that was given up before it began.
    pub(crate) fn cancelled() -> Self {
        Self {
            token_ids: Vec::new(),
            finish_reason: FinishReason::Cancelled,
            stats: GenerationStats::default(),
            logits_trace: None,
            runners_up: Vec::new(),
        }
    }
}

impl<M: LanguageModel> Engine<M> {
    /// Generates one answer. Each token is handed to `on_token` as soon as it is verified; to break there
    /// ends the answer with this token: with [`FinishReason::Stop`] for a stop string, with
    /// [`FinishReason::Cancelled`] for Ctrl-C.
    ///
    /// # Errors
    /// As [`Engine::start`] and [`Engine::step`].
    pub fn generate(
        &mut self,
        request: GenerationRequest,
        drafter: Box<dyn Drafter>,
        mut on_token: impl FnMut(GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> Result<Generation, EngineError> {
        let mut sequence = [self.start(request, drafter)?];
        while !sequence[0].has_ended() {
            self.step(&mut sequence, |_, token| on_token(token))?;
        }
        let [sequence] = sequence;
        let generation = sequence.into_generation()?;
        let stats = &generation.stats;
        tracing::debug!(finish = %generation.finish_reason, steps = stats.steps(), edl = stats.edl(), "generated");
        Ok(generation)
    }
}
