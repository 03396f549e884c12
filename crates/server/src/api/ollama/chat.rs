//! `POST /api/chat`

use axum::response::Response;
use lookahead_model::Chat;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::conversation::{self, OllamaMessage};
use super::errors::OllamaErrors;
use super::options::SharedFields;
use super::wire::{Form, OllamaWire, object};
use crate::api::body::Fields;
use crate::api::conversation::ToolFields;
use crate::api::delivery::{self, Outcome, Translated};
use crate::api::extract::Call;
use crate::api::openai::fields::or_default;
use crate::api::warnings::Warnings;
use crate::error::ApiError;
use crate::generation::{AnswerRequest, Answers, Input};
use crate::state::State;

/// A chat to be continued.
#[derive(Debug, Deserialize, ToSchema)]
struct ChatFields {
    /// What has been said; where it is empty, there is nothing to do but to say that the model is there.
    #[serde(default, deserialize_with = "or_default")]
    messages: Vec<OllamaMessage>,
    /// Functions that the model may call, as in OpenAI's API.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Vec<Value>,
}

/// A chat request of Ollama's API.
#[derive(ToSchema)]
#[allow(dead_code, reason = "for the document")]
struct OllamaChatRequest {
    #[schema(inline)]
    #[serde(flatten)]
    chat: ChatFields,
    #[schema(inline)]
    #[serde(flatten)]
    shared: SharedFields,
}

/// Continue a chat, as Ollama does
///
/// The answer comes as lines of JSON, the last with `done` and the counts; with `stream` false as one object. Calls of functions
/// are told whole.
#[utoipa::path(
    post,
    path = "/api/chat",
    tag = "Ollama",
    request_body = OllamaChatRequest,
    responses(
        (status = 200, description = "The answer, or a stream of its pieces", body = Object),
        OllamaErrors,
    )
)]
pub(in crate::api) async fn complete(call: Call) -> Result<Response, ApiError> {
    delivery::answer_any(call, read).await
}

/// Reads a request.
fn read(
    state: &State,
    tenant: &str,
    body: &[u8],
) -> Result<Outcome<impl FnOnce(&Answers) -> OllamaWire + Send + use<>>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let (chat, shared): (ChatFields, SharedFields) = (fields.part()?, fields.part()?);
    let mut passed_over = fields.refuse_unknown()?;
    let shared = shared.read(state)?;
    passed_over.join(shared.passed_over);
    if chat.messages.is_empty() {
        let mut loaded = object(Form::Chat, &shared.name, "");
        (loaded["done"], loaded["done_reason"]) = (true.into(), "load".into());
        return Ok(Outcome::Object(loaded));
    }
    let mut warnings = Warnings::default();
    let (definitions, tools) = ToolFields::any_of(chat.tools).read(&mut warnings)?;
    let conversation = Chat {
        messages: conversation::read(chat.messages, &mut warnings)?,
        tools: definitions,
        variables: shared.variables,
        add_generation_prompt: true,
        continue_final_message: false,
    };
    let input = Input::Conversation(Box::new(conversation), tools);
    let request = AnswerRequest {
        structure: shared.structure,
        ..shared.sampling.request(&shared.model, tenant, input)?
    };
    let request = request.with_max_tokens(shared.max_tokens);
    let name = shared.name;
    let wire = move |answers: &Answers| OllamaWire::new(Form::Chat, name, answers.received());
    let is_stream = shared.is_stream;
    let model = shared.model;
    Ok(Outcome::Answer(Box::new(Translated { model, request, passed_over, is_stream, warnings, wire })))
}
