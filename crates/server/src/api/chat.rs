//! `POST /v1/chat/completions`

use std::sync::Arc;

use axum::extract::{Extension, Request};
use axum::response::{IntoResponse, Response};
use axum::{Json, extract};
use lookahead_engine::FinishReason;
use lookahead_grammar::{Follower, ToolChoice, ToolSpec};
use lookahead_model::chat_template::Message;
use lookahead_model::tokenizer::EncodeOptions;
use lookahead_model::{Chat, TokenId, ToolCallParser, ToolDelta, ToolFormat};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::answers::{Answers, Next, Order, Usage};
use super::body::{self, Fields};
use super::fields::{Content, Delivery, SamplingFields, limit, or_default};
use super::stream::{self, Pieces, Trace};
use super::structure::StructureFields;
use super::{Shared, Tenant, blocking, check_model, logprobs};
use crate::error::{ApiError, BodyErrors, GenerationErrors, grammar_error};
use crate::ids;
use crate::state::State;
use crate::worker::{Ending, Received, Step};

/// Tools of a request, at most.
const MAX_TOOLS: usize = 128;

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
#[allow(dead_code)] // its parts are read one by one; this is for the document
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
        let replies = Replies::new(state, style, answers.prediction_tokens());
        Ok((answers, replies))
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
    logprobs: bool,
    choices: usize,
    tools: Option<ToolFormat>,
}

fn read_request(state: &State, tenant: &str, bytes: &[u8]) -> Result<(Order, Style), ApiError> {
    if state.options.log_prompts {
        tracing::info!(tenant, request = %String::from_utf8_lossy(bytes), "chat");
    }
    let mut fields = Fields::parse(bytes)?;
    let chat: ChatFields = fields.part()?;
    let structure: StructureFields = fields.part()?;
    let sampling: SamplingFields = fields.part()?;
    fields.refuse_unknown()?;
    check_model(state, sampling.model.as_deref())?;
    if chat.modalities.iter().flatten().any(|modality| modality != "text") {
        return Err(ApiError::unsupported("modalities", "modalities: this model answers with text only"));
    }
    let top_logprobs = logprobs::check_top("top_logprobs", chat.top_logprobs.unwrap_or(0))?;
    if top_logprobs > 0 && !chat.logprobs {
        return Err(ApiError::invalid("top_logprobs", "top_logprobs wants logprobs to be true"));
    }

    let tools = Tools::read(&chat)?;
    let messages = chat.messages.iter().cloned().enumerate().map(|(index, message)| message.read(index));
    let template = Chat {
        messages: messages.collect::<Result<_, _>>()?,
        tools: tools.as_ref().map(|tools| tools.definitions.clone()).unwrap_or_default(),
        variables: chat.chat_template_kwargs.clone(),
        add_generation_prompt: chat.add_generation_prompt.unwrap_or(true),
        continue_final_message: chat.continue_final_message,
    };
    if template.messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
    }
    let prompts = &state.model.prompts;
    let prompt = prompts.encode_chat(&template)?;
    let asked = chat.max_completion_tokens.or(chat.max_tokens);
    let max_tokens = state.max_tokens(prompt.len(), asked, "messages")?;
    let style = Style {
        delivery: sampling.delivery(),
        logprobs: chat.logprobs,
        choices: sampling.choices()?,
        tools: tools.is_some().then(|| prompts.tool_format()),
    };
    let order = Order {
        logprobs: chat.logprobs.then_some(top_logprobs),
        prediction: chat.prediction.map(|prediction| prediction.read(state)).transpose()?,
        constraint: constraint(state, &structure, tools.as_ref())?,
        ..sampling.order(state, tenant, vec![prompt], max_tokens)?
    };
    Ok((order, style))
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
        Ok(Message { role: role.to_owned(), content, name, tool_calls, tool_call_id })
    }
}

impl Prediction {
    fn read(self, state: &State) -> Result<Vec<TokenId>, ApiError> {
        if self.kind != "content" {
            let message = format!("prediction.type is {:?}; there is only \"content\"", self.kind);
            return Err(ApiError::invalid("prediction.type", message));
        }
        let text = self.content.into_text("prediction.content")?;
        let tokens = state.model.prompts.tokenizer().encode(&text, EncodeOptions::default());
        tokens.map_err(|error| ApiError::invalid("prediction.content", error.to_string()))
    }
}

/// The functions that may be called.
struct Tools {
    /// As the template shows them.
    definitions: Vec<Value>,
    /// As the grammar needs them.
    specs: Vec<ToolSpec>,
    choice: ToolChoice,
}

impl Tools {
    /// `None` if none may be called.
    fn read(chat: &ChatFields) -> Result<Option<Self>, ApiError> {
        let Some(definitions) = chat.tools.clone().filter(|tools| !tools.is_empty()) else {
            return match &chat.tool_choice {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(choice)) if choice == "none" || choice == "auto" => Ok(None),
                Some(_) => Err(ApiError::invalid("tool_choice", "tool_choice wants tools to choose from")),
            };
        };
        if definitions.len() > MAX_TOOLS {
            let message = format!("tools: up to {MAX_TOOLS}, not {}", definitions.len());
            return Err(ApiError::invalid("tools", message));
        }
        let specs = definitions.iter().enumerate().map(|(index, tool)| {
            let function = &tool["function"];
            let name = function["name"].as_str().filter(|_| tool["type"] == "function");
            let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
                let message = format!(
                    "tools[{index}] is no function with a name: \
                     {{\"type\": \"function\", \"function\": {{\"name\": …, \"parameters\": …}}}}"
                );
                ApiError::invalid(format!("tools[{index}]"), message)
            })?;
            let parameters = function.get("parameters").filter(|schema| !schema.is_null()).cloned();
            Ok(ToolSpec { name: name.to_owned(), parameters })
        });
        let specs: Vec<ToolSpec> = specs.collect::<Result<_, ApiError>>()?;
        let one_at_a_time = chat.parallel_tool_calls == Some(false);
        let (specs, choice) = match &chat.tool_choice {
            None | Some(Value::Null) => (specs, ToolChoice::Auto),
            Some(Value::String(choice)) => match choice.as_str() {
                "none" => return Ok(None),
                "auto" => (specs, ToolChoice::Auto),
                "required" if one_at_a_time => (specs, ToolChoice::One),
                "required" => (specs, ToolChoice::Required),
                other => {
                    let message = format!(
                        "tool_choice is {other:?}; there are \"none\", \"auto\", \"required\" and a function"
                    );
                    return Err(ApiError::invalid("tool_choice", message));
                }
            },
            Some(named) => {
                let name = named["function"]["name"].as_str().unwrap_or_default();
                let spec = specs.into_iter().find(|spec| spec.name == name).ok_or_else(|| {
                    ApiError::invalid("tool_choice", format!("tool_choice: {name:?} is none of the tools"))
                })?;
                (vec![spec], ToolChoice::One)
            }
        };
        Ok(Some(Self { definitions, specs, choice }))
    }
}

/// What limits the answer, if anything.
fn constraint(
    state: &State,
    structure: &StructureFields,
    tools: Option<&Tools>,
) -> Result<Option<Follower>, ApiError> {
    match (structure.follower(&state.grammars)?, tools) {
        (Some((field, _)), Some(_)) => {
            let message = format!(
                "{field} and tools cannot be used together; set tool_choice to \"none\", or leave one of them out"
            );
            Err(ApiError::unsupported(field, message))
        }
        (Some((_, follower)), None) => Ok(Some(follower)),
        (None, Some(Tools { specs, choice, .. })) => {
            let format = state.model.prompts.tool_format();
            state.grammars.tools(specs, format, *choice).map_err(grammar_error("tools")).map(Some)
        }
        (None, None) => Ok(None),
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
    prediction_tokens: usize,
}

/// One answer.
#[derive(Default)]
struct Choice {
    parser: Option<ToolCallParser>,
    content: String,
    calls: Vec<Value>,
    logprobs: Vec<Value>,
    finish_reason: Option<&'static str>,
}

impl Replies {
    fn new(state: Arc<State>, style: Style, prediction_tokens: usize) -> Self {
        let choice = || Choice { parser: style.tools.map(ToolCallParser::new), ..Choice::default() };
        Self {
            choices: (0..style.choices).map(|_| choice()).collect(),
            state,
            style,
            id: ids::new_id("chatcmpl-"),
            created: ids::unix_seconds(),
            usage: Usage::default(),
            prediction_tokens,
        }
    }

    /// A chunk of the stream. A usage that is asked for is null until it is known.
    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.state.model_name(),
            "system_fingerprint": null,
            "choices": choices,
        });
        if self.style.delivery.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, index: usize, delta: &Value, finish_reason: Option<&str>) -> Value {
        self.chunk(&json!([{
            "index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
        }]))
    }

    /// Takes the tokens of a forward pass: the deltas, and their log probabilities.
    fn take_step(&mut self, index: usize, step: &Step) -> (Vec<Value>, Value) {
        let text: String = step.tokens.iter().map(|token| token.text.as_str()).collect();
        let deltas = self.choices[index].push(&text);
        let tokenizer = self.state.model.prompts.tokenizer();
        let logprobs: Vec<Value> =
            step.tokens.iter().filter_map(|token| logprobs::of_chat(tokenizer, token)).collect();
        let of_step =
            if self.style.logprobs { json!({ "content": logprobs, "refusal": null }) } else { Value::Null };
        self.choices[index].logprobs.extend(logprobs);
        (deltas, of_step)
    }

    /// Takes the end of an answer: the last deltas, and why it ended.
    fn take_end(&mut self, index: usize, ending: &Ending) -> (Vec<Value>, &'static str) {
        self.usage.add(&ending.stats, index == 0, self.prediction_tokens);
        let choice = &mut self.choices[index];
        let deltas = choice.finish(&ending.rest);
        let reason = match ending.finish_reason {
            FinishReason::Length => "length",
            _ if !choice.calls.is_empty() => "tool_calls",
            _ => "stop",
        };
        choice.finish_reason = Some(reason);
        (deltas, reason)
    }
}

impl Choice {
    /// The deltas that a piece of text makes.
    fn push(&mut self, text: &str) -> Vec<Value> {
        let deltas = match &mut self.parser {
            Some(parser) => parser.push(text),
            None => vec![ToolDelta::Content(text.to_owned())],
        };
        self.take(deltas)
    }

    fn finish(&mut self, rest: &str) -> Vec<Value> {
        let mut values = self.push(rest);
        if let Some(deltas) = self.parser.as_mut().map(ToolCallParser::finish) {
            values.extend(self.take(deltas));
        }
        values
    }

    fn take(&mut self, deltas: Vec<ToolDelta>) -> Vec<Value> {
        let mut values = Vec::new();
        for delta in deltas {
            match delta {
                ToolDelta::Content(text) if text.is_empty() => {}
                ToolDelta::Content(text) => {
                    self.content += &text;
                    values.push(json!({ "content": text }));
                }
                ToolDelta::Call { name, arguments } => {
                    let call = json!({
                        "id": ids::new_id("call_"),
                        "type": "function",
                        "function": { "name": name, "arguments": arguments },
                    });
                    let mut indexed = json!({ "index": self.calls.len() });
                    if let (Some(to), Some(from)) = (indexed.as_object_mut(), call.as_object()) {
                        to.extend(from.clone());
                    }
                    self.calls.push(call);
                    values.push(json!({ "tool_calls": [indexed] }));
                }
            }
        }
        values
    }
}

impl Pieces for Replies {
    fn begin(&mut self) -> Vec<Value> {
        let first = |index| self.delta(index, &json!({ "role": "assistant", "content": "" }), None);
        (0..self.choices.len()).map(first).collect()
    }

    fn next(&mut self, next: Next) -> Vec<Value> {
        match next {
            Next::Step(index, step) => {
                let (deltas, logprobs) = self.take_step(index, &step);
                let mut pieces: Vec<Value> =
                    deltas.into_iter().map(|delta| self.delta(index, &delta, None)).collect();
                if pieces.is_empty() && (self.style.delivery.trace || self.style.logprobs) {
                    pieces.push(self.delta(index, &json!({}), None)); // its tokens are told all the same
                }
                if let Some(first) = pieces.first_mut() {
                    first["choices"][0]["logprobs"] = logprobs;
                    if self.style.delivery.trace {
                        first["lookahead"] = json!(Trace::of(&step));
                    }
                }
                pieces
            }
            Next::End(index, ending) => {
                let (deltas, reason) = self.take_end(index, &ending);
                let mut pieces: Vec<Value> =
                    deltas.into_iter().map(|delta| self.delta(index, &delta, None)).collect();
                pieces.push(self.delta(index, &json!({}), Some(reason)));
                pieces
            }
            Next::Done if self.style.delivery.include_usage => {
                let mut last = self.chunk(&json!([]));
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
            Next::Step(index, step) => drop(replies.take_step(index, &step)),
            Next::End(index, ending) => drop(replies.take_end(index, &ending)),
            Next::Done => break,
        }
    }
    let Replies { state, style, id, created, choices, usage, .. } = replies;
    let choices: Vec<Value> = choices.into_iter().enumerate().map(|(index, choice)| {
        // A message that calls functions and says nothing has no content.
        let content = if choice.content.is_empty() && !choice.calls.is_empty() {
            Value::Null
        } else {
            choice.content.into()
        };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !choice.calls.is_empty() {
            message["tool_calls"] = choice.calls.into();
        }
        let logprobs =
            if style.logprobs { json!({ "content": choice.logprobs, "refusal": null }) } else { Value::Null };
        json!({
            "index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason,
        })
    }).collect();
    let answer = json!({
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": state.model_name(),
        "system_fingerprint": null,
        "choices": choices,
        "usage": usage,
    });
    Ok(Json(answer).into_response())
}
