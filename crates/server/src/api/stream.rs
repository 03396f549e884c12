//! Server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::{Answers, Next};
use crate::error::ApiError;
use crate::metrics::source_name;
use crate::worker::{AnswerToken, Step};

/// Where the tokens of a piece of an answer came from.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trace {
    /// Tokens that were drafted for the forward pass.
    drafted: u64,
    /// Of those, the ones that the model accepted.
    accepted: usize,
    tokens: Vec<TraceToken>,
}

/// A token of an answer.
#[derive(Debug, Serialize, ToSchema)]
struct TraceToken {
    text: String,
    /// `model` for the model's own token of the pass, else what the accepted draft was taken from.
    source: &'static str,
}

impl Trace {
    pub(super) fn of(step: &Step) -> Self {
        let token = |token: &AnswerToken| TraceToken {
            text: token.text.clone(),
            source: token.origin.map_or("model", source_name),
        };
        let is_accepted = |token: &&AnswerToken| token.origin.is_some();
        Self {
            drafted: step.drafted,
            accepted: step.tokens.iter().filter(is_accepted).count(),
            tokens: step.tokens.iter().map(token).collect(),
        }
    }
}

/// Turns what comes of answers into the pieces of a stream.
pub(super) trait Pieces: Send + 'static {
    /// The pieces before anything has come.
    fn begin(&mut self) -> Vec<serde_json::Value>;
    /// The pieces for what has come; [`Next::Done`] is the last.
    fn next(&mut self, next: Next) -> Vec<serde_json::Value>;
}

/// The answers as server-sent events, each a piece as JSON, and `[DONE]` at the end. An error in the middle is an event with
/// an error object.
pub(super) fn respond(answers: Answers, mut pieces: impl Pieces) -> Response {
    struct Running<P> {
        answers: Answers,
        pieces: P,
        queue: VecDeque<Event>,
        is_done: bool,
    }
    let json = |value: &serde_json::Value| Event::default().data(value.to_string());
    let queue = pieces.begin().iter().map(json).collect();
    let running = Running { answers, pieces, queue, is_done: false };
    let events = stream::unfold(running, move |mut running| async move {
        loop {
            if let Some(event) = running.queue.pop_front() {
                return Some((Ok::<_, Infallible>(event), running));
            }
            if running.is_done {
                return None;
            }
            match running.answers.next().await {
                Ok(next) => {
                    running.is_done = matches!(next, Next::Done);
                    running.queue.extend(running.pieces.next(next).iter().map(json));
                }
                Err(error) => {
                    running.is_done = true;
                    running.queue.push_back(error_event(error));
                }
            }
            if running.is_done {
                running.queue.push_back(Event::default().data("[DONE]"));
            }
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

fn error_event(error: ApiError) -> Event {
    let body = serde_json::to_string(&error.into_body()).unwrap_or_default();
    Event::default().data(body)
}
