//! What handlers take of the server, of the request, and of its URL.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::error::ApiError;
use crate::state::State;

/// What handlers get of the state.
pub(super) type Shared = axum::extract::State<Arc<State>>;

/// Whose request it is: the name of a namespace.
#[derive(Clone, Debug)]
pub(super) struct Tenant(pub(super) Arc<str>);

/// What another extractor takes out of a URL, but what is wrong with it is told as clients know it.
pub(super) struct Url<E>(pub(super) E);

impl<S: Sync, E: FromRequestParts<S, Rejection: Display>> FromRequestParts<S> for Url<E> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let extracted = E::from_request_parts(parts, state).await;
        extracted.map(Self).map_err(|wrong| ApiError::invalid("url", wrong.to_string()))
    }
}
