//! `POST /v1/responses`

use std::sync::Arc;

use axum::response::Response;
use lookahead_model::Chat;
use lookahead_model::chat_template::Message;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::input::{Items, referenced};
use super::wire::{Keeping, ResponsesWire};
use crate::api::body::{Fields, PassedOver};
use crate::api::conversation::{ToolFields, name_results, set_thinking};
use crate::api::delivery::{self, Translated};
use crate::api::extract::Call;
use crate::api::number::{count, limit};
use crate::api::openai::fields::{SamplingFields, or_default};
use crate::api::openai::logprobs;
use crate::api::openai::reasoning::ReasoningFields;
use crate::api::warnings::Warnings;
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::generation::{AnswerRequest, Answers, FieldNames, Input, Rule, Structure};
use crate::ids;
use crate::state::State;

/// What `include` asks for log probabilities with.
const LOGPROBS: &str = "message.output_text.logprobs";

/// A conversation to be continued, as items.
#[derive(Debug, Deserialize, ToSchema)]
struct ResponseFields {
    /// What is said: a text, or items (`message`, `reasoning`, `function_call`, `function_call_output`, `item_reference`).
    #[serde(default)]
    #[schema(value_type = Object)]
    input: Value,
    /// What the system says in front, in this response only.
    instructions: Option<String>,
    /// The response that this one goes on from; it must be kept.
    previous_response_id: Option<String>,
    /// Whether the response is kept; true if it is not given.
    store: Option<bool>,
    /// The most tokens of the answer; as many as the context holds where it is more, or not given.
    #[serde(default, deserialize_with = "limit")]
    max_output_tokens: Option<usize>,
    /// How much the model thinks (`effort`): a variable of templates that read it.
    #[serde(default, deserialize_with = "or_default")]
    reasoning: Reasoning,
    /// What form the answer has (`format`).
    #[serde(default, deserialize_with = "or_default")]
    text: TextConfig,
    /// What the response tells besides: `message.output_text.logprobs`.
    #[serde(default, deserialize_with = "or_default")]
    include: Vec<String>,
    /// How many of the most likely tokens to give with each token, 0 to 20.
    #[serde(default, deserialize_with = "count")]
    top_logprobs: Option<usize>,
    /// Must be false: a response is made while its client waits.
    #[serde(default, deserialize_with = "or_default")]
    background: bool,
    /// Given back with the response.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Variables of the model's chat template.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Map<String, Value>,
    /// As in the fields of sampling, to be given back.
    temperature: Option<f64>,
    /// The same.
    top_p: Option<f64>,
}

/// Fields that are known, and ask for nothing that would change an answer here.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code)] // they are only known
struct HabitualFields {
    /// Passed over.
    #[schema(value_type = Option<Object>)]
    client_metadata: Option<Value>,
    /// Passed over: no tool runs here.
    max_tool_calls: Option<Value>,
    /// Passed over: what begins alike is computed once anyway.
    #[schema(value_type = Option<Object>)]
    prompt_cache_options: Option<Value>,
    /// Passed over: what does not fit is refused.
    truncation: Option<String>,
}

/// How the model thinks.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct Reasoning {
    /// How much, as the template knows it; `none` is not at all.
    effort: Option<String>,
    /// Passed over: thinking is given as it is.
    summary: Option<String>,
}

/// How an answer is to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct TextConfig {
    /// What form it has: `{"type": "text" | "json_object" | "json_schema", "schema": …}`.
    #[schema(value_type = Option<Object>)]
    format: Option<Value>,
    /// Passed over.
    verbosity: Option<String>,
}

/// A request for a response.
#[derive(ToSchema)]
struct ResponseRequest {
    #[schema(inline)]
    #[serde(flatten)]
    response: ResponseFields,
    #[schema(inline)]
    #[serde(flatten)]
    tools: ToolFields,
    #[schema(inline)]
    #[serde(flatten)]
    reasoning: ReasoningFields,
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
    #[schema(inline)]
    #[serde(flatten)]
    #[allow(dead_code)] // for the names of its fields
    passed_over: HabitualFields,
}

/// Continue a conversation of items
///
/// The answer has the shape of OpenAI's `response`, or with `stream` of its events. It is kept for a while, so that the next
/// request may go on from it (`previous_response_id`), unless `store` is false.
#[utoipa::path(
    post,
    path = "/v1/responses",
    tag = "Generation",
    request_body = ResponseRequest,
    responses(
        (status = 200, description = "The answer, or a stream of its events", body = Object),
        BodyErrors,
        GenerationErrors,
    )
)]
pub(in crate::api) async fn create(call: Call) -> Result<Response, ApiError> {
    delivery::answer(call, read).await
}

/// Reads a request.
fn read(
    state: &State,
    tenant: &str,
    body: &[u8],
) -> Result<Translated<impl FnOnce(&Answers) -> ResponsesWire + Send + use<>>, ApiError> {
    let (request, passed_over) = ResponseRequest::of(&mut Fields::parse(body)?)?;
    let ResponseRequest { response: fields, tools, reasoning, sampling, .. } = request;
    let mut warnings = Warnings::default();
    let model = Arc::clone(state.models.find(sampling.model.as_deref())?);
    sampling.refuse_choices_and_traces()?;
    if fields.background {
        let message =
            "background: a response is made while its client waits; leave it out, and stream the response";
        return Err(ApiError::unsupported("background", message));
    }
    let logprobs = fields.logprobs()?;
    let structure = fields.text.structure()?;
    let response = fields.response(model.name(), tools.written()).to_string();
    let (definitions, tools) = tools.read(&mut warnings)?;
    let said = fields.said(state, tenant, &mut warnings)?;
    let keeping = fields.store.unwrap_or(true);
    let keeping = keeping.then(|| Keeping::new(&state.responses, tenant, said.clone()));
    let instructions = fields.instructions.filter(|text| !text.is_empty());
    let system = instructions.map(|text| Message::new("system", text));
    let mut messages: Vec<Message> = system.into_iter().chain(said).collect();
    if messages.is_empty() {
        return Err(ApiError::invalid("input", "input is empty: there is nothing to answer"));
    }
    name_results(&mut messages);
    let mut variables = fields.chat_template_kwargs;
    set_thinking(&mut variables, None, fields.reasoning.effort.as_deref(), "reasoning.effort")?;
    let thinking_budget = reasoning.read(&mut variables)?;
    let conversation = Chat {
        messages,
        tools: definitions,
        variables,
        add_generation_prompt: true,
        continue_final_message: false,
    };
    let request = AnswerRequest {
        max_tokens: fields.max_output_tokens,
        names: FieldNames { input: "input", suffix: "suffix", max_tokens: "max_output_tokens" },
        logprobs,
        structure,
        thinking_budget,
        kept_bytes: response.len() + keeping.as_ref().map_or(0, Keeping::bytes),
        ..sampling.request(&model, tenant, Input::Conversation(Box::new(conversation), tools))?
    };
    let is_stream = sampling.delivery().is_stream;
    let wire = {
        let model = Arc::clone(&model);
        move |_: &Answers| ResponsesWire::new(model, response, keeping)
    };
    Ok(Translated { model, request, passed_over, is_stream, warnings, wire })
}

impl ResponseRequest {
    fn of(fields: &mut Fields) -> Result<(Self, PassedOver), ApiError> {
        let request = Self {
            response: fields.part()?,
            tools: fields.part()?,
            reasoning: fields.part()?,
            sampling: fields.part()?,
            passed_over: fields.part()?,
        };
        let passed_over = fields.refuse_unknown()?;
        Ok((request, passed_over))
    }
}

impl ResponseFields {
    /// What has been said, in the responses that this one goes on from and in its input.
    fn said(&self, state: &State, tenant: &str, warnings: &mut Warnings) -> Result<Vec<Message>, ApiError> {
        let before = match self.previous_response_id.as_deref() {
            None => Vec::new(),
            Some(id) => {
                let previous = state.responses.find(tenant, id).ok_or_else(|| {
                    let message = format!(
                        "previous_response_id: the response {id:?} is not kept here (any more); send the conversation as input"
                    );
                    ApiError::invalid("previous_response_id", message)
                })?;
                previous.conversation.clone()
            }
        };
        let mut items = Items::behind(before, warnings);
        items.add_input(&self.input, &referenced(&self.input, tenant, &state.responses))?;
        Ok(items.finish())
    }

    /// How many of the most likely tokens are told with each; `None` where nothing of that is.
    fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        let top = logprobs::check_top("top_logprobs", self.top_logprobs.unwrap_or(0))?;
        Ok((top > 0 || self.include.iter().any(|name| name == LOGPROBS)).then_some(top))
    }

    /// The response before anything of it has come: what was asked for.
    fn response(&self, model: &str, tools: Map<String, Value>) -> Value {
        let format = self.text.format.clone().unwrap_or_else(|| json!({ "type": "text" }));
        let mut response = json!({
            "id": ids::new_id("resp_"),
            "object": "response",
            "created_at": ids::unix_seconds(),
            "status": "in_progress",
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens.filter(|&tokens| tokens < usize::MAX),
            "metadata": self.metadata.clone().unwrap_or_else(|| json!({})),
            "model": model,
            "output": [],
            "previous_response_id": self.previous_response_id,
            "reasoning": { "effort": self.reasoning.effort, "summary": self.reasoning.summary },
            "store": self.store.unwrap_or(true),
            "temperature": self.temperature.unwrap_or(1.0),
            "text": { "format": format, "verbosity": self.text.verbosity },
            "top_logprobs": self.top_logprobs.unwrap_or(0),
            "top_p": self.top_p.unwrap_or(1.0),
            "truncation": "disabled",
            "usage": null,
        });
        if let Value::Object(response) = &mut response {
            response.extend(tools);
        }
        response
    }
}

impl TextConfig {
    fn structure(&self) -> Result<Option<Structure>, ApiError> {
        let Some(format) = &self.format else { return Ok(None) };
        let param = "text.format";
        let rule = match (format["type"].as_str().unwrap_or_default(), &format["schema"]) {
            ("text", _) => return Ok(None),
            ("json_object", _) => Rule::AnyJsonObject,
            ("json_schema", Value::Null) => {
                return Err(ApiError::invalid("text.format.schema", "text.format.schema is missing"));
            }
            ("json_schema", schema) => Rule::JsonSchema(schema.clone()),
            (other, _) => {
                let message = format!(
                    "text.format.type is {other:?}; there are \"text\", \"json_object\" and \"json_schema\""
                );
                return Err(ApiError::invalid("text.format.type", message));
            }
        };
        Ok(Some(Structure { field: param, param, rule }))
    }
}
