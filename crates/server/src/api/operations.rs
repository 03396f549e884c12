//! `GET /health` and `/metrics`: for those who run the server.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::extract::State as FromState;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use lookahead_trie::NamespaceStats;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::Shared;
use crate::admission::Resource;
use crate::error::ApiError;
use crate::metrics::InHand;
use crate::state::blocking;
use crate::worker::{Condition, Load};

/// The format of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the server answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`; `degraded` if the engine has panicked in the last minute, and goes on; `stopping`; or `failed` if the engine has
    /// stopped by itself.
    status: &'static str,
}

/// Whether the server answers
#[utoipa::path(
    get,
    path = "/health",
    tag = "Operations",
    responses(
        (status = 200, description = "It answers", body = Health),
        (status = 503, description = "It is stopping, or its engine has failed or panics often", body = Health),
    )
)]
pub(super) async fn health(FromState(state): Shared) -> (StatusCode, Json<Health>) {
    let (code, status) = if state.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else if !state.models.iter().all(|model| model.worker.is_alive()) {
        (StatusCode::SERVICE_UNAVAILABLE, "failed")
    } else {
        let worst = state.models.iter().map(|model| model.worker.condition()).max();
        match worst.unwrap_or(Condition::Well) {
            Condition::Well => (StatusCode::OK, "ok"),
            Condition::Degraded => (StatusCode::OK, "degraded"),
            Condition::Failing => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
        }
    };
    (code, Json(Health { status }))
}

/// The server's version.
#[derive(Serialize, ToSchema)]
pub(super) struct Version {
    version: &'static str,
}

/// The server's version
#[utoipa::path(
    get,
    path = "/version",
    tag = "Operations",
    responses((status = 200, description = "The version", body = Version))
)]
pub(super) async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// Metrics, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operations",
    responses((status = 200, description = "All metrics", body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(FromState(state): Shared) -> Result<impl IntoResponse, ApiError> {
    let text = blocking(move || {
        let namespaces: Vec<NamespaceStats> =
            state.models.iter().flat_map(|model| model.drafts.stats()).collect();
        let load = |of: fn(&Load) -> &AtomicUsize| -> usize {
            state.models.iter().map(|model| of(model.worker.load()).load(Ordering::Relaxed)).sum()
        };
        let in_hand = InHand {
            waiting: load(|load| &load.waiting),
            running: load(|load| &load.running),
            kv_used_tokens: load(|load| &load.kv_used_tokens),
            admitted: Resource::ALL.map(|resource| state.admission.in_hand(resource)),
            preparations: state.preparations.taken(),
        };
        Ok(state.metrics.encode(&namespaces, &in_hand))
    });
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text.await?))
}
