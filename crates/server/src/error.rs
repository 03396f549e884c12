//! Errors as OpenAI's clients know them: a status and `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lookahead_engine::EngineError;
use lookahead_grammar::GrammarError;
use lookahead_model::chat_template::ChatTemplateError;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::drafts::error::{CorpusLimit, DraftStoreError};
use crate::excerpt::{self, excerpt};

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
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// What is wrong, and what to do about it.
    pub(crate) message: String,
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
    /// A web page that may not use the server asks, or the server is called by a name that it does not know
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorBody),
    /// The request did not arrive in time
    #[response(status = 408)]
    ClientTimeout(#[to_schema] ErrorBody),
    /// The request is too large
    #[response(status = 413)]
    TooLarge(#[to_schema] ErrorBody),
    /// The body is not said to be JSON
    #[response(status = 415)]
    MediaType(#[to_schema] ErrorBody),
}

/// Why the model may not answer a request that is right, for the document.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(crate) enum GenerationErrors {
    /// The model is not served here
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
    /// The key or the server has as much in hand as it may
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
    /// A web page that may not use the server asks, or the server is called by a name that it does not know
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorBody),
    /// The model is not served here
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
    /// A file cannot be read or written
    #[response(status = 500)]
    Internal(#[to_schema] ErrorBody),
}

impl ErrorObject {
    /// What is wrong, and what to do about it.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: String) -> Self {
        let message = excerpt::message(message);
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

    /// A web page asks that may not, or the server is called by a name that it does not know.
    pub(crate) fn forbidden(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", Some(code), message)
    }

    /// The body is not said to be of a type that is read here.
    pub(crate) fn unsupported_media_type(message: String) -> Self {
        let code = Some("unsupported_media_type");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", code, message)
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
    pub(crate) fn too_large(message: String) -> Self {
        let code = Some("request_too_large");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", code, message)
    }

    /// The body did not come in time.
    pub(crate) fn client_timeout() -> Self {
        let message = "the request did not arrive in time".to_owned();
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", Some("client_timeout"), message)
    }

    /// There is no room now for what the request needs.
    pub(crate) fn rate_limited(code: &'static str, message: String) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some(code), message);
        Self { retry_after_s: Some(1), ..error }
    }

    /// The request needs more than there ever is room for.
    pub(crate) fn more_than_fits(message: String) -> Self {
        let code = Some("more_than_fits");
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    /// A corpus is more than its tenant may have.
    fn quota(message: String) -> Self {
        let code = Some("quota_exceeded");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", code, message)
    }

    /// The tenant sends a corpus already.
    fn upload_in_progress(message: String) -> Self {
        let code = Some("upload_in_progress");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", code, message);
        Self { retry_after_s: Some(1), ..error }
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

    /// The server is stopping: another one is to be asked.
    pub(crate) fn stopping() -> Self {
        Self::unavailable("the server is stopping")
    }

    /// The disk or something else on the server's side failed.
    pub(crate) fn internal(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("internal_error"), message)
    }

    /// The field that is to blame.
    #[must_use]
    pub(crate) fn of_param(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(excerpt(&param.into()).into_owned());
        self
    }

    /// The status of an answer that is this error.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, and what to do about it.
    pub(crate) fn message(&self) -> &str {
        &self.error.message
    }

    /// The body, as JSON.
    pub(crate) fn into_body(self) -> ErrorBody {
        ErrorBody { error: self.error }
    }
}

impl IntoResponse for ApiError {
    /// In OpenAI's form. The error goes along, so that other wires can write it in theirs.
    fn into_response(self) -> Response {
        let (status, retry_after_s, error) = (self.status, self.retry_after_s, self.error.clone());
        let mut response = (status, Json(self.into_body())).into_response();
        response.extensions_mut().insert(error); // for wires that write it in another form
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

/// Why the chat template makes no prompt of a conversation that stands in the field `param`.
pub(crate) fn of_template(error: &ChatTemplateError, param: &str) -> ApiError {
    match error {
        ChatTemplateError::ReservedVariable(_) => {
            ApiError::invalid("chat_template_kwargs", error.to_string())
        }
        _ => ApiError::invalid(param, error.to_string()),
    }
}

impl From<ChatTemplateError> for ApiError {
    fn from(error: ChatTemplateError) -> Self {
        of_template(&error, "messages")
    }
}

impl From<DraftStoreError> for ApiError {
    fn from(error: DraftStoreError) -> Self {
        let message = error.to_string();
        match error {
            DraftStoreError::Name { what, .. } => Self::invalid(what, message),
            DraftStoreError::TooMuch { limit: CorpusLimit::Size(_), .. } => Self::too_large(message),
            DraftStoreError::TooMuch { .. } => Self::quota(message),
            DraftStoreError::UploadInProgress => Self::upload_in_progress(message),
            DraftStoreError::NotKept { .. } | DraftStoreError::Trie(_) | DraftStoreError::Io { .. } => {
                Self::internal(message)
            }
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
