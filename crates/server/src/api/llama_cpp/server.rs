//! `GET /props` and `/slots`: how the server is set up, to be read only.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State as FromState;
use lookahead_model::TokenId;
use lookahead_model::chat_template::ChatTemplate;
use serde_json::{Value, json};

use crate::api::extract::Shared;
use crate::error::ErrorBody;
use crate::served::Served;
use crate::state::State;

/// The model that these routes describe: the first, which is meant where a request names none.
fn usual(state: &State) -> Option<&Served> {
    state.models.iter().next().map(|model| &**model)
}

/// Describe the server, as llama.cpp's does
///
/// Of the model that is meant where a request names none.
#[utoipa::path(
    get,
    path = "/props",
    tag = "llama.cpp",
    responses(
        (status = 200, description = "The context, the template and the number of slots", body = Object),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
    )
)]
pub(in crate::api) async fn props(FromState(state): Shared) -> Json<Value> {
    let Some(model) = usual(&state) else { return Json(json!({})) };
    let name = |token: Option<TokenId>| {
        token
            .map(|id| String::from_utf8_lossy(model.tokenizer().token_bytes(id)).into_owned())
            .unwrap_or_default()
    };
    Json(json!({
        "default_generation_settings": { "n_ctx": model.context_length },
        "total_slots": state.options.parallel,
        "model_alias": model.name(),
        "model_path": model.name(),
        "modalities": { "vision": false, "audio": false },
        "chat_template": model.prompts.template().map(ChatTemplate::source).unwrap_or_default(),
        "bos_token": name(model.tokenizer().bos()),
        "eos_token": name(model.tokenizer().eos()),
        "build_info": concat!("lookahead-", env!("CARGO_PKG_VERSION")),
    }))
}

/// List the slots, as llama.cpp's server does
///
/// A place in the batch is a slot; which request is in which says nothing here.
#[utoipa::path(
    get,
    path = "/slots",
    tag = "llama.cpp",
    responses(
        (status = 200, description = "The slots, those that are taken first", body = [Object]),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
    )
)]
pub(in crate::api) async fn slots(FromState(state): Shared) -> Json<Value> {
    let Some(model) = usual(&state) else { return Json(json!([])) };
    let running = model.worker.load().running.load(Ordering::Relaxed);
    let slot = |id: usize| json!({ "id": id, "n_ctx": model.context_length, "is_processing": id < running });
    Json((0..state.options.parallel).map(slot).collect())
}
