//! `POST /apply-template`

use axum::response::Response;
use lookahead_model::Chat;
use lookahead_model::tokenizer::DecodeOptions;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::conversation::{ChatMessage, ToolFields, read_messages};
use crate::api::extract::Call;
use crate::api::openai::fields::or_default;
use crate::api::tokens;
use crate::api::warnings::Warnings;
use crate::error::{ApiError, BodyErrors, ErrorBody};

/// A conversation to be shown as the model reads it.
#[derive(Debug, Deserialize, ToSchema)]
struct TemplateRequest {
    /// What has been said.
    messages: Vec<ChatMessage>,
    /// Functions that the model may call.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Vec<Value>,
    /// Variables of the model's chat template.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Map<String, Value>,
    /// Whether the prompt ends where an answer begins; true if it is not given.
    add_generation_prompt: Option<bool>,
    /// The model; `/v1/models` lists it.
    model: Option<String>,
}

/// A prompt.
#[derive(Serialize, ToSchema)]
struct TemplatePrompt {
    /// The text, with the names of control tokens.
    prompt: String,
}

/// Show the prompt of a conversation, as llama.cpp's server does
///
/// Sent to `/completion`, it is answered as the conversation is by `/v1/chat/completions`, unless a message has the name of a control
/// token in it: there it is text, and in a prompt a token.
#[utoipa::path(
    post,
    path = "/apply-template",
    tag = "llama.cpp",
    request_body = TemplateRequest,
    responses(
        (status = 200, description = "The prompt", body = TemplatePrompt),
        (status = 404, description = "The model is not served here", body = ErrorBody),
        BodyErrors,
    )
)]
pub(in crate::api) async fn apply(call: Call) -> Result<Response, ApiError> {
    tokens::answer(call, |state, fields| {
        let request: TemplateRequest = fields.part()?;
        let passed_over = fields.refuse_unknown()?;
        let model = state.models.find(request.model.as_deref())?;
        let mut warnings = Warnings::default();
        let (tools, _) = ToolFields::any_of(request.tools).read(&mut warnings)?;
        let chat = Chat {
            messages: read_messages(request.messages, &mut warnings)?,
            tools,
            variables: request.chat_template_kwargs,
            add_generation_prompt: request.add_generation_prompt.unwrap_or(true),
            continue_final_message: false,
        };
        let tokens = model.prompts.encode_chat(&chat)?;
        let options = DecodeOptions { show_special: true, continuation: false };
        Ok((TemplatePrompt { prompt: model.tokenizer().decode(&tokens, options) }, passed_over))
    })
    .await
}
