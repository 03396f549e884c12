//! The decode loop.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use lookahead_model::{ForwardError, Keep, LanguageModel, Logits, SequenceStep};

use crate::drafter::Drafter;
use crate::sequence::Pass;
use crate::{EngineError, FinishReason, GeneratedToken, GenerationRequest, Sampler, Sequence};

/// Rows of a cache beyond the sequence's own tokens, so that the draft trees of its last steps need not
/// shrink.
const DRAFT_ROWS: usize = 64;

/// How the engine cuts its work. No token and no bit of a logit depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Tokens of a prompt in one forward pass, at least 1. A larger chunk is faster and takes more memory.
    pub prefill_chunk: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { prefill_chunk: 256 }
    }
}

/// Generates with a model: draft, forward, verify, emit, keep.
pub struct Engine<M: LanguageModel> {
    model: M,
    options: EngineOptions,
    logits: Logits,
}

impl<M: LanguageModel> Engine<M> {
    /// An engine around `model`.
    pub fn new(model: M, options: EngineOptions) -> Self {
        Self { model, options, logits: Logits::default() }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, to change its settings (its threads, say) between generations.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// One step for every sequence that has not ended: a chunk of its prompt, or a decode step with a draft
    /// tree.
    ///
    /// All trees run in one forward pass. Each token is handed to `on_token`, with the index of its sequence,
    /// as soon as it is verified; to break there ends that sequence with this token, even in the middle of an
    /// accepted path.
    ///
    /// # Errors
    /// If the forward pass is refused. No sequence has advanced then.
    pub fn step(
        &mut self,
        sequences: &mut [Sequence<M::Cache>],
        mut on_token: impl FnMut(usize, GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> Result<(), EngineError> {
        let began = Instant::now();
        let (chunk, vocabulary_size) = (self.options.prefill_chunk.max(1), self.model.vocabulary_size());
        let passes: Vec<Option<Pass>> =
            sequences.iter_mut().map(|sequence| sequence.draft(chunk, vocabulary_size)).collect();
        let forward = self.forward(sequences, &passes)?;

        let mut next_row = 0;
        for (index, (sequence, pass)) in sequences.iter_mut().zip(&passes).enumerate() {
            let Some(pass) = pass else { continue };
            let rows = pass.take_rows(&self.logits, &mut next_row);
            let verified = sequence.verify(pass, &rows);
            let produced = sequence.emit(&verified, |token| on_token(index, token));
            sequence.keep(pass, &verified, produced, &rows);
            sequence.count(pass, &verified, produced, forward, began.elapsed());
        }
        Ok(())
    }

    /// Runs all passes as one and returns the time it took.
    fn forward(
        &mut self,
        sequences: &mut [Sequence<M::Cache>],
        passes: &[Option<Pass>],
    ) -> Result<Duration, ForwardError> {
        let began = Instant::now();
        let mut batch = Vec::with_capacity(passes.len());
        let mut keep = Keep::Best(1);
        for (sequence, pass) in sequences.iter_mut().zip(passes) {
            if let Some(Pass { tree, logits_of }) = pass {
                keep = match (keep, sequence.keep_of_logits()) {
                    (Keep::Best(some), Keep::Best(more)) => Keep::Best(some.max(more)),
                    _ => Keep::Row,
                };
                batch.push(SequenceStep { tree, cache: &mut sequence.cache, logits_of: *logits_of });
            }
        }
        if !batch.is_empty() {
            self.logits.set_keep(keep);
            self.model.forward(&mut batch, &mut self.logits)?;
        }
        Ok(began.elapsed())
    }

    /// Makes a sequence out of a request; `drafter` belongs to it alone.
    ///
    /// # Errors
    /// If the prompt is empty, too long for the model's context or has unknown tokens, or a sampling
    /// parameter is out of range.
    pub fn start(
        &self,
        request: GenerationRequest,
        drafter: Box<dyn Drafter>,
    ) -> Result<Sequence<M::Cache>, EngineError> {
        let (prompt_tokens, context_length) = (request.prompt.len(), self.model.context_length());
        let vocabulary_size = self.model.vocabulary_size();
        if request.prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt_tokens >= context_length {
            return Err(EngineError::PromptTooLong { prompt_tokens, context_length });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= vocabulary_size) {
            return Err(ForwardError::UnknownToken { token, vocabulary_size }.into());
        }
        let sampler = Sampler::new(request.sampling.clone())?;
        let max_len = prompt_tokens.saturating_add(request.max_tokens).min(context_length);
        let cache = self.model.new_cache(max_len + DRAFT_ROWS);
        Ok(Sequence::new(request, sampler, drafter, cache, max_len))
    }
}
