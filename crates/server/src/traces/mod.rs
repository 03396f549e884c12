//! Traces of requests for OpenTelemetry, with the feature `otel`; without it, nothing.
//!
//! A request is a span, whose parent is the one that the client names in `traceparent`. Each of its answers is one beneath,
//! with three of its own: how long it waited (`queue`), until its first token (`prefill`), and from there on (`decode`). No
//! text of prompts or answers is in them.

#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otel;

use std::time::Instant;

use lookahead_engine::{FinishReason, GenerationStats};
#[cfg(not(feature = "otel"))]
pub(crate) use off::RequestTrace;
#[cfg(feature = "otel")]
pub(crate) use otel::RequestTrace;

/// An answer that has ended.
#[cfg_attr(not(feature = "otel"), allow(dead_code))]
pub(crate) struct AnswerTimes<'a> {
    pub(crate) received: Instant,
    /// When it was begun, if it was.
    pub(crate) admitted: Option<Instant>,
    pub(crate) first_token: Option<Instant>,
    pub(crate) finish_reason: FinishReason,
    pub(crate) stats: &'a GenerationStats,
}
