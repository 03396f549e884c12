//! What handlers take of the server, of the request, and of its URL.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;

use crate::error::ApiError;
use crate::state::State;
use crate::worker::Received;

/// What handlers get of the state.
pub(super) type Shared = axum::extract::State<Arc<State>>;

/// Whose request it is: the name of a namespace.
#[derive(Clone, Debug)]
pub(super) struct Tenant(pub(super) Arc<str>);

/// A request with all that its answer is made of. Its body has not been read.
pub(super) struct Call {
    pub(super) state: Arc<State>,
    pub(super) tenant: Arc<str>,
    pub(super) received: Received,
    pub(super) request: Request,
}

impl FromRequest<Arc<State>> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, ApiError> {
        let known = |name: &str| ApiError::internal(format!("a request has come without its {name}"));
        let Tenant(tenant) = request.extensions().get().cloned().ok_or_else(|| known("tenant"))?;
        let received = request.extensions().get().cloned().ok_or_else(|| known("time"))?;
        Ok(Self { state: Arc::clone(state), tenant, received, request })
    }
}

/// What another extractor takes out of a URL, but what is wrong with it is told as clients know it.
pub(super) struct Url<E>(pub(super) E);

impl<S: Sync, E: FromRequestParts<S, Rejection: Display>> FromRequestParts<S> for Url<E> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let extracted = E::from_request_parts(parts, state).await;
        extracted.map(Self).map_err(|wrong| ApiError::invalid("url", wrong.to_string()))
    }
}
