//! `POST /v1/chat/completions`

use std::sync::Arc;

use axum::extract::{self, Extension, Request};
use axum::response::Response;
use lookahead_model::Chat;
use lookahead_model::chat_template::Message;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::chat_wire::ChatWire;
use super::fields::{Content, SamplingFields, limit, or_default};
use super::structure::StructureFields;
use super::{logprobs, tools};
use crate::api::body::Fields;
use crate::api::delivery::{self, Translated};
use crate::api::extract::{Shared, Tenant};
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::generation::{AnswerRequest, Answers, Input};
use crate::state::State;
use crate::worker::Received;

/// A chat to be continued.
#[derive(Debug, Deserialize, ToSchema)]
struct ChatFields {
    /// What has been said.
    messages: Vec<ChatMessage>,
    /// The older name of `max_completion_tokens`.
    #[serde(default, alias = "n_predict", deserialize_with = "limit")]
    max_tokens: Option<usize>,
    /// The most tokens of an answer; as many as the context holds where it is -1 or not given.
    #[serde(default, deserialize_with = "limit")]
    max_completion_tokens: Option<usize>,
    /// Whether each token comes with its log probability.
    #[serde(default, deserialize_with = "or_default")]
    logprobs: bool,
    /// How many of the most likely tokens to give with each token, 0 to 20; wants `logprobs`.
    top_logprobs: Option<usize>,
    /// Functions that the model may call.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
    /// `none`, `auto`, `required`, or a function: `{"type": "function", "function": {"name": …}}`.
    #[schema(value_type = Option<Object>)]
    tool_choice: Option<Value>,
    /// Whether several functions may be called at once.
    parallel_tool_calls: Option<bool>,
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
    structure: StructureFields,
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// What someone says.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct ChatMessage {
    /// `system` (or `developer`), `user`, `assistant` or `tool`.
    role: String,
    /// What they say.
    content: Option<Content>,
    /// What the assistant thought before.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    /// Who it is, of several with one role.
    name: Option<String>,
    /// Functions that the assistant called.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Vec<Value>>,
    /// The call that a tool answers.
    tool_call_id: Option<String>,
}

/// A text that the answer will largely repeat.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct Prediction {
    /// `content`
    #[serde(rename = "type")]
    kind: String,
    /// The text.
    content: Content,
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
pub(in crate::api) async fn complete(
    extract::State(state): Shared,
    Extension(tenant): Extension<Tenant>,
    Extension(received): Extension<Received>,
    request: Request,
) -> Result<Response, ApiError> {
    delivery::answer(state, tenant, received, request, read).await
}

/// Reads a request.
fn read(
    state: &State,
    tenant: &str,
    body: &[u8],
) -> Result<Translated<impl FnOnce(&Answers) -> ChatWire + Send + use<>>, ApiError> {
    let ChatRequest { chat, structure, sampling } = ChatRequest::parse(body)?;
    let model = Arc::clone(state.models.find(sampling.model.as_deref())?);
    if chat.modalities.iter().flatten().any(|modality| modality != "text") {
        return Err(ApiError::unsupported("modalities", "modalities: this model answers with text only"));
    }
    let top_logprobs = logprobs::check_top("top_logprobs", chat.top_logprobs.unwrap_or(0))?;
    if top_logprobs > 0 && !chat.logprobs {
        return Err(ApiError::invalid("top_logprobs", "top_logprobs wants logprobs to be true"));
    }
    let one_at_a_time = chat.parallel_tool_calls == Some(false);
    let tools = tools::read(chat.tools.unwrap_or_default(), chat.tool_choice.as_ref(), one_at_a_time)?;
    let messages = chat.messages.into_iter().enumerate().map(|(index, message)| message.read(index));
    let (definitions, tools) = tools.unzip();
    let conversation = Chat {
        messages: messages.collect::<Result<_, _>>()?,
        tools: definitions.unwrap_or_default(),
        variables: chat.chat_template_kwargs,
        add_generation_prompt: chat.add_generation_prompt.unwrap_or(true),
        continue_final_message: chat.continue_final_message,
    };
    if conversation.messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
    }
    let request = AnswerRequest {
        max_tokens: chat.max_completion_tokens.or(chat.max_tokens),
        logprobs: chat.logprobs.then_some(top_logprobs),
        structure: structure.read()?,
        prediction: chat.prediction.map(Prediction::read).transpose()?,
        ..sampling.request(&model, tenant, Input::Conversation(Box::new(conversation), tools))?
    };
    let (delivery, has_logprobs) = (sampling.delivery(), chat.logprobs);
    let wire = {
        let model = Arc::clone(&model);
        move |answers: &Answers| ChatWire::new(model, delivery, has_logprobs, answers.count())
    };
    Ok(Translated { model, request, is_stream: delivery.is_stream, wire })
}

impl ChatRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let request = Self { chat: fields.part()?, structure: fields.part()?, sampling: fields.part()? };
        fields.refuse_unknown()?;
        Ok(request)
    }
}

impl ChatMessage {
    fn read(self, index: usize) -> Result<Message, ApiError> {
        let param = format!("messages[{index}]");
        let role = match self.role.as_str() {
            "developer" => "system", // what reasoning models call it
            role @ ("system" | "user" | "assistant" | "tool") => role,
            other => {
                let message = format!(
                    "{param}.role: {other:?} is no role; there are system, developer, user, assistant and tool"
                );
                return Err(ApiError::invalid(format!("{param}.role"), message));
            }
        };
        let tool_calls = self.tool_calls.unwrap_or_default();
        let content = match self.content {
            Some(content) => content.into_text(&format!("{param}.content"))?,
            None if role == "assistant" && !tool_calls.is_empty() => String::new(),
            None => {
                let message = format!("{param}.content is missing");
                return Err(ApiError::invalid(format!("{param}.content"), message));
            }
        };
        let (name, tool_call_id) = (self.name, self.tool_call_id);
        let reasoning = self.reasoning_content;
        Ok(Message { reasoning, name, tool_calls, tool_call_id, ..Message::new(role, content) })
    }
}

impl Prediction {
    fn read(self) -> Result<String, ApiError> {
        if self.kind != "content" {
            let message = format!("prediction.type is {:?}; there is only \"content\"", self.kind);
            return Err(ApiError::invalid("prediction.type", message));
        }
        self.content.into_text("prediction.content")
    }
}
