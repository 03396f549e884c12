//! `POST /completion`

use std::sync::Arc;

use axum::response::Response;
use lookahead_model::TokenId;
use serde::Deserialize;
use utoipa::ToSchema;

use super::completion_wire::{Extras, NativeWire};
use crate::api::body::{Fields, PassedOver};
use crate::api::delivery::{self, Translated};
use crate::api::extract::Call;
use crate::api::number::{count, limit};
use crate::api::openai::fields::{SamplingFields, either, or_default};
use crate::api::openai::logprobs::check_top;
use crate::api::openai::structure::StructureFields;
use crate::api::warnings::Warnings;
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::generation::{AnswerRequest, Answers, FieldNames, Input, Prompt};
use crate::state::State;

/// A text to be continued.
#[derive(Debug, Deserialize, ToSchema)]
struct PromptFields {
    /// The text, or its tokens.
    prompt: OnePrompt,
}

/// Fields of both requests.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NativeFields {
    /// The most tokens of an answer; as many as the context holds where it is -1 or not given.
    #[serde(default, deserialize_with = "limit")]
    n_predict: Option<usize>,
    /// OpenAI's name of `n_predict`.
    #[serde(default, deserialize_with = "limit")]
    max_tokens: Option<usize>,
    /// How many of the most likely tokens to give with each token, and its own log probability; 0 for neither.
    #[serde(default, deserialize_with = "count")]
    n_probs: Option<usize>,
    /// Whether the ids of tokens are given.
    #[serde(default, deserialize_with = "or_default")]
    return_tokens: bool,
}

/// A text completion request of llama.cpp's server.
#[derive(ToSchema)]
#[allow(dead_code, reason = "for the document")]
struct NativeCompletionRequest {
    #[schema(inline)]
    #[serde(flatten)]
    prompt: PromptFields,
    #[schema(inline)]
    #[serde(flatten)]
    native: NativeFields,
    #[schema(inline)]
    #[serde(flatten)]
    structure: StructureFields,
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// A prompt in any of llama.cpp's forms.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a text or a list of token ids; /v1/completions takes several prompts"
)]
enum OnePrompt {
    /// A text.
    Text(String),
    /// The tokens of a text.
    Tokens(Vec<TokenId>),
    /// A list with one text.
    Texts([String; 1]),
    /// A list with the tokens of one.
    ManyTokens([Vec<TokenId>; 1]),
}

/// Continue a text, as llama.cpp's server does
///
/// The answer has `content` and `timings`; a stream is of server-sent events, the last of which has `stop`.
#[utoipa::path(
    post,
    path = "/completion",
    tag = "llama.cpp",
    request_body = NativeCompletionRequest,
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
) -> Result<Translated<impl FnOnce(&Answers) -> NativeWire + Send + use<>>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let PromptFields { prompt } = fields.part()?;
    let (request, passed_over) = NativeRequest::read(&mut fields)?;
    let prompt = match prompt {
        OnePrompt::Text(text) | OnePrompt::Texts([text]) => Prompt::Text(text),
        OnePrompt::Tokens(tokens) | OnePrompt::ManyTokens([tokens]) => Prompt::Tokens(tokens),
    };
    request.translate(state, tenant, prompt, passed_over)
}

/// What both requests have besides the prompt.
pub(super) struct NativeRequest {
    native: NativeFields,
    structure: StructureFields,
    sampling: SamplingFields,
}

impl NativeRequest {
    /// Reads the fields that no other part of the request knows.
    pub(super) fn read(fields: &mut Fields) -> Result<(Self, PassedOver), ApiError> {
        let request = Self { native: fields.part()?, structure: fields.part()?, sampling: fields.part()? };
        let passed_over = fields.refuse_unknown()?;
        if request.sampling.n.is_some_and(|n| n != 1) {
            return Err(ApiError::unsupported(
                "n",
                "n: one answer comes in this form; /v1/completions gives several",
            ));
        }
        Ok((request, passed_over))
    }

    pub(super) fn translate(
        self,
        state: &State,
        tenant: &str,
        prompt: Prompt,
        passed_over: PassedOver,
    ) -> Result<Translated<impl FnOnce(&Answers) -> NativeWire + Send + use<>>, ApiError> {
        let Self { native, structure, sampling } = self;
        let model = Arc::clone(state.models.find(sampling.model.as_deref())?);
        let top = check_top("n_probs", native.n_probs.unwrap_or(0))?;
        let max_tokens = either(("n_predict", native.n_predict), ("max_tokens", native.max_tokens))?;
        let is_gap = matches!(prompt, Prompt::Around { .. });
        let asked = sampling.request(&model, tenant, Input::Texts(vec![prompt]))?;
        let names = if is_gap {
            FieldNames { input: "input_prefix", suffix: "input_suffix", ..asked.names }
        } else {
            asked.names
        };
        let request = AnswerRequest {
            names,
            logprobs: (top > 0).then_some(top),
            structure: structure.read()?,
            ..asked
        };
        let request = request.with_max_tokens(max_tokens);
        let extras = Extras { has_probabilities: top > 0, has_tokens: native.return_tokens };
        let wire = {
            let model = Arc::clone(&model);
            move |answers: &Answers| NativeWire::new(model, extras, answers.prompts())
        };
        let (is_stream, warnings) = (sampling.stream, Warnings::default());
        Ok(Translated { model, request, passed_over, is_stream, warnings, wire })
    }
}
