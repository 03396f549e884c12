//! Answers as Anthropic's messages, whole and in events.

use std::sync::Arc;

use axum::response::sse::Event;
use serde_json::{Value, json};

use super::errors;
use crate::api::delivery::{WholeAnswer, Wire};
use crate::api::openai::usage;
use crate::error::ApiError;
use crate::generation::{AnswerEvent, Delta, EndReason, Usage};
use crate::ids;
use crate::served::Served;

/// What stands for the signature of thinking: clients want one, and send it back; nothing here reads it.
const SIGNATURE: &str = "lookahead";

/// Writes an answer.
pub(super) struct MessagesWire {
    model: Arc<Served>,
    id: String,
    prompt_tokens: usize,
    /// What the block holds that has begun and not ended.
    open: Option<Block>,
    /// The number of the block that is open, or begins next.
    index: usize,
    stop_reason: &'static str,
    stop_string: Option<String>,
}

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Call,
}

impl MessagesWire {
    pub(super) fn new(model: Arc<Served>, prompt_tokens: usize) -> Self {
        let (id, stop_reason) = (ids::new_id("msg_"), "end_turn");
        Self { model, id, prompt_tokens, open: None, index: 0, stop_reason, stop_string: None }
    }

    fn message(&self, content: &[Value], usage: &Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model.name(),
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage,
        })
    }

    /// The events of pieces of the answer.
    fn deltas(&mut self, deltas: Vec<Delta>, events: &mut Vec<Event>) {
        for delta in deltas {
            let (block, begin, piece) = match delta {
                Delta::Text(text) => {
                    (Block::Text, text_block(""), json!({ "type": "text_delta", "text": text }))
                }
                Delta::Reasoning(text) => (
                    Block::Thinking,
                    json!({ "type": "thinking", "thinking": "", "signature": "" }),
                    json!({ "type": "thinking_delta", "thinking": text }),
                ),
                Delta::Call { name } => {
                    self.close(events);
                    self.open(Block::Call, &call_block(&name, &json!({})), events);
                    continue;
                }
                Delta::Arguments(text) => {
                    (Block::Call, Value::Null, json!({ "type": "input_json_delta", "partial_json": text }))
                }
            };
            if self.open != Some(block) {
                self.close(events);
                self.open(block, &begin, events);
            }
            events.push(self.piece(&piece));
        }
    }

    fn open(&mut self, block: Block, begin: &Value, events: &mut Vec<Event>) {
        self.open = Some(block);
        let begin = json!({ "type": "content_block_start", "index": self.index, "content_block": begin });
        events.push(event(&begin));
    }

    fn piece(&self, delta: &Value) -> Event {
        event(&json!({ "type": "content_block_delta", "index": self.index, "delta": delta }))
    }

    /// Ends the block that is open.
    fn close(&mut self, events: &mut Vec<Event>) {
        let Some(block) = self.open.take() else { return };
        if block == Block::Thinking {
            events.push(self.piece(&json!({ "type": "signature_delta", "signature": SIGNATURE })));
        }
        events.push(event(&json!({ "type": "content_block_stop", "index": self.index })));
        self.index += 1;
    }
}

fn event(value: &Value) -> Event {
    Event::default().event(value["type"].as_str().unwrap_or_default()).data(value.to_string())
}

fn text_block(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn call_block(name: &str, input: &Value) -> Value {
    json!({ "type": "tool_use", "id": ids::new_id("toolu_"), "name": name, "input": input })
}

fn stop_reason(reason: Option<EndReason>, stop_string: Option<&str>) -> &'static str {
    match (reason, stop_string) {
        (Some(EndReason::Length), _) => "max_tokens",
        (Some(EndReason::ToolCalls), _) => "tool_use",
        (_, Some(_)) => "stop_sequence",
        (_, None) => "end_turn",
    }
}

/// Tokens that are taken from earlier requests are none of the input.
fn usage_object(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "thinking_tokens": usage.reasoning_tokens },
        "lookahead": usage::lookahead(usage),
    })
}

impl Wire for MessagesWire {
    type Piece = Event;

    fn begin(&mut self) -> Vec<Event> {
        let prompt = Usage { prompt_tokens: self.prompt_tokens, ..Usage::default() };
        let message = self.message(&[], &usage_object(&prompt));
        let begin = json!({ "type": "message_start", "message": message });
        vec![event(&begin), event(&json!({ "type": "ping" }))]
    }

    fn next(&mut self, next: AnswerEvent) -> Vec<Event> {
        let mut events = Vec::new();
        match next {
            AnswerEvent::Step { deltas, .. } => self.deltas(deltas, &mut events),
            AnswerEvent::End { deltas, reason, stop_string, .. } => {
                self.deltas(deltas, &mut events);
                self.close(&mut events);
                self.stop_reason = stop_reason(Some(reason), stop_string.as_deref());
                self.stop_string = stop_string;
            }
            AnswerEvent::Done(usage) => {
                let delta = json!({ "stop_reason": self.stop_reason, "stop_sequence": self.stop_string });
                let end = json!({ "type": "message_delta", "delta": delta, "usage": usage_object(&usage) });
                events.extend([event(&end), event(&json!({ "type": "message_stop" }))]);
            }
        }
        events
    }

    fn fail(&mut self, error: ApiError) -> Vec<Event> {
        vec![event(&errors::body(error.status(), error.message()))]
    }

    fn whole(self, answers: Vec<WholeAnswer>, usage: &Usage) -> Value {
        let answer = answers.into_iter().next().unwrap_or_default();
        let mut content = Vec::new();
        if !answer.reasoning.is_empty() {
            content.push(json!({ "type": "thinking", "thinking": answer.reasoning, "signature": SIGNATURE }));
        }
        if !answer.text.is_empty() {
            content.push(text_block(&answer.text));
        }
        for (name, arguments) in &answer.calls {
            // What was cut off is no object, and the reason says that it was.
            let input = serde_json::from_str(arguments).ok().filter(Value::is_object);
            content.push(call_block(name, &input.unwrap_or_else(|| json!({}))));
        }
        let mut message = self.message(&content, &usage_object(usage));
        message["stop_reason"] = stop_reason(answer.reason, answer.stop_string.as_deref()).into();
        message["stop_sequence"] = answer.stop_string.into();
        message
    }
}
