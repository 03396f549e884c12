//! `POST /v1/chat/completions`

use std::sync::Arc;

use axum::response::Response;
use lookahead_model::Chat;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::chat_wire::ChatWire;
use super::fields::{SamplingFields, either, or_default};
use super::logprobs;
use super::prompt_logprobs::PromptLogprobs;
use super::reasoning::ReasoningFields;
use super::structure::StructureFields;
use crate::api::body::{Fields, PassedOver};
use crate::api::conversation::{ChatMessage, Said, ToolFields, read_messages};
use crate::api::delivery::{self, Translated};
use crate::api::extract::Call;
use crate::api::number::{count, limit};
use crate::api::warnings::Warnings;
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::generation::{AnswerRequest, Answers, Input};
use crate::state::State;

/// A chat to be continued.
#[derive(Debug, Deserialize, ToSchema)]
struct ChatFields {
    /// What has been said.
    messages: Vec<ChatMessage>,
    /// The older name of `max_completion_tokens`.
    #[serde(default, deserialize_with = "limit")]
    max_tokens: Option<usize>,
    /// llama.cpp's name of `max_tokens`.
    #[serde(default, deserialize_with = "limit")]
    n_predict: Option<usize>,
    /// The most tokens of an answer; as many as the context holds where it is -1 or not given.
    #[serde(default, deserialize_with = "limit")]
    max_completion_tokens: Option<usize>,
    /// Whether each token comes with its log probability.
    #[serde(default, deserialize_with = "or_default")]
    logprobs: bool,
    /// How many of the most likely tokens to give with each token, 0 to 20; wants `logprobs`.
    #[serde(default, deserialize_with = "count")]
    top_logprobs: Option<usize>,
    /// How many of the most likely tokens to give with each token of the prompt, and its own log probability; vLLM's.
    #[serde(default, deserialize_with = "count")]
    prompt_logprobs: Option<usize>,
    /// A text that the answer will largely repeat: its tokens are drafts.
    prediction: Option<Prediction>,
    /// `["text"]` is all there is.
    modalities: Option<Vec<String>>,
    /// Variables of the model's chat template, such as `enable_thinking`, as vLLM's and llama.cpp's.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Map<String, Value>,
    /// Whether the prompt ends where an answer begins; true if it is not given.
    add_generation_prompt: Option<bool>,
    /// Whether the answer goes on with the last message instead.
    #[serde(default, deserialize_with = "or_default")]
    continue_final_message: bool,
}

/// A chat completion request.
#[derive(ToSchema)]
struct ChatRequest {
    #[schema(inline)]
    #[serde(flatten)]
    chat: ChatFields,
    #[schema(inline)]
    #[serde(flatten)]
    tools: ToolFields,
    #[schema(inline)]
    #[serde(flatten)]
    structure: StructureFields,
    #[schema(inline)]
    #[serde(flatten)]
    reasoning: ReasoningFields,
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// A text that the answer will largely repeat.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct Prediction {
    /// `content`
    #[serde(rename = "type")]
    kind: String,
    /// The text.
    #[schema(value_type = Object)]
    content: Value,
}

/// Continue a chat
///
/// The answer has the shape of OpenAI's `chat.completion`, or with `stream` of `chat.completion.chunk`s. `usage.lookahead`
/// tells how many forward passes it took.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "Generation",
    request_body = ChatRequest,
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
) -> Result<Translated<impl FnOnce(&Answers) -> ChatWire + Send + use<>>, ApiError> {
    let (ChatRequest { chat, tools, structure, reasoning, sampling }, passed_over) =
        ChatRequest::parse(body)?;
    let mut warnings = Warnings::default();
    let model = Arc::clone(state.models.find(sampling.model.as_deref())?);
    if chat.modalities.iter().flatten().any(|modality| modality != "text") {
        return Err(ApiError::unsupported("modalities", "modalities: this model answers with text only"));
    }
    let top_logprobs = logprobs::check_top("top_logprobs", chat.top_logprobs.unwrap_or(0))?;
    if top_logprobs > 0 && !chat.logprobs {
        return Err(ApiError::invalid("top_logprobs", "top_logprobs wants logprobs to be true"));
    }
    let prompt_logprobs = PromptLogprobs::read(chat.prompt_logprobs, sampling.stream)?;
    let has_older_calls = tools.is_older_form();
    let (definitions, tools) = tools.read(&mut warnings)?;
    let messages = read_messages(chat.messages, &mut warnings)?;
    let mut variables = chat.chat_template_kwargs;
    let thinking_budget = reasoning.read(&mut variables)?;
    let conversation = Chat {
        messages,
        tools: definitions,
        variables,
        add_generation_prompt: chat.add_generation_prompt.unwrap_or(true),
        continue_final_message: chat.continue_final_message,
    };
    if conversation.messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
    }
    let older = either(("max_tokens", chat.max_tokens), ("n_predict", chat.n_predict))?;
    let max_tokens = chat.max_completion_tokens.map(|most| ("max_completion_tokens", most)).or(older);
    let request = AnswerRequest {
        logprobs: match prompt_logprobs {
            Some(asked) => Some(asked.with_answers(chat.logprobs.then_some(top_logprobs))),
            None => chat.logprobs.then_some(top_logprobs),
        },
        prompt_logprobs: prompt_logprobs.is_some(),
        structure: structure.read()?,
        thinking_budget,
        prediction: chat.prediction.map(Prediction::read).transpose()?,
        ..sampling.request(&model, tenant, Input::Conversation(Box::new(conversation), tools))?
    };
    let request = request.with_max_tokens(max_tokens);
    let delivery = sampling.delivery();
    let logprobs = chat.logprobs.then_some(top_logprobs);
    let wire = {
        let model = Arc::clone(&model);
        move |answers: &Answers| {
            let of_prompt = prompt_logprobs.map(|asked| (asked, answers.dictated(0)));
            ChatWire::new(model, delivery, logprobs, of_prompt, has_older_calls, answers.count())
        }
    };
    let is_stream = delivery.is_stream;
    Ok(Translated { model, request, passed_over, is_stream, warnings, wire })
}

impl ChatRequest {
    fn parse(body: &[u8]) -> Result<(Self, PassedOver), ApiError> {
        let mut fields = Fields::parse(body)?;
        let request = Self {
            chat: fields.part()?,
            tools: fields.part()?,
            structure: fields.part()?,
            reasoning: fields.part()?,
            sampling: fields.part()?,
        };
        let passed_over = fields.refuse_unknown()?;
        Ok((request, passed_over))
    }
}

impl Prediction {
    fn read(self) -> Result<String, ApiError> {
        if self.kind != "content" {
            let message = format!("prediction.type is {:?}; there is only \"content\"", self.kind);
            return Err(ApiError::invalid("prediction.type", message));
        }
        Ok(Said::read(&self.content, "prediction.content")?.text)
    }
}
