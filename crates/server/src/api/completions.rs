//! `POST /v1/completions`

use std::sync::Arc;

use axum::extract::{Extension, Request};
use axum::response::{IntoResponse, Response};
use axum::{Json, extract};
use lookahead_engine::FinishReason;
use lookahead_model::TokenId;
use lookahead_model::tokenizer::DecodeOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answers::{Answers, Next, Order, Usage};
use super::body::{self, Fields};
use super::fields::{Delivery, SamplingFields, limit, or_default};
use super::logprobs::{self, TextLogprobs};
use super::stream::{self, Pieces, Trace};
use super::structure::StructureFields;
use super::{Shared, Tenant, blocking, check_model};
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::ids;
use crate::state::State;
use crate::worker::{Ending, Received, Step};

/// Tokens of an answer where the request does not say: OpenAI's default for texts.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Prompts of a request, at most.
const MAX_PROMPTS: usize = 64;

/// A text to be continued.
#[derive(Debug, Deserialize, ToSchema)]
struct CompletionFields {
    /// The text, several, or their tokens.
    prompt: Prompts,
    /// The most tokens of an answer; 16 if it is not given, as many as the context holds if it is -1.
    #[serde(default, alias = "n_predict", deserialize_with = "limit")]
    max_tokens: Option<usize>,
    /// Whether the answer repeats the prompt in front.
    #[serde(default, deserialize_with = "or_default")]
    echo: bool,
    /// How many of the most likely tokens to give with each token, and its own log probability.
    logprobs: Option<usize>,
    /// Must be what `n` is: the best of more answers is not looked for.
    best_of: Option<usize>,
    /// Not supported.
    suffix: Option<String>,
}

/// A text completion request.
#[derive(ToSchema)]
#[allow(dead_code)] // its parts are read one by one; this is for the document
struct CompletionRequest {
    #[schema(inline)]
    #[serde(flatten)]
    completion: CompletionFields,
    #[schema(inline)]
    #[serde(flatten)]
    structure: StructureFields,
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// Prompts in any of OpenAI's forms.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Prompts {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// The tokens of a text.
    Tokens(Vec<TokenId>),
    /// The tokens of several.
    ManyTokens(Vec<Vec<TokenId>>),
}

/// Continue a text
///
/// Names of control tokens in the text become those tokens. The answer has the shape of OpenAI's `text_completion`.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "Generation",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answer, or a stream of its pieces", body = Object),
        BodyErrors,
        GenerationErrors,
    )
)]
pub(super) async fn complete(
    extract::State(state): Shared,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(received): Extension<Received>,
    request: Request,
) -> Result<Response, ApiError> {
    let bytes = body::read(&state.options, request).await?;
    let (answers, replies) = blocking(move || {
        let (order, style) = read_request(&state, &tenant, &bytes)?;
        let answers = state.answer(&order, &received)?;
        Ok((answers, Replies::new(state, style)))
    })
    .await?;
    if replies.style.delivery.is_stream {
        Ok(stream::respond(answers, replies))
    } else {
        gather(answers, replies).await
    }
}

/// What the answer is to look like.
struct Style {
    delivery: Delivery,
    has_logprobs: bool,
    /// Answers to each prompt.
    choices: usize,
    /// What stands in front of the answers to each prompt.
    echoes: Vec<String>,
}

fn read_request(state: &State, tenant: &str, bytes: &[u8]) -> Result<(Order, Style), ApiError> {
    if state.options.log_prompts {
        tracing::info!(tenant, request = %String::from_utf8_lossy(bytes), "completion");
    }
    let mut fields = Fields::parse(bytes)?;
    let completion: CompletionFields = fields.part()?;
    let structure: StructureFields = fields.part()?;
    let sampling: SamplingFields = fields.part()?;
    fields.refuse_unknown()?;
    check_model(state, sampling.model.as_deref())?;
    let choices = sampling.choices()?;
    if completion.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        let message =
            "suffix is not supported; write the model's own fill-in-the-middle tokens into the prompt";
        return Err(ApiError::unsupported("suffix", message));
    }
    if completion.best_of.is_some_and(|best_of| best_of != choices) {
        return Err(ApiError::unsupported("best_of", "best_of is supported where it equals n only"));
    }
    let logprobs = completion.logprobs.map(|count| logprobs::check_top("logprobs", count)).transpose()?;
    if completion.echo && logprobs.is_some() {
        let message = "echo and logprobs cannot be used together: a prompt has no log probabilities here";
        return Err(ApiError::unsupported("echo", message));
    }
    let tokenizer = state.model.prompts.tokenizer();
    let vocabulary_size = tokenizer.vocabulary_size();
    let prompts = completion.prompt.read(state)?;
    let asked = completion.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let mut max_tokens = asked;
    for prompt in &prompts {
        max_tokens = max_tokens.min(state.max_tokens(prompt.len(), Some(asked), "prompt")?);
        if let Some(unknown) = prompt.iter().find(|&&token| token as usize >= vocabulary_size) {
            let message = format!("prompt: {unknown} is no token id; there are 0 to {}", vocabulary_size - 1);
            return Err(ApiError::invalid("prompt", message));
        }
    }
    let echo = |prompt: &Vec<TokenId>| tokenizer.decode(prompt, DecodeOptions::default());
    let style = Style {
        delivery: sampling.delivery(),
        has_logprobs: logprobs.is_some(),
        choices,
        echoes: if completion.echo {
            prompts.iter().map(echo).collect()
        } else {
            vec![String::new(); prompts.len()]
        },
    };
    let constraint = structure.follower(&state.grammars)?.map(|(_, follower)| follower);
    let order = Order { logprobs, constraint, ..sampling.order(state, tenant, prompts, max_tokens)? };
    Ok((order, style))
}

impl Prompts {
    fn read(self, state: &State) -> Result<Vec<Vec<TokenId>>, ApiError> {
        let encode = |text: String| {
            let tokens = state.model.prompts.encode_text(&text);
            tokens.map_err(|error| ApiError::invalid("prompt", error.to_string()))
        };
        let prompts = match self {
            Self::Text(text) => vec![encode(text)?],
            Self::Texts(texts) => texts.into_iter().map(encode).collect::<Result<_, _>>()?,
            Self::Tokens(tokens) => vec![tokens],
            Self::ManyTokens(prompts) => prompts,
        };
        if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
            let message = format!("prompt: 1 to {MAX_PROMPTS} prompts, not {}", prompts.len());
            return Err(ApiError::invalid("prompt", message));
        }
        Ok(prompts)
    }
}

/// The answers as they come, for a stream or a whole.
struct Replies {
    state: Arc<State>,
    style: Style,
    id: String,
    created: u64,
    choices: Vec<Choice>,
    usage: Usage,
}

/// One answer.
#[derive(Default)]
struct Choice {
    text: String,
    logprobs: TextLogprobs,
    finish_reason: Option<&'static str>,
}

impl Replies {
    fn new(state: Arc<State>, style: Style) -> Self {
        let answers = style.echoes.len() * style.choices;
        let (id, created) = (ids::new_id("cmpl-"), ids::unix_seconds());
        let choices = (0..answers).map(|_| Choice::default()).collect();
        Self { state, style, id, created, choices, usage: Usage::default() }
    }

    fn object(&self, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.state.model_name(),
            "system_fingerprint": null,
            "choices": choices,
        })
    }

    fn piece(&self, index: usize, text: &str, logprobs: &Value, finish_reason: Option<&str>) -> Value {
        self.object(&json!([{
            "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason,
        }]))
    }

    /// Takes the tokens of a forward pass and returns their text.
    fn take_step(&mut self, index: usize, step: &Step) -> String {
        let tokenizer = self.state.model.prompts.tokenizer();
        let choice = &mut self.choices[index];
        for token in &step.tokens {
            choice.logprobs.push(tokenizer, token);
        }
        step.tokens.iter().map(|token| token.text.as_str()).collect()
    }

    /// Log probabilities that were not told yet, if they are asked for.
    fn take_logprobs(&mut self, index: usize) -> Value {
        if self.style.has_logprobs { self.choices[index].logprobs.take() } else { Value::Null }
    }

    fn take_end(&mut self, index: usize, ending: &Ending) -> &'static str {
        self.usage.add(&ending.stats, index.is_multiple_of(self.style.choices), 0);
        let reason = if ending.finish_reason == FinishReason::Length { "length" } else { "stop" };
        self.choices[index].finish_reason = Some(reason);
        reason
    }
}

impl Pieces for Replies {
    fn begin(&mut self) -> Vec<Value> {
        let echo = |index: usize| &self.style.echoes[index / self.style.choices];
        let echoed = (0..self.choices.len()).filter(|&index| !echo(index).is_empty());
        echoed.map(|index| self.piece(index, echo(index), &Value::Null, None)).collect()
    }

    fn next(&mut self, next: Next) -> Vec<Value> {
        match next {
            Next::Step(index, step) => {
                let text = self.take_step(index, &step);
                if text.is_empty() && !self.style.delivery.trace && !self.style.has_logprobs {
                    return Vec::new();
                }
                let logprobs = self.take_logprobs(index);
                let mut piece = self.piece(index, &text, &logprobs, None);
                if self.style.delivery.trace {
                    piece["lookahead"] = json!(Trace::of(&step));
                }
                vec![piece]
            }
            Next::End(index, ending) => {
                let reason = self.take_end(index, &ending);
                vec![self.piece(index, &ending.rest, &Value::Null, Some(reason))]
            }
            Next::Done if self.style.delivery.include_usage => {
                let mut last = self.object(&json!([]));
                last["usage"] = json!(self.usage);
                vec![last]
            }
            Next::Done => Vec::new(),
        }
    }
}

/// The whole answer.
async fn gather(mut answers: Answers, mut replies: Replies) -> Result<Response, ApiError> {
    loop {
        match answers.next().await? {
            Next::Step(index, step) => {
                let text = replies.take_step(index, &step);
                replies.choices[index].text += &text;
            }
            Next::End(index, ending) => {
                replies.take_end(index, &ending);
                replies.choices[index].text += &ending.rest;
            }
            Next::Done => break,
        }
    }
    let choices: Vec<Value> = (0..replies.choices.len())
        .map(|index| {
            let logprobs = replies.take_logprobs(index);
            let choice = &replies.choices[index];
            let text = format!("{}{}", replies.style.echoes[index / replies.style.choices], choice.text);
            json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": choice.finish_reason })
        })
        .collect();
    let mut answer = replies.object(&choices.into());
    answer["usage"] = json!(replies.usage);
    Ok(Json(answer).into_response())
}
