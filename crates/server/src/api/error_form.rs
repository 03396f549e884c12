//! Errors in the form of the API that a path belongs to.

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::error::ErrorObject;

/// Paths of Ollama's API begin with it.
const OLLAMA: &str = "/api/";

/// Writes what went wrong as clients of the path read it: a text where they are Ollama's, an object otherwise.
pub(super) async fn write(request: Request, next: Next) -> Response {
    let is_ollama = request.uri().path().starts_with(OLLAMA);
    let response = next.run(request).await;
    let Some(error) = response.extensions().get::<ErrorObject>().filter(|_| is_ollama) else {
        return response;
    };
    let body = Json(json!({ "error": error.message })).into_response().into_body();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}
