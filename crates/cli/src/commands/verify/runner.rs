//! Decoding one case in one way.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lookahead_engine::{
    AdversarialDrafter, DraftPolicy, Drafter, Engine, EngineOptions, GenerationRequest, Namespace,
    NamespaceDrafter, NoDraft, SamplingParams, Sequence, Spellings, spellings,
};
use lookahead_kernels::Kernels;
use lookahead_model::tokenizer::Tokenizer;
use lookahead_model::{DeviceCache, DeviceModel, LanguageModel as _, TokenId};

use super::case::Case;
use super::comparison::Outcome;
use super::plan::{Candidate, Drafts, NAMESPACE_BYTES, Setting};

/// Decodes, with a model and sampling parameters that stay the same.
pub(super) struct Runner<'a> {
    model: &'a DeviceModel,
    sampling: SamplingParams,
    spellings: Option<Arc<Spellings>>,
    end_tokens: Vec<TokenId>,
    cancelled: Arc<AtomicBool>,
}

impl<'a> Runner<'a> {
    /// A runner that gives up once `cancelled` is true. Without a tokenizer no token ends an answer.
    pub(super) fn new(
        model: &'a DeviceModel,
        tokenizer: Option<&Tokenizer>,
        sampling: SamplingParams,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        let end_tokens = tokenizer.map(|tokenizer| tokenizer.end_of_generation().to_vec());
        Self {
            model,
            sampling,
            spellings: tokenizer.map(spellings),
            end_tokens: end_tokens.unwrap_or_default(),
            cancelled,
        }
    }

    /// The outcome of each sequence of the candidate's batch; `None` if it was cancelled. `plain` is what plain
    /// decoding made of the case, for drafts that need to know.
    ///
    /// # Errors
    /// If the forward pass is refused.
    pub(super) fn decode(
        &self,
        case: &Case,
        candidate: &Candidate,
        setting: &Setting,
        plain: Option<&Outcome>,
    ) -> anyhow::Result<Option<Vec<Outcome>>> {
        let kernels = Kernels::with_isa(setting.isa, setting.threads);
        let model = match plain {
            None => self.model.reference(kernels),
            Some(_) => self.model.with_kernels(kernels),
        };
        let mut engine = Engine::new(model, EngineOptions { prefill_chunk: setting.prefill_chunk });
        let answer = plain.map_or(&[][..], |plain| &plain.tokens);
        let mut sequences = Vec::with_capacity(candidate.batch.len());
        // Hostile drafts that vary with the prompt, and are the same each time.
        for (drafts, seed) in candidate.batch.iter().zip(case.prompt.len() as u64..) {
            let drafter = self.drafter(drafts, &candidate.namespace, &case.prompt, answer, seed)?;
            sequences.push(engine.start(self.request(case), drafter)?);
        }
        while sequences.iter().any(|sequence| !sequence.has_ended()) {
            engine.step(&mut sequences, |_, _| ControlFlow::Continue(()))?;
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        Ok(sequences.iter().map(outcome).collect())
    }

    fn request(&self, case: &Case) -> GenerationRequest {
        GenerationRequest {
            prompt: case.prompt.as_slice().into(),
            max_tokens: case.max_tokens,
            sampling: self.sampling.clone(),
            end_tokens: self.end_tokens.clone(),
            trace_logits: true,
            runners_up: 0,
            logprobs: None,
            cancel: Some(Arc::clone(&self.cancelled)),
        }
    }

    fn drafter(
        &self,
        drafts: &Drafts,
        namespace: &Arc<Namespace>,
        prompt: &[TokenId],
        answer: &[TokenId],
        seed: u64,
    ) -> anyhow::Result<Box<dyn Drafter>> {
        let reference = || [prompt, answer].concat();
        let spelled =
            |policy: &DraftPolicy| DraftPolicy { spellings: self.spellings.clone(), ..policy.clone() };
        let adversarial = |length| AdversarialDrafter::new(self.model.vocabulary_size(), length, seed);
        Ok(match drafts {
            Drafts::Nothing => Box::new(NoDraft),
            Drafts::Shared(policy) => Box::new(NamespaceDrafter::new(Arc::clone(namespace), spelled(policy))),
            Drafts::KnownAnswer(policy) => {
                let namespace = Namespace::new(NAMESPACE_BYTES)?;
                namespace.warm_up(&reference())?;
                Box::new(NamespaceDrafter::new(Arc::new(namespace), spelled(policy)))
            }
            Drafts::Random(length) => Box::new(adversarial(*length)),
            Drafts::NearMisses(length) => Box::new(adversarial(*length).with_reference(reference())),
        })
    }
}

/// What a sequence that has ended produced; `None` while it goes on.
fn outcome(sequence: &Sequence<DeviceCache>) -> Option<Outcome> {
    Some(Outcome {
        tokens: sequence.completion().to_vec(),
        logits: sequence.logits_trace().map(|trace| trace.rows().to_vec()).unwrap_or_default(),
        finish_reason: sequence.finish_reason()?,
        stats: sequence.stats().clone(),
    })
}
