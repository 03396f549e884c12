//! Traces of requests for OpenTelemetry, with the feature `otel`; without it, nothing.
//!
//! A request is a span, whose parent is the one that the client names in `traceparent`. Each of its answers is one beneath,
//! with three of its own: how long it waited (`queue`), until its first token (`prefill`), and from there on (`decode`). No
//! text of prompts or answers is in them.

mod answer_times;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otel;

pub(crate) use answer_times::AnswerTimes;
#[cfg(not(feature = "otel"))]
pub(crate) use off::RequestTrace;
#[cfg(feature = "otel")]
pub(crate) use otel::RequestTrace;
