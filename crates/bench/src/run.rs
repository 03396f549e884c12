//! One measured generation: what the journal keeps and results are made of.

use std::time::Duration;

use lookahead_engine::Generation;
use lookahead_model::TokenId;
use serde::{Deserialize, Serialize};

use crate::peer::PeerAnswer;
use crate::setting::Warmth;

/// How a prompt was decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Setting {
    /// One token a pass.
    Plain,
    /// With drafts.
    Lookahead {
        /// The name of the draft policy.
        policy: String,
        /// What was known before.
        warmth: Warmth,
    },
    /// By another program.
    Peer {
        /// In this mode.
        mode: String,
    },
}

/// Which generation it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunKey {
    /// The task.
    pub task: String,
    /// The prompt.
    pub prompt: String,
    /// Which of several, from 0.
    pub repeat: usize,
    /// How it was decoded.
    pub setting: Setting,
}

/// One measured generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which one.
    #[serde(flatten)]
    pub key: RunKey,
    /// The answer.
    pub token_ids: Vec<TokenId>,
    /// Tokens that decode steps produced: all but the first.
    pub decode_tokens: usize,
    /// The time of the decode steps.
    pub decode_ms: f64,
    /// The time to the first token.
    pub ttft_ms: f64,
    /// The part of `decode_ms` that drafting took.
    pub retrieval_ms: f64,
    /// Decode steps by drafted nodes: entry `n` counts steps with `n`.
    pub draft_lengths: Vec<u64>,
    /// Decode steps by accepted draft tokens.
    pub accepted_lengths: Vec<u64>,
}

impl Run {
    /// The record of a generation of ours.
    pub(crate) fn of_generation(key: RunKey, generation: Generation) -> Self {
        let decode = generation.stats.decode;
        Self::of_batch(key, vec![generation], decode)
    }

    /// The record of several generations that were decoded together in the time `decode`: their answers one after the
    /// other, and their sums.
    pub(crate) fn of_batch(key: RunKey, generations: Vec<Generation>, decode: Duration) -> Self {
        let (mut token_ids, mut decode_tokens, mut ttft_ms, mut retrieval_ms) = (Vec::new(), 0, 0.0, 0.0);
        let (mut draft_lengths, mut accepted_lengths) = (Vec::new(), Vec::new());
        for Generation { token_ids: answer, stats, .. } in generations {
            token_ids.extend(answer);
            decode_tokens += stats.decode_tokens;
            ttft_ms += stats.prefill.as_secs_f64() * 1e3;
            retrieval_ms += stats.retrieval.as_secs_f64() * 1e3;
            add_counts(&mut draft_lengths, stats.draft_lengths.counts());
            add_counts(&mut accepted_lengths, stats.accepted_lengths.counts());
        }
        let decode_ms = decode.as_secs_f64() * 1e3;
        Self {
            key,
            token_ids,
            decode_tokens,
            decode_ms,
            ttft_ms,
            retrieval_ms,
            draft_lengths,
            accepted_lengths,
        }
    }

    /// The record of another program's answer.
    pub(crate) fn of_peer(key: RunKey, answer: PeerAnswer) -> Self {
        Self {
            key,
            token_ids: answer.token_ids,
            decode_tokens: answer.decode_tokens,
            decode_ms: answer.decode.as_secs_f64() * 1e3,
            ttft_ms: answer.prefill.as_secs_f64() * 1e3,
            retrieval_ms: 0.0,
            draft_lengths: Vec::new(),
            accepted_lengths: Vec::new(),
        }
    }

    /// Decode steps.
    pub fn steps(&self) -> u64 {
        self.draft_lengths.iter().sum()
    }
}

/// Adds a histogram to a sum of histograms.
pub(crate) fn add_counts(sum: &mut Vec<u64>, counts: &[u64]) {
    if sum.len() < counts.len() {
        sum.resize(counts.len(), 0);
    }
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}

/// An answer that teaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// The task.
    pub task: String,
    /// The prompt.
    pub prompt: String,
    /// The answer.
    pub token_ids: Vec<TokenId>,
}
