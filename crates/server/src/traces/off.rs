//! No traces.
#![allow(clippy::unused_self)] // as the traces of the feature `otel`

use axum::extract::Request;

use super::answer_times::AnswerTimes;

/// The trace of a request: none.
#[derive(Clone, Debug)]
pub(crate) struct RequestTrace;

impl RequestTrace {
    pub(crate) fn begin(_: &Request, _: &str) -> Self {
        Self
    }

    pub(crate) fn answered(&self, _: &AnswerTimes<'_>) {}

    pub(crate) fn end(&self, _: u16, _: &str) {}
}
