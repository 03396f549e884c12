//! Events of a stream, as both formats have them.

use axum::response::sse::Event;
use lookahead_engine::DraftOrigin;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::metrics::source_name;
use crate::worker::AnswerToken;

/// An event of a stream.
pub(super) fn event(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

/// The last event of a stream.
pub(super) fn done() -> Event {
    Event::default().data("[DONE]")
}

/// The last events of a stream that fails: an error object in place of a chunk.
pub(super) fn failed(error: ApiError) -> Vec<Event> {
    vec![event(&json!(error.into_body())), done()]
}

/// Where the tokens of a forward pass came from, of which `drafted` were drafted: `model` is the model's own token of the
/// pass.
pub(super) fn trace(tokens: &[AnswerToken], drafted: u64) -> Value {
    let source = |origin: Option<DraftOrigin>| origin.map_or("model", source_name);
    let token = |token: &AnswerToken| json!({ "text": token.text, "source": source(token.origin) });
    json!({
        "drafted": drafted,
        "accepted": tokens.iter().filter(|token| token.origin.is_some()).count(),
        "tokens": tokens.iter().map(token).collect::<Vec<_>>(),
    })
}
