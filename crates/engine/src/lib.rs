//! Lossless lookahead decoding: the decode loop, drafters, sampling, verification and statistics.
//!
//! Start reading at [`Engine::step`]; [`Scheduler`] batches the requests of a service around it. The contract: for a given model, prompt and [`SamplingParams`], the
//! tokens and the bits of the logits that chose them are the same whatever a [`Drafter`] drafts, however the
//! prompt is cut into chunks and whoever shares the batch. Plain decoding is the case of [`NoDraft`].
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! use lookahead_engine::{
//!     DraftPolicy, Engine, EngineError, EngineOptions, GenerationRequest, Namespace, NamespaceDrafter,
//! };
//! use lookahead_model::{LanguageModel, TokenId};
//!
//! /// Continues `prompt` by up to 100 tokens and prints each, drafted ones with a star.
//! fn answer<M: LanguageModel>(
//!     model: M,
//!     namespace: &Arc<Namespace>,
//!     prompt: Vec<TokenId>,
//! ) -> Result<Vec<TokenId>, EngineError> {
//!     let mut engine = Engine::new(model, EngineOptions::default());
//!     let drafter = NamespaceDrafter::new(Arc::clone(namespace), DraftPolicy::default());
//!     let request = GenerationRequest { prompt: prompt.into(), max_tokens: 100, ..GenerationRequest::default() };
//!     let generation = engine.generate(request, Box::new(drafter), |token| {
//!         println!("{}{}", token.id, if token.is_drafted() { "*" } else { "" });
//!         ControlFlow::Continue(())
//!     })?;
//!     println!("{:.2} tokens per forward pass", generation.stats.edl());
//!     Ok(generation.token_ids)
//! }
//! ```

mod answer_text;
mod constrained;
mod constraint;
mod cost_curve;
mod drafter;
mod engine;
mod error;
mod generate;
mod generation;
mod learnable_texts;
mod learnt_costs;
mod logits_trace;
mod masks;
mod sampling;
mod scheduler;
mod sequence;
mod stats;
mod stop_strings;
mod verify;

pub use answer_text::AnswerText;
pub use constraint::{Constraint, ConstraintError, Scout, allow, allows, forbid};
pub use cost_curve::{MeasureError, measure_cost_curve};
pub use drafter::{
    AdversarialDrafter, Draft, DraftLimits, DraftPolicy, Drafter, NamespaceDrafter, NoDraft, spellings,
};
pub use engine::{Engine, EngineOptions, PassReport};
pub use error::EngineError;
pub use generation::{FinishReason, Generation};
pub use learnable_texts::{RecordError, learnable_texts};
pub use logits_trace::LogitsTrace;
pub use lookahead_trie::{
    CostCurve, CostCurveError, CostPoint, DraftOrigin, DraftShape, DraftSource, Namespace, RequestText,
    Sharing, Spellings,
};
pub use sampling::{Sampler, SamplingError, SamplingParams, TokenLogprobs};
pub use scheduler::{Finished, QueueFull, RequestId, Scheduler, SchedulerOptions, StepReport, Submission};
pub use sequence::{GeneratedToken, GenerationRequest, Sequence};
pub use stats::{GenerationStats, Histogram, OriginCounts};
pub use stop_strings::{StopCheck, StopStrings};
pub use verify::{Verified, verify};
