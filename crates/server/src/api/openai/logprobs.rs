//! Log probabilities, in the two forms that OpenAI gives them.

use lookahead_engine::TokenLogprobs;
use lookahead_model::TokenId;
use lookahead_model::tokenizer::{DecodeOptions, TokenStream, Tokenizer};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::worker::AnswerToken;

/// The most likely tokens that a request may ask for.
const MAX_TOP: usize = 20;

/// What stands for minus infinity, which JSON has not; OpenAI's choice.
const IMPOSSIBLE: f32 = -9999.0;

/// How many of the most likely tokens are asked for.
pub(in crate::api) fn check_top(param: &str, count: usize) -> Result<usize, ApiError> {
    if count > MAX_TOP {
        return Err(ApiError::invalid(param, format!("{param} is {count}; it must be 0 to {MAX_TOP}")));
    }
    Ok(count)
}

/// Leaves so many of the most likely tokens of each: the engine may have told more, for the prompt's.
pub(super) fn keep_top(tokens: &mut [AnswerToken], top: usize) {
    tokens
        .iter_mut()
        .filter_map(|token| token.logprobs.as_mut())
        .for_each(|logprobs| logprobs.top.truncate(top));
}

/// A token of a chat's answer.
pub(in crate::api) fn of_chat(tokenizer: &Tokenizer, token: &AnswerToken) -> Option<Value> {
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
pub(super) struct TextLogprobs {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    /// Where the next token's text begins.
    offset: usize,
    /// The text as the tokens make it: what is shown may wait for more tokens, until no stop string can begin in it.
    stream: TokenStream,
    /// Tokens of the prompt in front that are still to come.
    echo_left: usize,
}

impl TextLogprobs {
    /// Of an answer behind the tokens of `echo`. Before the first of them there is nothing that it could follow from.
    pub(super) fn new(tokenizer: &Tokenizer, echo: &[TokenId]) -> Self {
        let options = DecodeOptions { continuation: echo.is_empty(), ..DecodeOptions::default() };
        let mut logprobs = Self {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            top: Vec::new(),
            offsets: Vec::new(),
            offset: 0,
            stream: tokenizer.stream(options),
            echo_left: echo.len(),
        };
        if let Some(&first) = echo.first() {
            logprobs.tokens.push(String::from_utf8_lossy(tokenizer.token_bytes(first)).into());
            logprobs.logprobs.push(Value::Null);
            logprobs.top.push(Value::Null);
            logprobs.place(tokenizer, first);
        }
        logprobs
    }

    /// Notes where a token's text begins.
    fn place(&mut self, tokenizer: &Tokenizer, token: TokenId) {
        self.offsets.push(self.offset.into());
        self.offset += self.stream.push(token).chars().count();
        if self.echo_left == 1 {
            self.offset += self.stream.finish().chars().count();
            self.stream = tokenizer.stream(DecodeOptions { continuation: true, ..DecodeOptions::default() });
        }
        self.echo_left = self.echo_left.saturating_sub(1);
    }

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
        self.place(tokenizer, token.id);
    }

    /// What has come since the last time.
    pub(super) fn take(&mut self) -> Value {
        let [tokens, logprobs, top, offsets] =
            [&mut self.tokens, &mut self.logprobs, &mut self.top, &mut self.offsets].map(std::mem::take);
        json!({ "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets })
    }
}

/// The number, or what stands for one that JSON has not.
pub(super) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { IMPOSSIBLE }
}
