//! Errors as OpenAI's clients know them: a status and `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lookahead_engine::EngineError;
use lookahead_grammar::GrammarError;
use lookahead_model::chat_template::ChatTemplateError;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::drafts::DraftStoreError;

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: ErrorObject,
    retry_after_s: Option<u64>,
}

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorObject,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// What is wrong, and what to do about it.
    message: String,
    /// The kind of error.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field of the request that is to blame.
    param: Option<String>,
    /// A name for programs.
    code: Option<&'static str>,
}

/// What may be wrong with a request that has a body, for the document.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(crate) enum BodyErrors {
    /// The request is wrong
    #[response(status = 400)]
    Invalid(#[to_schema] ErrorBody),
    /// The key is missing or wrong
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorBody),
    /// The request did not arrive in time
    #[response(status = 408)]
    ClientTimeout(#[to_schema] ErrorBody),
    /// The request is too large
    #[response(status = 413)]
    TooLarge(#[to_schema] ErrorBody),
}

/// Why the model may not answer a request that is right, for the document.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(crate) enum GenerationErrors {
    /// The model is not served here
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
    /// Too many requests are waiting, or there are as many namespaces as may be
    #[response(status = 429)]
    QueueFull(#[to_schema] ErrorBody),
    /// The server made a mistake
    #[response(status = 500)]
    Internal(#[to_schema] ErrorBody),
    /// The engine has stopped
    #[response(status = 503)]
    Unavailable(#[to_schema] ErrorBody),
    /// The answer took too long
    #[response(status = 504)]
    Timeout(#[to_schema] ErrorBody),
}

/// Why a namespace may not be looked into, for the document.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(crate) enum NamespaceErrors {
    /// A name is none
    #[response(status = 400)]
    Name(#[to_schema] ErrorBody),
    /// The key is missing or wrong
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorBody),
    /// There are as many namespaces as may be
    #[response(status = 429)]
    TooMany(#[to_schema] ErrorBody),
    /// A file cannot be read or written
    #[response(status = 500)]
    Internal(#[to_schema] ErrorBody),
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: String) -> Self {
        Self { status, error: ErrorObject { message, kind, param: None, code }, retry_after_s: None }
    }

    /// The request is wrong: `param` names the field.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let param = param.into();
        let error = Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            Some("invalid_value"),
            message.into(),
        );
        error.of_param(param)
    }

    /// The request has a field that there is not, or that is not served.
    pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        let error = Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            Some("unsupported_parameter"),
            message.into(),
        );
        error.of_param(param.to_owned())
    }

    /// The request does not fit into the model's context.
    pub(crate) fn context_length(param: &str, message: String) -> Self {
        let code = Some("context_length_exceeded");
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message);
        error.of_param(param.to_owned())
    }

    /// The key is missing or wrong.
    pub(crate) fn unauthorized(message: &str) -> Self {
        let code = Some("invalid_api_key");
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", code, message.to_owned())
    }

    /// There is no such thing.
    pub(crate) fn not_found(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some(code), message)
    }

    /// The path is right, the method is not.
    pub(crate) fn method_not_allowed(message: String) -> Self {
        let code = Some("method_not_allowed");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", code, message)
    }

    /// The request is too large.
    pub(crate) fn too_large(max_bytes: usize) -> Self {
        let message = format!("the request is larger than the {max_bytes} bytes that this server takes");
        let code = Some("request_too_large");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", code, message)
    }

    /// The body did not come in time.
    pub(crate) fn client_timeout() -> Self {
        let message = "the request did not arrive in time".to_owned();
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", Some("client_timeout"), message)
    }

    /// Too many wait.
    pub(crate) fn queue_full(waiting: usize) -> Self {
        let message = format!("{waiting} requests are waiting, as many as may; try again later");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), message);
        Self { retry_after_s: Some(1), ..error }
    }

    /// The server has as many namespaces as it may.
    pub(crate) fn too_many_namespaces(message: String) -> Self {
        let code = Some("too_many_namespaces");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", code, message)
            .of_param("lookahead.namespace")
    }

    /// The answer took too long.
    pub(crate) fn timeout(seconds: u64) -> Self {
        let message = format!(
            "the answer was not complete after {seconds} seconds, the most that a request of this server may take; \
             ask for fewer tokens, or stream them"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout_error", Some("request_timeout"), message)
    }

    /// The model cannot do this.
    pub(crate) fn not_implemented(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "invalid_request_error", Some(code), message)
    }

    /// The server ends, or its engine has.
    pub(crate) fn unavailable(message: &str) -> Self {
        let code = Some("unavailable");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", code, message.to_owned());
        Self { retry_after_s: Some(5), ..error }
    }

    /// The disk or something else on the server's side failed.
    pub(crate) fn internal(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("internal_error"), message)
    }

    /// The field that is to blame.
    #[must_use]
    pub(crate) fn of_param(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(param.into());
        self
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.error.message
    }

    /// The body, as JSON.
    pub(crate) fn into_body(self) -> ErrorBody {
        ErrorBody { error: self.error }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after_s) = (self.status, self.retry_after_s);
        let mut response = (status, Json(self.into_body())).into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::PromptTooLong { .. } => Self::context_length("messages", message),
            EngineError::EmptyPrompt => Self::invalid("prompt", message),
            EngineError::Sampling(ref sampling) => Self::invalid(sampling.field, message),
            // One of several fields asked for the grammar; the message names the limit.
            EngineError::Constraint(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                Some("grammar_too_complex"),
                message,
            ),
            EngineError::Forward(_) => Self::internal(message),
        }
    }
}

impl From<ChatTemplateError> for ApiError {
    fn from(error: ChatTemplateError) -> Self {
        let param = match error {
            ChatTemplateError::ReservedVariable(_) => "chat_template_kwargs",
            _ => "messages",
        };
        Self::invalid(param, error.to_string())
    }
}

impl From<DraftStoreError> for ApiError {
    fn from(error: DraftStoreError) -> Self {
        let message = error.to_string();
        match error {
            DraftStoreError::Name(_) => Self::invalid("lookahead.namespace", message),
            DraftStoreError::TooMany(_) => Self::too_many_namespaces(message),
            DraftStoreError::Trie(_) | DraftStoreError::Io { .. } => Self::internal(message),
        }
    }
}

/// A schema or grammar of the request in `param`.
pub(crate) fn grammar_error(param: &'static str) -> impl Fn(GrammarError) -> ApiError {
    move |error| ApiError::invalid(param, error.to_string())
}

#[cfg(test)]
mod tests {
    use lookahead_engine::ConstraintError;

    use super::*;

    #[test]
    fn an_answer_that_meets_a_limit_of_its_grammar_is_the_requests_fault() {
        let limit = ConstraintError("behind 7 tokens of the answer: too many states".to_owned());
        let error = ApiError::from(EngineError::Constraint(limit));
        assert_eq!((error.status, error.error.code), (StatusCode::BAD_REQUEST, Some("grammar_too_complex")));
        assert!(error.error.message.contains("too many states"), "{}", error.error.message);
    }
}
