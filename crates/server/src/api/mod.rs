//! The HTTP interface: OpenAI's and Anthropic's, with a few routes of llama.cpp's server and our own.

mod anthropic;
mod body;
mod conversation;
mod delivery;
mod error_form;
mod extract;
mod known_fields;
mod leftover;
mod llama_cpp;
mod lookahead;
mod models;
mod number;
mod ollama;
mod openai;
mod operations;
mod origin;
mod paths;
mod tokens;
mod warnings;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use http_body_util::BodyExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;
use utoipa::OpenApi;

use self::extract::{Shared, Tenant};
use self::origin::Gate;
use crate::error::ApiError;
use crate::metrics::{Metrics, Rejection};
use crate::state::State;
use crate::traces::RequestTrace;
use crate::worker::Received;
use crate::{auth, ids, pages};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lookahead",
        description = "Large language models, several tokens a pass, without changing one output token. The API is \
                       OpenAI's; `lookahead` in requests and answers is an extension."
    ),
    paths(
        openai::chat::complete,
        openai::completions::complete,
        openai::responses::create::create,
        openai::responses::stored::get,
        openai::responses::stored::remove,
        anthropic::messages::create,
        anthropic::messages::count_tokens,
        models::list,
        models::get,
        models::embed,
        tokens::tokenize,
        tokens::detokenize,
        lookahead::add_corpus,
        lookahead::list_corpora,
        lookahead::remove_corpus,
        lookahead::stats,
        llama_cpp::completion::complete,
        llama_cpp::infill::complete,
        llama_cpp::template::apply,
        llama_cpp::server::props,
        llama_cpp::server::slots,
        ollama::chat::complete,
        ollama::generate::complete,
        ollama::models::tags,
        ollama::models::loaded,
        ollama::models::show,
        ollama::models::version,
        operations::health,
        operations::metrics,
        operations::version,
    )
)]
struct Document;

/// All routes.
pub(crate) fn router(state: Arc<State>, bound: &str) -> Router {
    let json = Router::new()
        .route("/v1/chat/completions", post(openai::chat::complete))
        .route("/v1/completions", post(openai::completions::complete))
        .route("/v1/responses", post(openai::responses::create::create))
        .route(
            "/v1/responses/{id}",
            get(openai::responses::stored::get).delete(openai::responses::stored::remove),
        )
        .route("/v1/embeddings", post(models::embed))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{model}", get(models::get))
        // For clients whose base URL has no `/v1`.
        .route("/chat/completions", post(openai::chat::complete))
        .route("/completions", post(openai::completions::complete))
        .route("/responses", post(openai::responses::create::create))
        .route("/embeddings", post(models::embed))
        .route("/models", get(models::list))
        .route("/models/{model}", get(models::get))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/completion", post(llama_cpp::completion::complete))
        .route("/infill", post(llama_cpp::infill::complete))
        .route("/apply-template", post(llama_cpp::template::apply))
        .route("/props", get(llama_cpp::server::props))
        .route("/slots", get(llama_cpp::server::slots))
        .route("/api/chat", post(ollama::chat::complete))
        .route("/api/generate", post(ollama::generate::complete))
        .route("/api/tags", get(ollama::models::tags))
        .route("/api/ps", get(ollama::models::loaded))
        .route("/api/show", post(ollama::models::show))
        .route("/api/embed", post(ollama::refused::embed))
        .route("/api/embeddings", post(ollama::refused::embed))
        .route("/api/pull", post(ollama::refused::manage))
        .route("/api/push", post(ollama::refused::manage))
        .route("/api/create", post(ollama::refused::manage))
        .route("/api/copy", post(ollama::refused::manage))
        .route("/api/delete", delete(ollama::refused::manage))
        .route("/api/blobs/{digest}", any(ollama::refused::manage))
        .route("/v1/lookahead/corpora/{name}", delete(lookahead::remove_corpus))
        .route("/v1/lookahead/stats", get(lookahead::stats))
        .route_layer(middleware::from_fn(origin::check_json));
    let json_lines = Router::new()
        .route("/v1/lookahead/corpora", post(lookahead::add_corpus).get(lookahead::list_corpora))
        .route_layer(middleware::from_fn(origin::check_json_lines));
    let gate = Arc::new(Gate::new(&state.options, bound));
    let anthropic = Router::new()
        .route("/v1/messages", post(anthropic::messages::create))
        .route("/v1/messages/count_tokens", post(anthropic::messages::count_tokens))
        .route_layer(middleware::from_fn(origin::check_json));
    let guard = |routes: Router<Arc<State>>| {
        routes
            .route_layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
            .route_layer(middleware::from_fn_with_state(Arc::clone(&state), find_tenant))
            .route_layer(middleware::from_fn_with_state(Arc::clone(&gate), origin::check))
            .method_not_allowed_fallback(no_such_method)
    };
    let guarded = guard(json.merge(json_lines))
        .merge(guard(anthropic).layer(middleware::map_response(anthropic::errors::rewrite)))
        .layer(cors(&state.options.cors_origins));
    let document = Document::openapi().to_pretty_json().unwrap_or_default();
    let routes = Router::new()
        .merge(guarded)
        .merge(pages::routes())
        .route("/health", get(operations::health))
        .route("/v1/health", get(operations::health))
        .route("/version", get(operations::version))
        .route("/api/version", get(ollama::models::version))
        .route("/metrics", get(operations::metrics))
        .route(
            "/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) })
                .layer(cors(&state.options.cors_origins)),
        )
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            tracing::error!("a handler has panicked");
            ApiError::internal("the server made a mistake; its log says more".to_owned()).into_response()
        }))
        .layer(middleware::from_fn(error_form::write))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), leftover::read))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), count))
        .with_state(state);
    Router::new()
        .fallback_service(routes)
        .layer(middleware::map_request(|request| async { paths::normalize(request) }))
}

/// Which web pages of other origins may use the server: none, unless the operator says so.
fn cors(origins: &[String]) -> CorsLayer {
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            auth::API_KEY,
            HeaderName::from_static("anthropic-version"),
            HeaderName::from_static("anthropic-beta"),
            HeaderName::from_static("anthropic-dangerous-direct-browser-access"),
        ])
}

async fn find_tenant(state: Shared, mut request: Request, next: Next) -> Result<Response, ApiError> {
    if state.is_stopping() {
        return Err(ApiError::stopping());
    }
    let tenant = auth::tenant_of(&state.options.keys, request.headers())?;
    request.extensions_mut().insert(Tenant(tenant.into()));
    Ok(next.run(request).await)
}

/// Counts and logs a request once its answer is through, however long it streams.
async fn count(state: Shared, mut request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let received = Received { at: Instant::now(), trace: RequestTrace::begin(&request, &path) };
    request.extensions_mut().insert(received.clone());
    let mut response = next.run(request).await;
    let status = response.status();
    if let Some(why) = rejection(status) {
        state.metrics.rejected(why);
    }
    let id = ids::new_id("req-");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    let metrics = Arc::clone(&state.metrics);
    let ended = Ended { metrics, path, id, status, received };
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _until_the_body_ends = &ended;
            frame
        }))
    })
}

fn rejection(status: StatusCode) -> Option<Rejection> {
    match status {
        StatusCode::UNAUTHORIZED => Some(Rejection::Unauthorized),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Rejection::TooLarge),
        StatusCode::TOO_MANY_REQUESTS => Some(Rejection::QueueFull),
        status if status.is_client_error() => Some(Rejection::Invalid),
        _ => None,
    }
}

/// Counts a request when it is dropped.
struct Ended {
    metrics: Arc<Metrics>,
    path: String,
    id: String,
    status: StatusCode,
    received: Received,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let (took, status) = (self.received.at.elapsed(), self.status.as_u16());
        self.metrics.answered(&self.path, status, took);
        let ms = took.as_millis() as u64;
        self.received.trace.end(status, &self.id);
        tracing::info!(id = self.id, path = self.path, status, ms, "answered");
    }
}

async fn no_such_path(request: Request) -> ApiError {
    let path = request.uri().path().to_owned();
    ApiError::not_found("unknown_url", format!("there is no {path} here; /docs lists what there is"))
}

async fn no_such_method(request: Request) -> ApiError {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    ApiError::method_not_allowed(format!("{path} does not take {method}; /docs lists what it takes"))
}
