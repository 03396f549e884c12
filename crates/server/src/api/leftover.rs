//! What handlers leave of a request's body: read and thrown away before the answer goes out.
//!
//! A connection that ends with bytes unread is reset, and the reset may overtake the answer: a client that is still sending
//! would see a broken pipe in place of "too large" or "wrong key" (RFC 9112, section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::extract::Shared;

/// The most that is read for nothing. A client that sends more has to notice the end of the connection.
const MAX_BYTES: u64 = 64 << 20;

/// Lends the handler the body, and reads what it has left.
pub(super) async fn read(state: Shared, request: Request, next: Next) -> Response {
    // Such a client sends nothing unless it is asked to.
    if request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let (back, mut returned) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body, back: Some(back) }));
    let response = next.run(request).await;
    if let Ok(body) = returned.try_recv() {
        let _ = tokio::time::timeout(state.options.client_timeout, drain(body)).await;
    }
    response
}

async fn drain(mut body: Body) {
    let mut left = MAX_BYTES;
    if body.size_hint().lower() > left {
        return;
    }
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}

/// A body that goes back when it is dropped.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}
