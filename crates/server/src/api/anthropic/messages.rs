//! `POST /v1/messages` and `/v1/messages/count_tokens`

use std::sync::Arc;

use axum::response::Response;
use lookahead_model::Chat;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::blocks::{self, Turn};
use super::wire::MessagesWire;
use crate::api::body::{Fields, PassedOver};
use crate::api::conversation::{ToolFields, set_thinking};
use crate::api::delivery::{self, Translated};
use crate::api::extract::Call;
use crate::api::number::{count, limit};
use crate::api::openai::fields::{SamplingFields, or_default, read_stop};
use crate::api::tokens;
use crate::api::warnings::Warnings;
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::generation::{AnswerRequest, Answers, Input, Rule, Structure, Tools};
use crate::state::State;

/// A conversation to be continued, in Anthropic's form.
#[derive(Debug, Deserialize, ToSchema)]
struct MessageFields {
    /// What has been said. The answer goes on with what the assistant said last.
    messages: Vec<Turn>,
    /// What the system says in front: a text, or blocks of it.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    system: Value,
    /// The most tokens of an answer; as many as the context holds where it is more, or not given.
    #[serde(default, deserialize_with = "limit")]
    max_tokens: Option<usize>,
    /// Texts that end an answer.
    stop_sequences: Option<Vec<String>>,
    /// Whether the model thinks first, where its template lets it choose: `{"type": "enabled" | "adaptive" | "disabled"}`.
    thinking: Option<Thinking>,
    /// How much the model thinks (`effort`), and what form its answer has (`format`).
    #[serde(default, deserialize_with = "or_default")]
    output_config: OutputConfig,
    /// The older place of `output_config.format`.
    output_format: Option<OutputFormat>,
    /// Variables of the model's chat template.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Map<String, Value>,
}

/// Fields that are known, and ask for nothing that would change an answer here.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code)] // they are only known
struct HabitualFields {
    /// Passed over: what begins alike is computed once anyway.
    #[schema(value_type = Option<Object>)]
    cache_control: Option<Value>,
    /// Passed over: nothing is cleared out of a conversation.
    #[schema(value_type = Option<Object>)]
    context_management: Option<Value>,
    /// Passed over.
    #[schema(value_type = Option<Object>)]
    diagnostics: Option<Value>,
    /// Passed over.
    inference_geo: Option<String>,
    /// Passed over.
    speed: Option<String>,
    /// Passed over.
    user_profile_id: Option<String>,
    /// Passed over.
    workspace_id: Option<String>,
}

/// Whether the model thinks.
#[derive(Debug, Deserialize, ToSchema)]
struct Thinking {
    /// `enabled`, `adaptive`, `between_tools` or `disabled`.
    #[serde(rename = "type")]
    kind: String,
    /// The most tokens that the model thinks.
    #[serde(default, deserialize_with = "count")]
    budget_tokens: Option<usize>,
}

/// How an answer is to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct OutputConfig {
    /// How much the model thinks: a variable of templates that read it.
    effort: Option<String>,
    /// What form the answer has.
    format: Option<OutputFormat>,
}

/// What form an answer has.
#[derive(Debug, Deserialize, ToSchema)]
struct OutputFormat {
    /// `json_schema`
    #[serde(rename = "type")]
    kind: String,
    /// The schema.
    #[schema(value_type = Object)]
    schema: Option<Value>,
}

/// A request for a message.
#[derive(ToSchema)]
struct MessageRequest {
    #[schema(inline)]
    #[serde(flatten)]
    message: MessageFields,
    #[schema(inline)]
    #[serde(flatten)]
    tools: ToolFields,
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
    #[schema(inline)]
    #[serde(flatten)]
    #[allow(dead_code)] // for the names of its fields
    passed_over: HabitualFields,
}

/// The length of a prompt.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TokenCount {
    /// Tokens of the prompt that the conversation makes.
    input_tokens: usize,
}

/// Continue a conversation in Anthropic's form
///
/// The answer has the shape of Anthropic's `message`, or with `stream` of its events; so have errors. `usage.lookahead` tells how
/// many forward passes it took.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "Generation",
    request_body = MessageRequest,
    responses(
        (status = 200, description = "The answer, or a stream of its events", body = Object),
        BodyErrors,
        GenerationErrors,
    )
)]
pub(in crate::api) async fn create(call: Call) -> Result<Response, ApiError> {
    delivery::answer(call, read).await
}

/// Count the tokens of a conversation in Anthropic's form
#[utoipa::path(
    post,
    path = "/v1/messages/count_tokens",
    tag = "Tokens",
    request_body = MessageRequest,
    responses(
        (status = 200, description = "The tokens of its prompt", body = TokenCount),
        BodyErrors,
        GenerationErrors,
    )
)]
pub(in crate::api) async fn count_tokens(call: Call) -> Result<Response, ApiError> {
    tokens::answer(call, |state, fields| {
        let (MessageRequest { message, tools, sampling, .. }, passed_over) = MessageRequest::of(fields)?;
        let model = state.models.find(sampling.model.as_deref())?;
        let (chat, _) = message.conversation(tools, &mut Warnings::default())?;
        Ok((TokenCount { input_tokens: model.prompts.encode_chat(&chat)?.len() }, passed_over))
    })
    .await
}

/// Reads a request.
fn read(
    state: &State,
    tenant: &str,
    body: &[u8],
) -> Result<Translated<impl FnOnce(&Answers) -> MessagesWire + Send + use<>>, ApiError> {
    let (request, passed_over) = MessageRequest::of(&mut Fields::parse(body)?)?;
    let MessageRequest { mut message, tools, sampling, .. } = request;
    let mut warnings = Warnings::default();
    let model = Arc::clone(state.models.find(sampling.model.as_deref())?);
    sampling.refuse_choices_and_traces()?;
    let max_tokens = message.max_tokens;
    let stop = message.stop_sequences.take().map(|stop| read_stop("stop_sequences", stop)).transpose()?;
    let structure = message.structure()?;
    let thinking_budget = message.thinking.as_ref().and_then(|thinking| thinking.budget_tokens);
    let (chat, tools) = message.conversation(tools, &mut warnings)?;
    let request = sampling.request(&model, tenant, Input::Conversation(Box::new(chat), tools))?;
    let stop = stop.unwrap_or_else(|| request.stop.clone());
    let request = AnswerRequest { max_tokens, stop, structure, thinking_budget, ..request };
    let is_stream = sampling.delivery().is_stream;
    let wire = {
        let model = Arc::clone(&model);
        move |answers: &Answers| {
            MessagesWire::new(model, answers.prompts().iter().map(|prompt| prompt.len()).sum())
        }
    };
    Ok(Translated { model, request, passed_over, is_stream, warnings, wire })
}

impl MessageRequest {
    fn of(fields: &mut Fields) -> Result<(Self, PassedOver), ApiError> {
        let request = Self {
            message: fields.part()?,
            tools: fields.part()?,
            sampling: fields.part()?,
            passed_over: fields.part()?,
        };
        let passed_over = fields.refuse_unknown()?;
        Ok((request, passed_over))
    }
}

impl MessageFields {
    /// The conversation, and the functions of it that may be called.
    fn conversation(
        self,
        tools: ToolFields,
        warnings: &mut Warnings,
    ) -> Result<(Chat, Option<Tools>), ApiError> {
        let (definitions, tools) = tools.read(warnings)?;
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
        }
        let messages = blocks::read(&self.system, &self.messages, warnings)?;
        let mut variables = self.chat_template_kwargs;
        let thinks = self.thinking.map(|thinking| thinking.read()).transpose()?;
        set_thinking(&mut variables, thinks, self.output_config.effort.as_deref(), "output_config.effort")?;
        let continue_final_message = messages.last().is_some_and(|last| {
            last.role == "assistant" && last.tool_calls.is_empty() && !last.content.is_empty()
        });
        let chat = Chat {
            messages,
            tools: definitions,
            variables,
            add_generation_prompt: !continue_final_message,
            continue_final_message,
        };
        Ok((chat, tools))
    }

    /// What form the answer has.
    fn structure(&mut self) -> Result<Option<Structure>, ApiError> {
        let asked = [
            (self.output_config.format.take(), "output_config", "output_config.format"),
            (self.output_format.take(), "output_format", "output_format"),
        ];
        let Some((format, field, param)) =
            asked.into_iter().find_map(|(format, field, param)| Some((format?, field, param)))
        else {
            return Ok(None);
        };
        match (format.kind.as_str(), format.schema) {
            ("json_schema", Some(schema)) => {
                Ok(Some(Structure { field, param, rule: Rule::JsonSchema(schema) }))
            }
            ("json_schema", None) => Err(ApiError::invalid(param, format!("{param}.schema is missing"))),
            (other, _) => {
                let message = format!("{param}.type is {other:?}; there is \"json_schema\"");
                Err(ApiError::invalid(param, message))
            }
        }
    }
}

impl Thinking {
    fn read(&self) -> Result<bool, ApiError> {
        match self.kind.as_str() {
            "enabled" | "adaptive" | "between_tools" => Ok(true),
            "disabled" => Ok(false),
            other => {
                let message = format!(
                    "thinking.type is {other:?}; there are \"enabled\", \"adaptive\" and \"disabled\""
                );
                Err(ApiError::invalid("thinking.type", message))
            }
        }
    }
}
