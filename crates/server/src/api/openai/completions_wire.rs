//! Answers as `text_completion`s.

use std::sync::Arc;

use axum::response::sse::Event;
use lookahead_model::TokenId;
use lookahead_model::tokenizer::DecodeOptions;
use serde_json::{Value, json};

use super::events::{done, event, failed, trace};
use super::fields::Delivery;
use super::logprobs::{TextLogprobs, keep_top};
use super::prompt_logprobs::PromptLogprobs;
use super::usage;
use crate::api::delivery::{WholeAnswer, Wire};
use crate::error::ApiError;
use crate::generation::{AnswerEvent, Delta, EndReason, Usage};
use crate::ids;
use crate::served::Served;
use crate::worker::AnswerToken;

/// Writes the answers to texts.
pub(super) struct CompletionWire {
    model: Arc<Served>,
    delivery: Delivery,
    /// The prompt that stands in front of each answer; empty if none does.
    echoes: Vec<Arc<[TokenId]>>,
    /// Log probabilities of each answer, if they are asked for.
    logprobs: Option<Vec<TextLogprobs>>,
    /// How many of the most likely tokens are told with each.
    top: usize,
    /// What is told of the prompts' tokens, and how many of them come before those of each answer.
    of_prompts: Option<(PromptLogprobs, Vec<usize>)>,
    id: String,
    created: u64,
}

impl CompletionWire {
    /// Of as many answers as there are `echoes`.
    pub(super) fn new(
        model: Arc<Served>,
        delivery: Delivery,
        echoes: Vec<Arc<[TokenId]>>,
        logprobs: Option<usize>,
        of_prompts: Option<(PromptLogprobs, Vec<usize>)>,
    ) -> Self {
        let of_answer = |echo: &Arc<[TokenId]>| TextLogprobs::new(model.tokenizer(), echo);
        let top = logprobs.unwrap_or(0);
        let logprobs = logprobs.map(|_| echoes.iter().map(of_answer).collect());
        let (id, created) = (ids::new_id("cmpl-"), ids::unix_seconds());
        Self { model, delivery, echoes, logprobs, top, of_prompts, id, created }
    }

    /// The text in front of an answer.
    fn echo(&self, answer: usize) -> String {
        self.model.tokenizer().decode(&self.echoes[answer], DecodeOptions::default())
    }

    fn object(&self, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model.name(),
            "system_fingerprint": null,
            "choices": choices,
        })
    }

    fn piece(&self, answer: usize, text: &str, logprobs: &Value, finish_reason: Option<&str>) -> Value {
        let choice = json!({
            "index": answer, "text": text, "logprobs": logprobs, "finish_reason": finish_reason,
        });
        self.object(&[choice])
    }

    /// What is told of the tokens of the prompt, which come before those of an answer; they stay there where they are echoed.
    fn take_of_prompt(&self, answer: usize, tokens: &mut Vec<AnswerToken>) -> Option<Value> {
        let (asked, dictated) = self.of_prompts.as_ref()?;
        let dictated = dictated[answer].min(tokens.len());
        let list = asked.list(self.model.tokenizer(), &tokens[..dictated]);
        if self.echoes[answer].is_empty() {
            tokens.drain(..dictated);
        }
        keep_top(tokens, self.top);
        Some(list)
    }

    /// The log probabilities of an answer's next tokens, if they are asked for.
    fn logprobs_of(&mut self, answer: usize, tokens: &[AnswerToken]) -> Value {
        let Some(logprobs) = &mut self.logprobs else { return Value::Null };
        for token in tokens {
            logprobs[answer].push(self.model.tokenizer(), token);
        }
        logprobs[answer].take()
    }
}

/// The text of pieces: there are no calls in text completions.
fn text_of(deltas: Vec<Delta>) -> String {
    let text = |delta| if let Delta::Text(text) = delta { Some(text) } else { None };
    deltas.into_iter().filter_map(text).collect()
}

fn finish_reason(reason: EndReason) -> &'static str {
    if reason == EndReason::Length { "length" } else { "stop" }
}

impl Wire for CompletionWire {
    type Piece = Event;

    fn begin(&mut self) -> Vec<Event> {
        let echoed = (0..self.echoes.len()).filter(|&answer| !self.echoes[answer].is_empty());
        echoed.map(|answer| event(&self.piece(answer, &self.echo(answer), &Value::Null, None))).collect()
    }

    fn next(&mut self, next: AnswerEvent) -> Vec<Event> {
        match next {
            AnswerEvent::Step { answer, deltas, tokens, drafted } => {
                let text = text_of(deltas);
                if text.is_empty() && !self.delivery.trace && self.logprobs.is_none() {
                    return Vec::new();
                }
                let logprobs = self.logprobs_of(answer, &tokens);
                let mut piece = self.piece(answer, &text, &logprobs, None);
                if self.delivery.trace {
                    piece["lookahead"] = trace(&tokens, drafted);
                }
                vec![event(&piece)]
            }
            AnswerEvent::End { answer, deltas, reason, .. } => {
                let reason = Some(finish_reason(reason));
                vec![event(&self.piece(answer, &text_of(deltas), &Value::Null, reason))]
            }
            AnswerEvent::Done(usage) => {
                let mut events = Vec::new();
                if self.delivery.include_usage {
                    let mut last = self.object(&[]);
                    last["usage"] = usage::object(&usage);
                    events.push(event(&last));
                }
                events.push(done());
                events
            }
        }
    }

    fn fail(&mut self, error: ApiError) -> Vec<Event> {
        failed(error)
    }

    fn whole(mut self, answers: Vec<WholeAnswer>, usage: &Usage) -> Value {
        let mut choices = Vec::with_capacity(answers.len());
        for (index, mut answer) in answers.into_iter().enumerate() {
            let of_prompt = self.take_of_prompt(index, &mut answer.tokens);
            let mut choice = json!({
                "index": index,
                "text": self.echo(index) + &answer.text,
                "logprobs": self.logprobs_of(index, &answer.tokens),
                "finish_reason": answer.reason.map(finish_reason),
            });
            if let Some(list) = of_prompt {
                choice["prompt_logprobs"] = list;
            }
            choices.push(choice);
        }
        let mut object = self.object(&choices);
        object["usage"] = usage::object(usage);
        object
    }
}
