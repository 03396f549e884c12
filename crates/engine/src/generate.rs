//! One answer from beginning to end.

use std::ops::ControlFlow;

use lookahead_model::LanguageModel;

use crate::drafter::Drafter;
use crate::{Engine, EngineError, FinishReason, GeneratedToken, Generation, GenerationRequest};

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
