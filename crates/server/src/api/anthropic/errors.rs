//! Errors as Anthropic's clients know them: `{"type": "error", "error": {"type", "message"}}`.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::ErrorObject;

/// The body of an error.
pub(super) fn body(status: StatusCode, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind(status), "message": message } })
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    }
}

/// Writes an error of any handler in Anthropic's form.
pub(in crate::api) async fn rewrite(mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<ErrorObject>() else { return response };
    let status = response.status();
    let mut rewritten = (status, Json(body(status, error.message()))).into_response();
    let kept = response
        .headers()
        .iter()
        .filter(|(name, _)| **name != header::CONTENT_LENGTH && **name != header::CONTENT_TYPE);
    rewritten.headers_mut().extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    rewritten
}
