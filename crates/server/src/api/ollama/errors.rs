//! What may be wrong with requests in Ollama's form, for the document.
#![allow(dead_code)] // they only describe what `error_form.rs` writes

use utoipa::{IntoResponses, ToSchema};

/// An error, as Ollama writes it.
#[derive(ToSchema)]
pub(super) struct OllamaError {
    /// What is wrong, and what to do about it.
    error: String,
}

/// Why a request is not answered.
#[derive(IntoResponses)]
pub(super) enum OllamaErrors {
    /// The request is wrong
    #[response(status = 400)]
    Invalid(#[to_schema] OllamaError),
    /// The key is missing or wrong
    #[response(status = 401)]
    Unauthorized(#[to_schema] OllamaError),
    /// A web page that may not use the server asks, or the server is called by a name that it does not know
    #[response(status = 403)]
    Forbidden(#[to_schema] OllamaError),
    /// The model is not served here
    #[response(status = 404)]
    NotFound(#[to_schema] OllamaError),
    /// The request did not arrive in time
    #[response(status = 408)]
    ClientTimeout(#[to_schema] OllamaError),
    /// The request is too large
    #[response(status = 413)]
    TooLarge(#[to_schema] OllamaError),
    /// The body is not said to be JSON
    #[response(status = 415)]
    MediaType(#[to_schema] OllamaError),
    /// The key or the server has as much in hand as it may
    #[response(status = 429)]
    QueueFull(#[to_schema] OllamaError),
    /// The server made a mistake
    #[response(status = 500)]
    Internal(#[to_schema] OllamaError),
    /// The engine has stopped
    #[response(status = 503)]
    Unavailable(#[to_schema] OllamaError),
    /// The answer took too long
    #[response(status = 504)]
    Timeout(#[to_schema] OllamaError),
}
