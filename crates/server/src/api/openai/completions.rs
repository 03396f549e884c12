//! `POST /v1/completions`

use std::iter;
use std::sync::Arc;

use axum::response::Response;
use lookahead_model::TokenId;
use serde::Deserialize;
use utoipa::ToSchema;

use super::completions_wire::CompletionWire;
use super::fields::{SamplingFields, either, or_default};
use super::logprobs;
use super::prompt_logprobs::PromptLogprobs;
use super::structure::StructureFields;
use crate::api::body::{Fields, PassedOver};
use crate::api::delivery::{self, Translated};
use crate::api::extract::Call;
use crate::api::number::{count, limit};
use crate::api::warnings::Warnings;
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::generation::{AnswerRequest, Answers, Input, Prompt};
use crate::state::State;

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
    #[serde(default, deserialize_with = "limit")]
    max_tokens: Option<usize>,
    /// llama.cpp's name of `max_tokens`.
    #[serde(default, deserialize_with = "limit")]
    n_predict: Option<usize>,
    /// Whether the answer repeats the prompt in front, with `logprobs` those of its tokens.
    #[serde(default, deserialize_with = "or_default")]
    echo: bool,
    /// How many of the most likely tokens to give with each token, and its own log probability.
    #[serde(default, deserialize_with = "count")]
    logprobs: Option<usize>,
    /// How many of the most likely tokens to give with each token of the prompt, and its own log probability; vLLM's.
    #[serde(default, deserialize_with = "count")]
    prompt_logprobs: Option<usize>,
    /// Must be what `n` is: the best of more answers is not looked for.
    #[serde(default, deserialize_with = "count")]
    best_of: Option<usize>,
    /// A text that the answer leads to: the model fills in what is between, if it was trained for that.
    suffix: Option<String>,
}

/// A text completion request.
#[derive(ToSchema)]
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
#[serde(
    untagged,
    expecting = "expected a text, a list of texts, a list of token ids, or a list of such lists"
)]
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
pub(in crate::api) async fn complete(call: Call) -> Result<Response, ApiError> {
    delivery::answer(call, read).await
}

/// Reads a request.
fn read(
    state: &State,
    tenant: &str,
    body: &[u8],
) -> Result<Translated<impl FnOnce(&Answers) -> CompletionWire + Send + use<>>, ApiError> {
    let (request, passed_over) = CompletionRequest::parse(body)?;
    let CompletionRequest { completion, structure, sampling } = request;
    let model = Arc::clone(state.models.find(sampling.model.as_deref())?);
    let choices = sampling.choices()?;
    if completion.best_of.is_some_and(|best_of| best_of != choices) {
        return Err(ApiError::unsupported("best_of", "best_of is supported where it equals n only"));
    }
    let logprobs = completion.logprobs.map(|count| logprobs::check_top("logprobs", count)).transpose()?;
    let of_prompts = PromptLogprobs::read(completion.prompt_logprobs, sampling.stream)?;
    let max_tokens = either(("max_tokens", completion.max_tokens), ("n_predict", completion.n_predict))?;
    let request = AnswerRequest {
        max_tokens: Some(DEFAULT_MAX_TOKENS),
        logprobs: match of_prompts {
            Some(asked) => Some(asked.with_answers(logprobs)),
            None => logprobs,
        },
        prompt_logprobs: of_prompts.is_some() || completion.echo && logprobs.is_some(),
        structure: structure.read()?,
        ..sampling.request(&model, tenant, Input::Texts(completion.prompt.read(completion.suffix)?))?
    };
    let request = request.with_max_tokens(max_tokens);
    let (delivery, has_echo) = (sampling.delivery(), completion.echo);
    let wire = {
        let model = Arc::clone(&model);
        move |answers: &Answers| {
            let echo = |prompt: &Arc<[TokenId]>| {
                let echo = if has_echo { Arc::clone(prompt) } else { Arc::from([]) };
                iter::repeat_n(echo, choices)
            };
            let echoes = answers.prompts().iter().flat_map(echo).collect();
            let of_prompts = of_prompts
                .map(|asked| (asked, (0..answers.count()).map(|answer| answers.dictated(answer)).collect()));
            CompletionWire::new(model, delivery, echoes, logprobs, of_prompts)
        }
    };
    let (is_stream, warnings) = (delivery.is_stream, Warnings::default());
    Ok(Translated { model, request, passed_over, is_stream, warnings, wire })
}

impl CompletionRequest {
    fn parse(body: &[u8]) -> Result<(Self, PassedOver), ApiError> {
        let mut fields = Fields::parse(body)?;
        let request =
            Self { completion: fields.part()?, structure: fields.part()?, sampling: fields.part()? };
        let passed_over = fields.refuse_unknown()?;
        Ok((request, passed_over))
    }
}

impl Prompts {
    fn read(self, suffix: Option<String>) -> Result<Vec<Prompt>, ApiError> {
        let suffix = suffix.filter(|suffix| !suffix.is_empty());
        let of_text = |text| match &suffix {
            Some(after) => Prompt::Around { files: Vec::new(), before: text, after: after.clone() },
            None => Prompt::Text(text),
        };
        let prompts: Vec<Prompt> = match self {
            Self::Text(text) => vec![of_text(text)],
            Self::Texts(texts) => texts.into_iter().map(of_text).collect(),
            Self::Tokens(_) | Self::ManyTokens(_) if suffix.is_some() => {
                let message = "suffix wants a prompt that is a text; put the model's own tokens between those of the prompt";
                return Err(ApiError::invalid("suffix", message));
            }
            Self::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Self::ManyTokens(prompts) => prompts.into_iter().map(Prompt::Tokens).collect(),
        };
        if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
            let message = format!("prompt: 1 to {MAX_PROMPTS} prompts, not {}", prompts.len());
            return Err(ApiError::invalid("prompt", message));
        }
        Ok(prompts)
    }
}
