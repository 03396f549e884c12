//! Answers as responses, whole and in numbered events.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::sse::Event;
use lookahead_model::chat_template::Message;
use serde_json::{Value, json};

use super::input::Items;
use super::output::Item;
use crate::api::delivery::{WholeAnswer, Wire};
use crate::api::openai::{logprobs, usage};
use crate::api::warnings::Warnings;
use crate::error::ApiError;
use crate::generation::{AnswerEvent, Delta, EndReason, Usage};
use crate::ids;
use crate::served::Served;
use crate::stored_responses::{StoredResponse, StoredResponses, bytes_of};
use crate::worker::AnswerToken;

/// Writes an answer.
pub(super) struct ResponsesWire {
    model: Arc<Served>,
    /// The JSON text of the response before anything of it has come: as a value it would take many times as much.
    response: String,
    /// Where it is kept once it is complete.
    keeping: Option<Keeping>,
    /// The number of the next event.
    sequence_number: u64,
    /// Items that are complete.
    items: Vec<Value>,
    /// The item that grows.
    open: Option<Item>,
    /// Log probabilities of tokens whose text has not come.
    logprobs: Vec<Value>,
    reason: Option<EndReason>,
}

/// Where a response is kept.
pub(super) struct Keeping {
    stored: Arc<StoredResponses>,
    tenant: String,
    /// What has been said until now.
    conversation: Vec<Message>,
}

impl ResponsesWire {
    pub(super) fn new(model: Arc<Served>, response: String, keeping: Option<Keeping>) -> Self {
        let (items, logprobs) = (Vec::new(), Vec::new());
        Self { model, response, keeping, sequence_number: 0, items, open: None, logprobs, reason: None }
    }

    /// The response as it is now.
    fn object(&self, status: &str) -> Value {
        let mut response: Value = serde_json::from_str(&self.response).unwrap_or_default();
        response["status"] = status.into();
        response["output"] = self.items.as_slice().into();
        response
    }

    /// An event of `fields`.
    fn event(&mut self, kind: &str, fields: Value) -> Event {
        let mut event = json!({ "type": kind, "sequence_number": self.sequence_number });
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        self.sequence_number += 1;
        Event::default().event(kind).data(event.to_string())
    }

    /// An event about the item that is open.
    fn item_event(&mut self, kind: &str, mut fields: Value) -> Event {
        fields["item_id"] = self.open.as_ref().map(Item::id).into();
        fields["output_index"] = self.items.len().into();
        self.event(kind, fields)
    }

    /// Begins an item.
    fn begin_item(&mut self, item: Item, events: &mut Vec<Event>) {
        self.close("completed", events);
        let (begun, part) = (item.begun(), item.part());
        self.open = Some(item);
        let fields = json!({ "output_index": self.items.len(), "item": begun });
        events.push(self.event("response.output_item.added", fields));
        if let Some(part) = part {
            let fields = json!({ "content_index": 0, "part": part });
            events.push(self.item_event("response.content_part.added", fields));
        }
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str, events: &mut Vec<Event>) {
        let Some(item) = &self.open else { return };
        let (kind, done, part, object) = (item.kind(), item.done(), item.part(), item.object(status));
        events.push(self.item_event(&format!("response.{kind}.done"), done));
        if let Some(part) = part {
            let fields = json!({ "content_index": 0, "part": part });
            events.push(self.item_event("response.content_part.done", fields));
        }
        let fields = json!({ "output_index": self.items.len(), "item": object });
        events.push(self.event("response.output_item.done", fields));
        self.items.push(object);
        self.open = None;
    }

    /// More of the item that is open.
    fn grow(&mut self, text: &str, events: &mut Vec<Event>) {
        let Some(item) = &mut self.open else { return };
        let logprobs = if item.is_message() { std::mem::take(&mut self.logprobs) } else { Vec::new() };
        item.push(text, &logprobs);
        let fields = if item.is_message() {
            json!({ "content_index": 0, "delta": text, "logprobs": logprobs })
        } else if item.is_reasoning() {
            json!({ "content_index": 0, "delta": text })
        } else {
            json!({ "delta": text })
        };
        let kind = format!("response.{}.delta", item.kind());
        events.push(self.item_event(&kind, fields));
    }

    /// The events of pieces of the answer.
    fn deltas(&mut self, deltas: Vec<Delta>, events: &mut Vec<Event>) {
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => {
                    if !self.open.as_ref().is_some_and(Item::is_reasoning) {
                        self.begin_item(Item::reasoning(), events);
                    }
                    self.grow(&text, events);
                }
                Delta::Text(text) => {
                    if !self.open.as_ref().is_some_and(Item::is_message) {
                        self.begin_item(Item::message(), events);
                    }
                    self.grow(&text, events);
                }
                Delta::Call { name } => self.begin_item(Item::call(name), events),
                Delta::Arguments(text) => {
                    if self.open.as_ref().is_some_and(Item::is_call) {
                        self.grow(&text, events);
                    }
                }
            }
        }
    }

    /// The end of the answer, of which there is an item at least.
    fn end(&mut self, reason: EndReason, events: &mut Vec<Event>) {
        if self.open.is_none() && self.items.is_empty() {
            self.begin_item(Item::message(), events);
        }
        let is_cut = reason == EndReason::Length;
        self.close(if is_cut { "incomplete" } else { "completed" }, events);
        self.reason = Some(reason);
    }

    /// The response once it is complete. It is kept if it is to be.
    fn complete(&mut self, usage: &Usage) -> Value {
        let is_cut = self.reason == Some(EndReason::Length);
        let mut response = self.object(if is_cut { "incomplete" } else { "completed" });
        if is_cut {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        } else {
            response["completed_at"] = ids::unix_seconds().into();
        }
        response["usage"] = json!({
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": { "cached_tokens": usage.cached_tokens, "cache_write_tokens": 0 },
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "lookahead": usage::lookahead(usage),
        });
        if let Some(keeping) = self.keeping.take() {
            keeping.keep(&response);
        }
        response
    }

    fn logprobs_of(&self, tokens: &[AnswerToken]) -> Vec<Value> {
        tokens.iter().filter_map(|token| logprobs::of_chat(self.model.tokenizer(), token)).collect()
    }
}

impl Keeping {
    /// Among the responses of `tenant`, behind what has been said until now.
    pub(super) fn new(stored: &Arc<StoredResponses>, tenant: &str, mut conversation: Vec<Message>) -> Self {
        conversation.iter_mut().flat_map(|message| &mut message.tool_calls).for_each(as_text);
        Self { stored: Arc::clone(stored), tenant: tenant.to_owned(), conversation }
    }

    /// What the conversation takes.
    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.conversation)
    }

    /// Keeps a response, and the conversation with its output.
    fn keep(self, response: &Value) {
        let output = response["output"].as_array().map_or(&[][..], Vec::as_slice);
        let mut warnings = Warnings::default();
        let mut items = Items::behind(self.conversation, &mut warnings);
        let is_read = output.iter().try_for_each(|item| items.add(item, "output"));
        if let Err(error) = is_read {
            tracing::error!("a response is not kept: {}", error.message());
            return;
        }
        let text = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
        let kept = StoredResponse {
            id: text(response),
            body: response.to_string(),
            item_ids: output.iter().map(text).collect(),
            conversation: items.finish(),
        };
        self.stored.keep(&self.tenant, kept);
    }
}

/// Turns the arguments of a call into their JSON text: a value of many parts takes many times as much.
fn as_text(call: &mut Value) {
    let arguments = &mut call["function"]["arguments"];
    if arguments.is_object() {
        *arguments = arguments.to_string().into();
    }
}

impl Wire for ResponsesWire {
    type Piece = Event;

    fn begin(&mut self) -> Vec<Event> {
        let response = self.object("in_progress");
        let kinds = ["response.created", "response.in_progress"];
        kinds.map(|kind| self.event(kind, json!({ "response": response }))).into()
    }

    fn next(&mut self, next: AnswerEvent) -> Vec<Event> {
        let mut events = Vec::new();
        match next {
            AnswerEvent::Step { deltas, tokens, .. } => {
                self.logprobs.extend(self.logprobs_of(&tokens));
                self.deltas(deltas, &mut events);
            }
            AnswerEvent::End { deltas, reason, .. } => {
                self.deltas(deltas, &mut events);
                self.end(reason, &mut events);
            }
            AnswerEvent::Done(usage) => {
                let response = self.complete(&usage);
                let kind = if response["status"] == "incomplete" { "incomplete" } else { "completed" };
                events.push(self.event(&format!("response.{kind}"), json!({ "response": response })));
            }
        }
        events
    }

    fn fail(&mut self, error: ApiError) -> Vec<Event> {
        let mut response = self.object("failed");
        let code = match error.status() {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded",
            status if status.is_client_error() => "invalid_prompt",
            _ => "server_error",
        };
        response["error"] = json!({ "code": code, "message": error.message() });
        vec![self.event("response.failed", json!({ "response": response }))]
    }

    fn whole(mut self, answers: Vec<WholeAnswer>, usage: &Usage) -> Value {
        let answer = answers.into_iter().next().unwrap_or_default();
        self.logprobs = self.logprobs_of(&answer.tokens);
        let mut deltas = Vec::new();
        deltas.extend((!answer.reasoning.is_empty()).then_some(Delta::Reasoning(answer.reasoning)));
        deltas.extend((!answer.text.is_empty()).then_some(Delta::Text(answer.text)));
        for (name, arguments) in answer.calls {
            deltas.extend([Delta::Call { name }, Delta::Arguments(arguments)]);
        }
        let mut events = Vec::new();
        self.deltas(deltas, &mut events);
        self.end(answer.reason.unwrap_or(EndReason::Stop), &mut events);
        self.complete(usage)
    }
}
