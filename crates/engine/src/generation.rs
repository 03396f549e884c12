//! A generation that has ended.

use std::fmt;

use lookahead_model::TokenId;

use crate::{GenerationStats, LogitsTrace};

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens` were produced, or the context is full.
    Length,
    /// The user stopped it.
    Cancelled,
}

impl FinishReason {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A finished generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The answer, an end token included.
    pub token_ids: Vec<TokenId>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its numbers.
    pub stats: GenerationStats,
    /// The fingerprint of its logits, if the request asked for it.
    pub logits_trace: Option<LogitsTrace>,
    /// For each token of the answer the model's most likely ones in its place, best first; empty unless the request
    /// asked for it.
    pub runners_up: Vec<Vec<TokenId>>,
}

impl Generation {
    /// Of a request that was given up before it began.
    pub(crate) fn cancelled() -> Self {
        Self {
            token_ids: Vec::new(),
            finish_reason: FinishReason::Cancelled,
            stats: GenerationStats::default(),
            logits_trace: None,
            runners_up: Vec::new(),
        }
    }
}
