//! The models that are served.

use std::sync::Arc;
use std::time::Duration;

use lookahead_engine::{DraftPolicy, Engine, Scheduler, SchedulerOptions};
use lookahead_grammar::{GrammarLimits, Grammars, ThinkingTokens};
use lookahead_model::tokenizer::Tokenizer;
use lookahead_model::{LanguageModel, PromptEncoder, ReasoningFormat};

use crate::drafts::DraftStore;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::options::{ServedModel, ServerOptions};
use crate::serve_error::ServeError;
use crate::worker::Worker;

/// Time of a pass over a prompt, where the next request may be another tenant's.
const LONGEST_PASS: Duration = Duration::from_millis(100);

/// A model with all that belongs to it: its tokens, its grammars, its drafts, and the thread of its engine.
pub(crate) struct Served {
    /// What requests call it; at least one.
    pub(crate) names: Vec<String>,
    pub(crate) prompts: Arc<PromptEncoder>,
    pub(crate) grammars: Arc<Grammars>,
    pub(crate) thinking: Option<Thinking>,
    pub(crate) drafts: DraftStore,
    /// How requests draft that do not say.
    pub(crate) policy: Option<DraftPolicy>,
    pub(crate) worker: Worker,
    pub(crate) metrics: Arc<Metrics>,
    /// The most tokens of prompt and answer together.
    pub(crate) context_length: usize,
    /// Logits of a token; the tokenizer may know fewer.
    pub(crate) vocabulary_size: usize,
    pub(crate) kv_total_tokens: usize,
}

/// How a model thinks before it answers.
pub(crate) struct Thinking {
    pub(crate) format: ReasoningFormat,
    /// The tokens that tell the end of it before the text does; without them, an answer of a given form has no thinking.
    pub(crate) tokens: Option<ThinkingTokens>,
}

impl Served {
    /// Starts the engine's thread.
    pub(crate) fn start<M>(
        mut engine: Engine<M>,
        model: ServedModel,
        options: &ServerOptions,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ServeError>
    where
        M: LanguageModel + Send + 'static,
        M::Cache: Send,
    {
        let ServedModel { names, prompts, drafts } = model;
        let drafts = drafts.unwrap_or_else(|| options.drafts.clone());
        let policy = drafts.policy.clone();
        let tokenizer = prompts.tokenizer();
        let vocabulary_size = engine.model().vocabulary_size();
        let grammars = Arc::new(Grammars::with_limits(
            tokenizer,
            vocabulary_size,
            &grammar_limits(!options.keys.is_empty(), options.preparations),
        )?);
        let thinking = options.reasoning.format(&prompts).map(|format| Thinking {
            format,
            tokens: ThinkingTokens::new(tokenizer, vocabulary_size, format),
        });
        let drafts = DraftStore::new(drafts, tokenizer.fingerprint(), Arc::clone(metrics))?;
        let context_length = engine.context_length();
        let kv_total_tokens = engine.model().cache_memory().total_tokens();
        let scheduler_options = SchedulerOptions {
            max_sequences: options.parallel,
            max_queue: usize::MAX, // admission turns requests away
            prefix_cache: kv_total_tokens < usize::MAX,
        };
        if !options.keys.is_empty() {
            engine.bound_passes(LONGEST_PASS);
        }
        let scheduler = Scheduler::new(engine, scheduler_options);
        let worker = Worker::start(scheduler, Arc::clone(metrics)).map_err(ServeError::Thread)?;
        Ok(Self {
            names,
            prompts,
            grammars,
            thinking,
            drafts,
            policy,
            worker,
            metrics: Arc::clone(metrics),
            context_length,
            vocabulary_size,
            kv_total_tokens,
        })
    }

    /// The first of its names.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        self.prompts.tokenizer()
    }
}

/// What grammars may cost, where so many requests are prepared at a time. Keys do not wait for what each other compiles: the places
/// for preparing, which they take in turns, bound how many compile.
fn grammar_limits(has_keys: bool, preparations: usize) -> GrammarLimits {
    let usual = GrammarLimits::default();
    if !has_keys {
        return usual;
    }
    GrammarLimits { compilations: preparations.max(usual.compilations), ..usual }
}

/// The models, by name.
pub(crate) struct Models(Vec<Arc<Served>>);

impl Models {
    /// Of these models, at least one; the first is meant where a request names none.
    pub(crate) fn new(models: Vec<Served>) -> Result<Self, ServeError> {
        if models.is_empty() {
            return Err(ServeError::NoModel);
        }
        Ok(Self(models.into_iter().map(Arc::new).collect()))
    }

    /// The model of this name, or the first.
    ///
    /// # Errors
    /// If none has this name.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Arc<Served>, ApiError> {
        let Some(name) = name else { return Ok(&self.0[0]) };
        self.0.iter().find(|model| model.names.iter().any(|known| known == name)).ok_or_else(|| {
            let names: Vec<&str> = self.iter().flat_map(|model| &model.names).map(String::as_str).collect();
            let (names, are) = (names.join("`, `"), if self.0.len() == 1 { "is" } else { "are" });
            let message = format!("the model `{name}` is not served here; `{names}` {are}");
            ApiError::not_found("model_not_found", message).of_param("model")
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_wait_for_what_each_other_compiles() {
        let usual = GrammarLimits::default();
        assert_eq!(grammar_limits(false, 1000), usual);
        assert_eq!(grammar_limits(true, 1000), GrammarLimits { compilations: 1000, ..usual });
    }
}
