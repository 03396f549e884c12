//! When an answer was begun, and how it ended.

use std::time::Instant;

use lookahead_engine::{FinishReason, GenerationStats};

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
