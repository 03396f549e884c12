//! Log probabilities, in the two forms that OpenAI gives them.

use lookahead_engine::TokenLogprobs;
use lookahead_model::TokenId;
use lookahead_model::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::worker::AnswerToken;

/// The most likely tokens that a request may ask for.
const MAX_TOP: usize = 20;

/// What stands for minus infinity, which JSON has not; OpenAI's choice.
const IMPOSSIBLE: f32 = -9999.0;

/// How many of the most likely tokens are asked for.
pub(super) fn check_top(param: &str, count: usize) -> Result<usize, ApiError> {
    if count > MAX_TOP {
        return Err(ApiError::invalid(param, format!("{param} is {count}; it must be 0 to {MAX_TOP}")));
    }
    Ok(count)
}

/// A token of a chat's answer.
pub(super) fn of_chat(tokenizer: &Tokenizer, token: &AnswerToken) -> Option<Value> {
    let TokenLogprobs { logprob, top } = token.logprobs.as_ref()?;
    let entry = |id: TokenId, logprob: f32| {
        let bytes = tokenizer.token_bytes(id);
        json!({ "token": String::from_utf8_lossy(bytes), "logprob": finite(logprob), "bytes": bytes })
    };
    let mut object = entry(token.id, *logprob);
    object["top_logprobs"] = top.iter().map(|&(id, logprob)| entry(id, logprob)).collect();
    Some(object)
}

/// The tokens of a text completion: parallel lists.
#[derive(Default)]
pub(super) struct TextLogprobs {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    /// Where the next token's text begins.
    offset: usize,
}

impl TextLogprobs {
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, token: &AnswerToken) {
        let Some(TokenLogprobs { logprob, top }) = &token.logprobs else { return };
        let name = |id: TokenId| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
        self.tokens.push(name(token.id).into());
        self.logprobs.push(finite(*logprob).into());
        let mut likeliest = serde_json::Map::new();
        for &(id, logprob) in top {
            likeliest.entry(name(id)).or_insert_with(|| finite(logprob).into());
        }
        self.top.push(likeliest.into());
        self.offsets.push(self.offset.into());
        self.offset += token.text.chars().count();
    }

    /// What has come since the last time.
    pub(super) fn take(&mut self) -> Value {
        let offset = self.offset;
        let Self { tokens, logprobs, top, offsets, .. } = std::mem::take(self);
        self.offset = offset;
        json!({ "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets })
    }
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { IMPOSSIBLE }
}
