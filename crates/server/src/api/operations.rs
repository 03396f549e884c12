//! `GET /health` and `/metrics`: for those who run the server.

use axum::Json;
use axum::extract::State as FromState;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shared, blocking};
use crate::error::ApiError;

/// The format of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the server answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, `stopping`, or `failed` if the engine has stopped by itself.
    status: &'static str,
}

/// Whether the server answers
#[utoipa::path(
    get,
    path = "/health",
    tag = "Operations",
    responses(
        (status = 200, description = "It answers", body = Health),
        (status = 503, description = "It is stopping, or its engine has failed", body = Health),
    )
)]
pub(super) async fn health(FromState(state): Shared) -> (StatusCode, Json<Health>) {
    let (code, status) = match (state.is_stopping(), state.worker.is_alive()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        (false, true) => (StatusCode::OK, "ok"),
    };
    (code, Json(Health { status }))
}

/// Metrics, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operations",
    responses((status = 200, description = "All metrics", body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(FromState(state): Shared) -> Result<impl IntoResponse, ApiError> {
    let text = blocking(move || Ok(state.metrics.encode(&state.drafts.stats())));
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text.await?))
}
