//! Answers as `chat.completion` and `chat.completion.chunk`s.

use std::mem;
use std::sync::Arc;

use axum::response::sse::Event;
use serde_json::{Value, json};

use super::events::{done, event, failed, trace};
use super::fields::Delivery;
use super::logprobs::keep_top;
use super::prompt_logprobs::PromptLogprobs;
use super::{logprobs, usage};
use crate::api::delivery::{WholeAnswer, Wire};
use crate::error::ApiError;
use crate::generation::{AnswerEvent, Delta, EndReason, Usage};
use crate::ids;
use crate::served::Served;
use crate::worker::AnswerToken;

/// Writes the answers to a chat.
pub(super) struct ChatWire {
    model: Arc<Served>,
    delivery: Delivery,
    /// How many of the most likely tokens are told with each token, if that is.
    logprobs: Option<usize>,
    /// What is told of the prompt's tokens, and how many of them come before those of an answer.
    of_prompt: Option<(PromptLogprobs, usize)>,
    /// Whether calls are told in OpenAI's older form, one an answer.
    has_older_calls: bool,
    id: String,
    created: u64,
    /// Calls in each answer until now.
    calls: Vec<usize>,
}

impl ChatWire {
    /// Of so many answers.
    pub(super) fn new(
        model: Arc<Served>,
        delivery: Delivery,
        logprobs: Option<usize>,
        of_prompt: Option<(PromptLogprobs, usize)>,
        has_older_calls: bool,
        answers: usize,
    ) -> Self {
        let (id, created) = (ids::new_id("chatcmpl-"), ids::unix_seconds());
        Self { model, delivery, logprobs, of_prompt, has_older_calls, id, created, calls: vec![0; answers] }
    }

    fn object(&self, kind: &str, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model.name(),
            "system_fingerprint": null,
            "choices": choices,
        })
    }

    /// A chunk of the stream. A usage that is asked for is null until it is known.
    fn chunk(&self, choices: &[Value]) -> Value {
        let mut chunk = self.object("chat.completion.chunk", choices);
        if self.delivery.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, answer: usize, delta: &Value, finish_reason: Option<&str>) -> Value {
        let choice = json!({
            "index": answer, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
        });
        self.chunk(&[choice])
    }

    /// The chunks of pieces of an answer.
    fn deltas(&mut self, answer: usize, deltas: Vec<Delta>) -> Vec<Value> {
        let mut chunks = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let delta = match delta {
                Delta::Text(text) => json!({ "content": text }),
                // vLLM's name and DeepSeek's: clients look for one of them.
                Delta::Reasoning(text) => json!({ "reasoning_content": text, "reasoning": text }),
                Delta::Call { name } if self.has_older_calls => {
                    json!({ "function_call": { "name": name, "arguments": "" } })
                }
                Delta::Arguments(text) if self.has_older_calls => {
                    json!({ "function_call": { "arguments": text } })
                }
                Delta::Call { name } => {
                    let mut call = call(&name, "");
                    call["index"] = self.calls[answer].into();
                    self.calls[answer] += 1;
                    json!({ "tool_calls": [call] })
                }
                Delta::Arguments(text) => {
                    let index = self.calls[answer].saturating_sub(1);
                    json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] })
                }
            };
            chunks.push(self.delta(answer, &delta, None));
        }
        chunks
    }

    fn finish_reason(&self, reason: EndReason) -> &'static str {
        match reason {
            EndReason::Stop => "stop",
            EndReason::Length => "length",
            EndReason::ToolCalls if self.has_older_calls => "function_call",
            EndReason::ToolCalls => "tool_calls",
        }
    }

    fn logprobs(&self, tokens: &[AnswerToken]) -> Value {
        if self.logprobs.is_none() {
            return Value::Null;
        }
        let of_token = |token| logprobs::of_chat(self.model.tokenizer(), token);
        json!({ "content": tokens.iter().filter_map(of_token).collect::<Vec<_>>(), "refusal": null })
    }
}

fn call(name: &str, arguments: &str) -> Value {
    json!({
        "id": ids::new_id("call_"),
        "type": "function",
        "function": { "name": name, "arguments": arguments },
    })
}

impl Wire for ChatWire {
    type Piece = Event;

    fn begin(&mut self) -> Vec<Event> {
        let first = |answer| self.delta(answer, &json!({ "role": "assistant", "content": "" }), None);
        (0..self.calls.len()).map(|answer| event(&first(answer))).collect()
    }

    fn next(&mut self, next: AnswerEvent) -> Vec<Event> {
        let chunks = match next {
            AnswerEvent::Step { answer, deltas, tokens, drafted } => {
                let mut chunks = self.deltas(answer, deltas);
                if chunks.is_empty() && (self.delivery.trace || self.logprobs.is_some()) {
                    chunks.push(self.delta(answer, &json!({}), None)); // its tokens are told all the same
                }
                if let Some(first) = chunks.first_mut() {
                    first["choices"][0]["logprobs"] = self.logprobs(&tokens);
                    if self.delivery.trace {
                        first["lookahead"] = trace(&tokens, drafted);
                    }
                }
                chunks
            }
            AnswerEvent::End { answer, deltas, reason, .. } => {
                let mut chunks = self.deltas(answer, deltas);
                chunks.push(self.delta(answer, &json!({}), Some(self.finish_reason(reason))));
                chunks
            }
            AnswerEvent::Done(usage) => {
                let mut events = Vec::new();
                if self.delivery.include_usage {
                    let mut last = self.chunk(&[]);
                    last["usage"] = usage::object(&usage);
                    events.push(event(&last));
                }
                events.push(done());
                return events;
            }
        };
        chunks.iter().map(event).collect()
    }

    fn fail(&mut self, error: ApiError) -> Vec<Event> {
        failed(error)
    }

    fn whole(self, mut answers: Vec<WholeAnswer>, usage: &Usage) -> Value {
        let mut prompt_logprobs = None;
        if let Some((asked, dictated)) = self.of_prompt {
            for answer in &mut answers {
                let tokens = answer.tokens.split_off(dictated.min(answer.tokens.len()));
                let of_prompt = mem::replace(&mut answer.tokens, tokens);
                prompt_logprobs.get_or_insert_with(|| asked.list(self.model.tokenizer(), &of_prompt));
                keep_top(&mut answer.tokens, self.logprobs.unwrap_or(0));
            }
        }
        let choice = |(index, answer): (usize, WholeAnswer)| {
            // A message that calls functions and says nothing has no content.
            let has_content = !answer.text.is_empty() || answer.calls.is_empty();
            let content = has_content.then_some(answer.text);
            let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
            if !answer.reasoning.is_empty() {
                message["reasoning_content"] = answer.reasoning.as_str().into();
                message["reasoning"] = answer.reasoning.into();
            }
            if let Some((name, arguments)) = answer.calls.first().filter(|_| self.has_older_calls) {
                message["function_call"] = json!({ "name": name, "arguments": arguments });
            } else if !answer.calls.is_empty() {
                let calls = answer.calls.iter().map(|(name, arguments)| call(name, arguments));
                message["tool_calls"] = calls.collect();
            }
            json!({
                "index": index,
                "message": message,
                "logprobs": self.logprobs(&answer.tokens),
                "finish_reason": answer.reason.map(|reason| self.finish_reason(reason)),
            })
        };
        let choices: Vec<Value> = answers.into_iter().enumerate().map(choice).collect();
        let mut object = self.object("chat.completion", &choices);
        object["usage"] = usage::object(usage);
        if let Some(list) = prompt_logprobs {
            object["prompt_logprobs"] = list;
        }
        object
    }
}
