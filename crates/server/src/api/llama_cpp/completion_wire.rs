//! Answers as llama.cpp's server writes them.

use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use lookahead_model::TokenId;
use serde_json::{Value, json};

use crate::api::delivery::{WholeAnswer, Wire};
use crate::api::openai::logprobs;
use crate::error::ApiError;
use crate::generation::{AnswerEvent, Delta, EndReason, Usage};
use crate::served::Served;
use crate::worker::AnswerToken;

/// What a request asks for besides the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extras {
    /// Log probabilities of tokens.
    pub(super) has_probabilities: bool,
    /// Their ids.
    pub(super) has_tokens: bool,
}

/// Writes one answer.
pub(super) struct NativeWire {
    model: Arc<Served>,
    extras: Extras,
    prompt_tokens: usize,
    /// Tokens until now, and the last of them.
    predicted: usize,
    last: Option<TokenId>,
    reason: Option<EndReason>,
}

impl NativeWire {
    pub(super) fn new(model: Arc<Served>, extras: Extras, prompts: &[Arc<[TokenId]>]) -> Self {
        let prompt_tokens = prompts.iter().map(|prompt| prompt.len()).sum();
        Self { model, extras, prompt_tokens, predicted: 0, last: None, reason: None }
    }

    fn take(&mut self, tokens: &[AnswerToken]) {
        self.predicted += tokens.len();
        self.last = tokens.last().map(|token| token.id).or(self.last);
    }

    /// A piece with a part of the answer.
    fn piece(&self, content: &str, tokens: &[AnswerToken]) -> Value {
        let mut piece = json!({
            "index": 0,
            "content": content,
            "tokens": [],
            "stop": false,
            "id_slot": -1,
            "tokens_predicted": self.predicted,
            "tokens_evaluated": self.prompt_tokens,
        });
        if self.extras.has_tokens {
            piece["tokens"] = tokens.iter().map(|token| token.id).collect();
        }
        if self.extras.has_probabilities {
            piece["completion_probabilities"] =
                tokens.iter().filter_map(|token| self.probabilities(token)).collect();
        }
        piece
    }

    fn probabilities(&self, token: &AnswerToken) -> Option<Value> {
        let mut object = logprobs::of_chat(self.model.tokenizer(), token)?;
        object["id"] = token.id.into();
        let top = token.logprobs.as_ref().map(|logprobs| &*logprobs.top).unwrap_or_default();
        for (index, (id, _)) in top.iter().enumerate() {
            object["top_logprobs"][index]["id"] = (*id).into();
        }
        Some(object)
    }

    /// Adds what is known at the end.
    fn finish(&self, mut piece: Value, usage: &Usage) -> Value {
        let is_end = self.last.is_some_and(|last| self.model.tokenizer().end_of_generation().contains(&last));
        let stop_type = match self.reason {
            Some(EndReason::Length) => "limit",
            _ if is_end => "eos",
            _ => "word",
        };
        let computed = usage.prompt_tokens - usage.cached_tokens;
        piece["stop"] = true.into();
        piece["model"] = self.model.name().into();
        piece["tokens_predicted"] = usage.completion_tokens.into();
        piece["tokens_evaluated"] = usage.prompt_tokens.into();
        piece["tokens_cached"] = (usage.prompt_tokens + usage.completion_tokens).into();
        piece["stop_type"] = stop_type.into();
        piece["truncated"] = false.into();
        piece["timings"] = timings(computed, usage);
        piece
    }
}

/// How long the prompt and the answer took.
fn timings(computed: usize, usage: &Usage) -> Value {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let per_token = |time: Duration, tokens: usize| ms(time) / tokens.max(1) as f64;
    let per_second = |time: Duration, tokens: usize| {
        if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
    };
    json!({
        "cache_n": usage.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": ms(usage.prefill),
        "prompt_per_token_ms": per_token(usage.prefill, computed),
        "prompt_per_second": per_second(usage.prefill, computed),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": ms(usage.decode),
        "predicted_per_token_ms": per_token(usage.decode, usage.completion_tokens),
        "predicted_per_second": per_second(usage.decode, usage.completion_tokens),
        "draft_n": usage.drafted,
        "draft_n_accepted": usage.accepted,
    })
}

fn text_of(deltas: Vec<Delta>) -> String {
    let text = |delta| if let Delta::Text(text) = delta { Some(text) } else { None };
    deltas.into_iter().filter_map(text).collect()
}

fn event(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

impl Wire for NativeWire {
    type Piece = Event;

    fn begin(&mut self) -> Vec<Event> {
        Vec::new()
    }

    fn next(&mut self, next: AnswerEvent) -> Vec<Event> {
        match next {
            AnswerEvent::Step { deltas, tokens, .. } => {
                self.take(&tokens);
                vec![event(&self.piece(&text_of(deltas), &tokens))]
            }
            AnswerEvent::End { deltas, reason, .. } => {
                self.reason = Some(reason);
                let text = text_of(deltas);
                if text.is_empty() { Vec::new() } else { vec![event(&self.piece(&text, &[]))] }
            }
            AnswerEvent::Done(usage) => vec![event(&self.finish(self.piece("", &[]), &usage))],
        }
    }

    fn fail(&mut self, error: ApiError) -> Vec<Event> {
        vec![event(&json!(error.into_body()))]
    }

    fn keeps_tokens(&self) -> bool {
        true
    }

    fn whole(mut self, answers: Vec<WholeAnswer>, usage: &Usage) -> Value {
        let answer = answers.into_iter().next().unwrap_or_default();
        self.take(&answer.tokens);
        self.reason = answer.reason;
        self.finish(self.piece(&answer.text, &answer.tokens), usage)
    }
}
