//! From a checked request to events, whatever form the answer takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lookahead_engine::{
    AnswerText, Constraint, DraftOrigin, DraftPolicy, Drafter, FinishReason, GenerationRequest,
    GenerationStats, NoDraft, SamplingParams, Submission,
};
use lookahead_grammar::Follower;
use lookahead_model::TokenId;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use utoipa::ToSchema;

use crate::drafts::UsedNamespace;
use crate::error::ApiError;
use crate::metrics::source_name;
use crate::state::State;
use crate::worker::{Ending, Event, Job, Received, Step};

/// What is to be answered.
pub(super) struct Order {
    /// Each is answered `choices` times.
    pub(super) prompts: Vec<Vec<TokenId>>,
    pub(super) choices: usize,
    pub(super) max_tokens: usize,
    pub(super) sampling: SamplingParams,
    pub(super) stop: Vec<String>,
    /// Whether answers go on behind the tokens that end one.
    pub(super) ignore_eos: bool,
    pub(super) logprobs: Option<usize>,
    /// The text that the answer is expected to repeat.
    pub(super) prediction: Option<Vec<TokenId>>,
    /// What limits the answers, each from its beginning.
    pub(super) constraint: Option<Follower>,
    pub(super) policy: Option<DraftPolicy>,
    pub(super) namespace: UsedNamespace,
    /// Whose prompts are told from others by how quickly they are read.
    pub(super) scope: String,
}

/// The answers that are being made. Dropping it stops them.
pub(super) struct Answers {
    events: UnboundedReceiver<(usize, Event)>,
    cancel: Arc<AtomicBool>,
    deadline: Instant,
    timeout_s: u64,
    left: usize,
    prediction_tokens: usize,
}

/// The tokens that a request took.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct Usage {
    /// Of prompts, each counted once.
    prompt_tokens: usize,
    /// Of answers, the tokens that end them included.
    completion_tokens: usize,
    /// Both.
    total_tokens: usize,
    prompt_tokens_details: PromptTokensDetails,
    completion_tokens_details: CompletionTokensDetails,
    lookahead: LookaheadUsage,
}

/// Of the prompt's tokens.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
struct PromptTokensDetails {
    /// Those that did not have to be computed, as an earlier request began alike.
    cached_tokens: usize,
}

/// Of the answers' tokens.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "OpenAI's names")]
struct CompletionTokensDetails {
    /// Always 0.
    reasoning_tokens: usize,
    /// Tokens of the prediction that became part of the answer.
    accepted_prediction_tokens: u64,
    /// Tokens of the prediction that did not.
    rejected_prediction_tokens: u64,
}

/// What lookahead did.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
struct LookaheadUsage {
    /// Forward passes after the prefill.
    steps: u64,
    /// Tokens for each of them; 1 for plain decoding.
    edl: f64,
    /// Tokens that were drafted.
    drafted: u64,
    /// Of those, the ones that the model accepted.
    accepted: u64,
    /// Those by what they were taken from.
    accepted_by_source: BTreeMap<&'static str, u64>,
    /// Tokens that the steps produced.
    #[serde(skip)]
    decode_tokens: u64,
}

impl State {
    /// Hands the order to the engine.
    pub(super) fn answer(&self, order: &Order, received: &Received) -> Result<Answers, ApiError> {
        let (sender, events) = unbounded_channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let tokenizer = self.model.prompts.tokenizer();
        let end_tokens = if order.ignore_eos { &[] } else { tokenizer.end_of_generation() };
        let prediction_tokens = order.prediction.as_ref().map_or(0, Vec::len);
        let mut jobs = Vec::with_capacity(order.prompts.len() * order.choices);
        for prompt in &order.prompts {
            for choice in 0..order.choices {
                // Each answer to a prompt has random numbers of its own.
                let seed = order.sampling.seed.wrapping_add(choice as u64);
                let request = GenerationRequest {
                    prompt: prompt.clone(),
                    max_tokens: order.max_tokens,
                    sampling: SamplingParams { seed, ..order.sampling.clone() },
                    end_tokens: end_tokens.to_vec(),
                    logprobs: order.logprobs,
                    cancel: Some(Arc::clone(&cancel)),
                    ..GenerationRequest::default()
                };
                jobs.push(Job {
                    submission: Submission {
                        request,
                        drafter: drafter_of(order),
                        constraint: order
                            .constraint
                            .clone()
                            .map(|follower| Box::new(follower) as Box<dyn Constraint>),
                        scope: order.scope.clone(),
                    },
                    text: AnswerText::new(tokenizer, order.stop.iter().cloned()),
                    choice: jobs.len(),
                    events: sender.clone(),
                    received: received.clone(),
                });
            }
        }
        let left = jobs.len();
        self.worker.submit(jobs).map_err(|full| ApiError::queue_full(full.waiting))?;
        let timeout = self.options.request_timeout;
        let (deadline, timeout_s) = (received.at + timeout, timeout.as_secs());
        Ok(Answers { events, cancel, deadline, timeout_s, left, prediction_tokens })
    }

    /// Refuses a prompt that does not fit; how many tokens an answer to it may have, `asked` at most.
    pub(super) fn max_tokens(
        &self,
        prompt_tokens: usize,
        asked: Option<usize>,
        param: &str,
    ) -> Result<usize, ApiError> {
        let (most, context_length) = (self.options.max_prompt_tokens, self.context_length);
        if prompt_tokens == 0 {
            return Err(ApiError::invalid(param, format!("{param}: the prompt has no tokens")));
        }
        if prompt_tokens >= context_length || prompt_tokens > most {
            let message = format!(
                "the prompt has {prompt_tokens} tokens; this server takes up to {}, and the context of \
                 {context_length} tokens must hold the answer, too",
                most.min(context_length - 1)
            );
            return Err(ApiError::context_length(param, message));
        }
        if asked == Some(0) {
            return Err(ApiError::invalid("max_tokens", "max_tokens is 0; it must be at least 1"));
        }
        Ok(asked.unwrap_or(usize::MAX).min(self.options.max_completion_tokens))
    }
}

fn drafter_of(order: &Order) -> Box<dyn Drafter> {
    let Some(policy) = &order.policy else { return Box::new(NoDraft) };
    order.namespace.drafter(policy.clone(), order.prediction.iter().cloned().collect())
}

/// What one answer comes to next.
pub(super) enum Next {
    /// The tokens of a forward pass.
    Step(usize, Step),
    /// The end of an answer.
    End(usize, Box<Ending>),
    /// The end of all.
    Done,
}

impl Answers {
    /// What comes next, of any answer.
    ///
    /// # Errors
    /// If the engine failed, or the time of the request is over; nothing more comes then.
    pub(super) async fn next(&mut self) -> Result<Next, ApiError> {
        if self.left == 0 {
            return Ok(Next::Done);
        }
        let event = tokio::time::timeout_at(self.deadline.into(), self.events.recv()).await;
        let problem = match event {
            Ok(Some((choice, Event::Step(step)))) => return Ok(Next::Step(choice, step)),
            Ok(Some((_, Event::End(Ok(ending))))) if ending.finish_reason == FinishReason::Cancelled => {
                ApiError::unavailable("the answer was given up")
            }
            Ok(Some((choice, Event::End(Ok(ending))))) => {
                self.left -= 1;
                return Ok(Next::End(choice, ending));
            }
            Ok(Some((_, Event::End(Err(error))))) => error.into(),
            Ok(None) => ApiError::unavailable("the engine has stopped"),
            Err(_) => ApiError::timeout(self.timeout_s),
        };
        self.left = 0;
        Err(problem)
    }

    /// Tokens of the prediction of each answer.
    pub(super) fn prediction_tokens(&self) -> usize {
        self.prediction_tokens
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl Usage {
    /// Adds an answer. The prompt counts if it is the first one to it.
    pub(super) fn add(&mut self, stats: &GenerationStats, is_first: bool, prediction_tokens: usize) {
        if is_first {
            self.prompt_tokens += stats.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += stats.cached_tokens;
        }
        self.completion_tokens += stats.completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
        let accepted = stats.accepted_by_origin.of(DraftOrigin::Reference);
        let details = &mut self.completion_tokens_details;
        details.accepted_prediction_tokens += accepted;
        details.rejected_prediction_tokens += (prediction_tokens as u64).saturating_sub(accepted);
        let lookahead = &mut self.lookahead;
        lookahead.steps += stats.steps();
        lookahead.decode_tokens += stats.decode_tokens as u64;
        lookahead.edl = lookahead.decode_tokens as f64 / lookahead.steps.max(1) as f64;
        lookahead.drafted += stats.draft_tokens();
        lookahead.accepted += stats.accepted_tokens();
        for origin in DraftOrigin::ALL {
            let accepted = stats.accepted_by_origin.of(origin);
            if accepted > 0 {
                *lookahead.accepted_by_source.entry(source_name(origin)).or_default() += accepted;
            }
        }
    }
}
