//! What Ollama's clients ask about models: `GET /api/tags`, `/api/ps` and `/api/version`, `POST /api/show`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as FromState;
use axum::response::Response;
use jiff::Timestamp;
use lookahead_model::chat_template::ChatTemplate;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::errors::OllamaErrors;
use super::options::find_model;
use crate::api::extract::{Call, Shared};
use crate::api::tokens;
use crate::error::ApiError;
use crate::served::Served;
use crate::state::State;

/// What this server says that every model's architecture is: it knows the sizes of a model, and not its family.
const ARCHITECTURE: &str = "lookahead";

/// The version of Ollama that has what is served here: calls in streams, and `think` as a word.
const API_VERSION: &str = "0.11.0";

/// Models stay loaded; a time has to be said all the same: a hundred years.
const NEVER_S: u64 = 100 * 365 * 24 * 3600;

/// A model by one of its names. What is not known of it is empty.
fn describe(state: &State, model: &Served, name: &str) -> Value {
    json!({
        "name": name,
        "model": name,
        "modified_at": time(state.created),
        "size": 0,
        "digest": format!("{:016x}", model.tokenizer().fingerprint()),
        "details": details(),
    })
}

fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
    })
}

/// Seconds since 1970, as JSON writes times.
fn time(seconds: u64) -> String {
    Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default().to_string()
}

fn all(state: &State, of: impl Fn(&Served, &str) -> Value) -> Json<Value> {
    let of_model =
        |model: &Arc<Served>| -> Vec<Value> { model.names.iter().map(|name| of(model, name)).collect() };
    Json(json!({ "models": state.models.iter().flat_map(of_model).collect::<Vec<_>>() }))
}

/// List the models, as Ollama does
#[utoipa::path(
    get,
    path = "/api/tags",
    tag = "Ollama",
    responses(
        (status = 200, description = "The models, each by all of its names", body = Object),
        OllamaErrors,
    )
)]
pub(in crate::api) async fn tags(FromState(state): Shared) -> Json<Value> {
    all(&state, |model, name| describe(&state, model, name))
}

/// List the models that are loaded, as Ollama does
///
/// All that are served are.
#[utoipa::path(
    get,
    path = "/api/ps",
    tag = "Ollama",
    responses(
        (status = 200, description = "The models, each by all of its names", body = Object),
        OllamaErrors,
    )
)]
pub(in crate::api) async fn loaded(FromState(state): Shared) -> Json<Value> {
    all(&state, |model, name| {
        let mut described = describe(&state, model, name);
        described["expires_at"] = time(state.created + NEVER_S).into();
        described["size_vram"] = 0.into();
        described["context_length"] = model.context_length.into();
        described
    })
}

/// The version of Ollama whose API is spoken
///
/// Clients ask for it to know what they may send. `lookahead` has the server's own.
#[utoipa::path(
    get,
    path = "/api/version",
    tag = "Ollama",
    responses((status = 200, description = "The versions", body = Object))
)]
pub(in crate::api) async fn version() -> Json<Value> {
    Json(json!({ "version": API_VERSION, "lookahead": env!("CARGO_PKG_VERSION") }))
}

/// A model to be described.
#[derive(Debug, Deserialize, ToSchema)]
struct ShowRequest {
    /// The model; `/api/tags` lists it.
    model: Option<String>,
    /// The older name of `model`.
    name: Option<String>,
    /// Whether all that is known is asked for, as it always is.
    #[allow(dead_code, reason = "read, so that it is known")]
    verbose: Option<bool>,
}

/// Describe a model, as Ollama does
#[utoipa::path(
    post,
    path = "/api/show",
    tag = "Ollama",
    request_body = ShowRequest,
    responses(
        (status = 200, description = "Its template, its sizes, and what it can do", body = Object),
        OllamaErrors,
    )
)]
pub(in crate::api) async fn show(call: Call) -> Result<Response, ApiError> {
    tokens::answer(call, |state, fields| {
        let ShowRequest { model, name, .. } = fields.part()?;
        let passed_over = fields.refuse_unknown()?;
        let name = model.or(name).ok_or_else(|| ApiError::invalid("model", "model is missing"))?;
        let model = find_model(state, &name)?;
        let template = model.prompts.template();
        let mut capabilities = vec!["completion"];
        capabilities.extend(template.map(|_| "tools"));
        capabilities.extend(model.prompts.fill_in_middle().map(|_| "insert"));
        capabilities.extend(
            template.filter(|template| template.source().contains("enable_thinking")).map(|_| "thinking"),
        );
        let shown = json!({
            "modelfile": "",
            "parameters": "",
            "template": template.map(ChatTemplate::source).unwrap_or_default(),
            "modified_at": time(state.created),
            "details": details(),
            "model_info": {
                "general.architecture": ARCHITECTURE,
                format!("{ARCHITECTURE}.context_length"): model.context_length,
                format!("{ARCHITECTURE}.vocab_size"): model.tokenizer().vocabulary_size(),
            },
            "capabilities": capabilities,
        });
        Ok((shown, passed_over))
    })
    .await
}
