//! Answers as Ollama writes them: lines of JSON, or one object.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::delivery::{Line, WholeAnswer, Wire};
use crate::error::ApiError;
use crate::generation::{AnswerEvent, Delta, EndReason, Usage};

/// Where an answer's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In `message`, of a chat.
    Chat,
    /// In `response`, of a text.
    Text,
}

/// Writes one answer.
pub(super) struct OllamaWire {
    form: Form,
    /// The model, as the client calls it.
    model: String,
    received: Instant,
    /// The call that is being made: its name, and what has come of the JSON text of its arguments.
    call: Option<(String, String)>,
    reason: Option<EndReason>,
}

impl OllamaWire {
    pub(super) fn new(form: Form, model: String, received: Instant) -> Self {
        Self { form, model, received, call: None, reason: None }
    }

    /// A line with a part of the answer.
    fn part(&self, text: &str, thinking: Option<&str>, calls: &[Value]) -> Value {
        let mut line = object(self.form, &self.model, text);
        let place = if self.form == Form::Chat { &mut line["message"] } else { &mut line };
        if let Some(thinking) = thinking {
            place["thinking"] = thinking.into();
        }
        if !calls.is_empty() {
            place["tool_calls"] = calls.into();
        }
        line
    }

    /// The lines of pieces of an answer. Calls are told whole.
    fn lines(&mut self, deltas: Vec<Delta>) -> Vec<Line> {
        let mut lines = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Arguments(text) => {
                    if let Some((_, arguments)) = &mut self.call {
                        *arguments += &text;
                    }
                }
                Delta::Call { name } => {
                    lines.extend(self.end_call());
                    self.call = Some((name, String::new()));
                }
                Delta::Text(text) => {
                    lines.extend(self.end_call());
                    lines.push(Line(self.part(&text, None, &[])));
                }
                Delta::Reasoning(text) => lines.push(Line(self.part("", Some(&text), &[]))),
            }
        }
        lines
    }

    /// The line of the call that has ended.
    fn end_call(&mut self) -> Option<Line> {
        let (name, arguments) = self.call.take()?;
        Some(Line(self.part("", None, &[call(&name, &arguments)?])))
    }

    /// Adds what is known at the end.
    fn finish(&self, mut last: Value, usage: &Usage) -> Value {
        last["done"] = true.into();
        last["done_reason"] = if self.reason == Some(EndReason::Length) { "length" } else { "stop" }.into();
        last["total_duration"] = nanoseconds(self.received.elapsed());
        last["load_duration"] = 0.into(); // the model is there before its requests
        last["prompt_eval_count"] = usage.prompt_tokens.into();
        last["prompt_eval_duration"] = nanoseconds(usage.prefill);
        last["eval_count"] = usage.completion_tokens.into();
        last["eval_duration"] = nanoseconds(usage.decode);
        last
    }
}

/// A line or an object with `text`, which is not the last of its answer.
pub(super) fn object(form: Form, model: &str, text: &str) -> Value {
    let mut line = json!({ "model": model, "created_at": Timestamp::now().to_string() });
    match form {
        Form::Chat => line["message"] = json!({ "role": "assistant", "content": text }),
        Form::Text => line["response"] = text.into(),
    }
    line["done"] = false.into();
    line
}

fn nanoseconds(duration: Duration) -> Value {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).into()
}

/// A call with its arguments as an object. There is none where the answer ended before they did: clients would take half of
/// them for all.
fn call(name: &str, arguments: &str) -> Option<Value> {
    let arguments: Value = serde_json::from_str(arguments).ok()?;
    Some(json!({ "function": { "name": name, "arguments": arguments } }))
}

impl Wire for OllamaWire {
    type Piece = Line;

    fn begin(&mut self) -> Vec<Line> {
        Vec::new()
    }

    fn next(&mut self, next: AnswerEvent) -> Vec<Line> {
        match next {
            AnswerEvent::Step { deltas, .. } => self.lines(deltas),
            AnswerEvent::End { deltas, reason, .. } => {
                let mut lines = self.lines(deltas);
                lines.extend(self.end_call());
                self.reason = Some(reason);
                lines
            }
            AnswerEvent::Done(usage) => vec![Line(self.finish(object(self.form, &self.model, ""), &usage))],
        }
    }

    fn fail(&mut self, error: ApiError) -> Vec<Line> {
        vec![Line(json!({ "error": error.message() }))]
    }

    fn whole(mut self, answers: Vec<WholeAnswer>, usage: &Usage) -> Value {
        let answer = answers.into_iter().next().unwrap_or_default();
        let calls: Vec<Value> =
            answer.calls.iter().filter_map(|(name, arguments)| call(name, arguments)).collect();
        let thinking = Some(answer.reasoning.as_str()).filter(|thinking| !thinking.is_empty());
        self.reason = answer.reason;
        self.finish(self.part(&answer.text, thinking, &calls), usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(deltas: Vec<Delta>) -> AnswerEvent {
        AnswerEvent::Step { answer: 0, deltas, tokens: Vec::new(), drafted: 0 }
    }

    fn call_of(name: &str) -> Delta {
        Delta::Call { name: name.to_owned() }
    }

    /// What the lines of these events say: thinking, text, and names and arguments of calls.
    fn told(events: Vec<AnswerEvent>) -> Vec<Value> {
        let mut wire = OllamaWire::new(Form::Chat, "tiny".to_owned(), Instant::now());
        let lines = events.into_iter().flat_map(|event| wire.next(event)).map(|Line(line)| {
            let message = &line["message"];
            json!([message["thinking"], message["content"], message["tool_calls"][0]["function"]])
        });
        lines.collect()
    }

    #[test]
    fn calls_are_told_whole_behind_thinking_and_text() {
        let pieces = ["{\"on\"", ": true}"].map(|text| step(vec![Delta::Arguments(text.to_owned())]));
        let mut events = vec![
            step(vec![Delta::Reasoning("Hm".to_owned()), Delta::Text("So".to_owned())]),
            step(vec![call_of("light")]),
        ];
        events.extend(pieces);
        events.push(step(vec![call_of("look"), Delta::Arguments("{}".to_owned())]));
        events.push(AnswerEvent::End { answer: 0, deltas: Vec::new(), reason: EndReason::ToolCalls });
        let expected = [
            json!(["Hm", "", null]),
            json!([null, "So", null]),
            json!([null, "", { "name": "light", "arguments": { "on": true } }]),
            json!([null, "", { "name": "look", "arguments": {} }]),
        ];
        assert_eq!(told(events), expected);
    }

    #[test]
    fn a_call_that_is_cut_off_is_not_told() {
        let events = vec![
            step(vec![call_of("light"), Delta::Arguments("{\"on\": tr".to_owned())]),
            AnswerEvent::End { answer: 0, deltas: Vec::new(), reason: EndReason::Length },
        ];
        assert_eq!(told(events), [] as [Value; 0]);
    }
}
