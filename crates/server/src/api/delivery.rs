//! From a request to its answer, for all wire formats: what they differ in is how a request is read and an answer written.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::Value;

use super::body::{self, PassedOver};
use super::extract::Call;
use super::warnings::Warnings;
use crate::error::ApiError;
use crate::generation::{AnswerEvent, AnswerRequest, Answers, Delta, EndReason, Usage};
use crate::served::Served;
use crate::state::{Awaited, State};
use crate::worker::AnswerToken;

/// A piece of a streamed answer, in the framing of its wire format.
pub(super) trait Piece: Sized + Send + 'static {
    /// A response of these pieces.
    fn respond(pieces: impl Stream<Item = Self> + Send + 'static) -> Response;
}

/// Server-sent events.
impl Piece for Event {
    fn respond(pieces: impl Stream<Item = Self> + Send + 'static) -> Response {
        Sse::new(pieces.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response()
    }
}

/// A JSON object on a line of its own.
pub(super) struct Line(pub(super) Value);

impl Piece for Line {
    fn respond(pieces: impl Stream<Item = Self> + Send + 'static) -> Response {
        let lines = pieces.map(|Self(object)| Ok::<_, Infallible>(format!("{object}\n")));
        ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
    }
}

/// Writes answers in a wire format.
pub(super) trait Wire: Send + 'static {
    /// What a stream is made of.
    type Piece: Piece;

    /// The pieces of a stream before anything has come.
    fn begin(&mut self) -> Vec<Self::Piece>;

    /// The pieces of a stream for what has come; [`AnswerEvent::Done`] is the last.
    fn next(&mut self, event: AnswerEvent) -> Vec<Self::Piece>;

    /// The last pieces of a stream that fails.
    fn fail(&mut self, error: ApiError) -> Vec<Self::Piece>;

    /// Whether [`WholeAnswer::tokens`] has all tokens, and not only those whose log probabilities are asked for.
    fn keeps_tokens(&self) -> bool {
        false
    }

    /// The answers as one object.
    fn whole(self, answers: Vec<WholeAnswer>, usage: &Usage) -> Value;
}

/// An answer that is complete.
#[derive(Default)]
pub(super) struct WholeAnswer {
    pub(super) reasoning: String,
    pub(super) text: String,
    /// Names of functions that it calls, and the JSON texts of their arguments: the last is cut off where the answer is.
    pub(super) calls: Vec<(String, String)>,
    /// Its tokens, if their log probabilities are asked for or [`Wire::keeps_tokens`].
    pub(super) tokens: Vec<AnswerToken>,
    pub(super) reason: Option<EndReason>,
    /// The stop string that has ended it.
    pub(super) stop_string: Option<String>,
}

/// A request that was read from a wire format.
pub(super) struct Translated<B> {
    pub(super) model: Arc<Served>,
    pub(super) request: AnswerRequest,
    /// Fields that were left out of it.
    pub(super) passed_over: PassedOver,
    /// Whether the answer comes in pieces, as it is made.
    pub(super) is_stream: bool,
    /// What was passed over of the request.
    pub(super) warnings: Warnings,
    /// Makes the [`Wire`] that the answers are written in.
    pub(super) wire: B,
}

/// What a request comes to.
pub(super) enum Outcome<B> {
    /// The model is to answer.
    Answer(Box<Translated<B>>),
    /// Nothing that takes a model: the object is sent as it is.
    Object(Value),
}

/// Answers a request: admits and reads it, has it translated and prepared, and sends what comes of it.
pub(super) async fn answer<W: Wire, B: FnOnce(&Answers) -> W + Send + 'static>(
    call: Call,
    translate: impl FnOnce(&State, &str, &[u8]) -> Result<Translated<B>, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let translate = |state: &State, tenant: &str, body: &[u8]| {
        translate(state, tenant, body).map(|translated| Outcome::Answer(Box::new(translated)))
    };
    answer_any(call, translate).await
}

/// As [`answer`], for requests that may ask for something else than an answer.
pub(super) async fn answer_any<W: Wire, B: FnOnce(&Answers) -> W + Send + 'static>(
    call: Call,
    translate: impl FnOnce(&State, &str, &[u8]) -> Result<Outcome<B>, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let Call { state, tenant, received, request } = call;
    let (ticket, bytes) = body::read(&state, &tenant, request).await?;
    let deadline = received.at + state.options.request_timeout;
    let prepare = {
        let (state, tenant) = (Arc::clone(&state), Arc::clone(&tenant));
        move |awaited: &Awaited| {
            if state.options.log_prompts {
                tracing::info!(tenant = &*tenant, request = %String::from_utf8_lossy(&bytes), "asked");
            }
            let translated = match translate(&state, &tenant, &bytes)? {
                Outcome::Answer(translated) => translated,
                Outcome::Object(object) => return Ok(Prepared::Object(object)),
            };
            drop(bytes);
            let Translated { model, request, passed_over, is_stream, warnings, wire } = *translated;
            passed_over.refuse_if(state.options.strict_fields)?;
            awaited.check()?;
            let answers = model.begin(&state.options, &request, ticket, &received, awaited)?;
            let wire = wire(&answers);
            Ok(Prepared::Answers(Box::new(Begun { answers, wire, is_stream, passed_over, warnings })))
        }
    };
    let begun = match state.prepare(&tenant, deadline, prepare).await? {
        Prepared::Answers(begun) => *begun,
        Prepared::Object(object) => return Ok(Json(object).into_response()),
    };
    let Begun { answers, wire, is_stream, passed_over, mut warnings } = begun;
    let mut response =
        if is_stream { send_stream(answers, wire) } else { send_whole(answers, wire, &mut warnings).await? };
    passed_over.tell(&mut response);
    warnings.tell(&mut response);
    Ok(response)
}

/// What a prepared request comes to.
enum Prepared<W> {
    Answers(Box<Begun<W>>),
    Object(Value),
}

/// Answers that are being made, and how they are sent.
struct Begun<W> {
    answers: Answers,
    wire: W,
    is_stream: bool,
    passed_over: PassedOver,
    warnings: Warnings,
}

/// The answers as they are made.
fn send_stream<W: Wire>(answers: Answers, mut wire: W) -> Response {
    struct Running<W: Wire> {
        answers: Answers,
        wire: W,
        queue: VecDeque<W::Piece>,
        is_done: bool,
    }
    let queue = wire.begin().into();
    let running = Running { answers, wire, queue, is_done: false };
    W::Piece::respond(stream::unfold(running, |mut running| async move {
        loop {
            if let Some(piece) = running.queue.pop_front() {
                return Some((piece, running));
            }
            if running.is_done {
                return None;
            }
            let next = running.answers.next().await;
            running.is_done = matches!(next, Ok(AnswerEvent::Done(_)) | Err(_));
            running.queue.extend(match next {
                Ok(event) => running.wire.next(event),
                Err(error) => running.wire.fail(error),
            });
        }
    }))
}

/// The answers as one object.
async fn send_whole(
    mut answers: Answers,
    wire: impl Wire,
    warnings: &mut Warnings,
) -> Result<Response, ApiError> {
    let keeps_tokens = wire.keeps_tokens();
    let mut whole: Vec<WholeAnswer> = (0..answers.count()).map(|_| WholeAnswer::default()).collect();
    let usage = loop {
        match answers.next().await? {
            AnswerEvent::Step { answer, deltas, tokens, .. } => {
                whole[answer].add(deltas);
                let asked_for = tokens.into_iter().filter(|token| keeps_tokens || token.logprobs.is_some());
                whole[answer].tokens.extend(asked_for);
            }
            AnswerEvent::End { answer, deltas, reason, stop_string } => {
                whole[answer].add(deltas);
                whole[answer].reason = Some(reason);
                whole[answer].stop_string = stop_string;
            }
            AnswerEvent::Done(usage) => break usage,
        }
    };
    for unmet in answers.unmet() {
        warnings.add(unmet.clone());
    }
    Ok(Json(wire.whole(whole, &usage)).into_response())
}

impl WholeAnswer {
    fn add(&mut self, deltas: Vec<Delta>) {
        for delta in deltas {
            match delta {
                Delta::Text(text) => self.text += &text,
                Delta::Reasoning(text) => self.reasoning += &text,
                Delta::Call { name } => self.calls.push((name, String::new())),
                Delta::Arguments(text) => {
                    if let Some((_, arguments)) = self.calls.last_mut() {
                        *arguments += &text;
                    }
                }
            }
        }
    }
}
