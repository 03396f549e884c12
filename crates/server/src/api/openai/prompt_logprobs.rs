//! Log probabilities of a prompt's tokens, in vLLM's form.

use lookahead_engine::TokenLogprobs;
use lookahead_model::TokenId;
use lookahead_model::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::logprobs::{check_top, finite};
use crate::error::ApiError;
use crate::worker::AnswerToken;

/// What `prompt_logprobs` asks for: so many of the likeliest tokens at each place of the prompt.
#[derive(Clone, Copy, Debug)]
pub(super) struct PromptLogprobs {
    top: usize,
}

impl PromptLogprobs {
    /// Reads the field, for an answer that comes as a stream or whole.
    pub(super) fn read(top: Option<usize>, is_stream: bool) -> Result<Option<Self>, ApiError> {
        let Some(top) = top else { return Ok(None) };
        let param = "prompt_logprobs";
        if is_stream {
            let message = "prompt_logprobs are told with whole answers only; leave them or `stream` out";
            return Err(ApiError::unsupported(param, message));
        }
        Ok(Some(Self { top: check_top(param, top)? }))
    }

    /// How many of the likeliest tokens the engine must tell, where an answer's own tokens are told with so many.
    pub(super) fn with_answers(self, top: Option<usize>) -> usize {
        top.map_or(self.top, |top| top.max(self.top))
    }

    /// A list with an object for each token of a prompt: nothing for the first, which follows from nothing. `behind` are those
    /// behind it.
    pub(super) fn list(self, tokenizer: &Tokenizer, behind: &[AnswerToken]) -> Value {
        let of_token = |token: &AnswerToken| {
            let Some(TokenLogprobs { logprob, top }) = &token.logprobs else { return Value::Null };
            let entry = |id: TokenId, logprob: f32, rank: Option<usize>| {
                let text = String::from_utf8_lossy(tokenizer.token_bytes(id));
                json!({ "logprob": finite(logprob), "rank": rank, "decoded_token": text })
            };
            let mut entries = Map::new();
            let rank = top.iter().position(|(id, _)| *id == token.id).map(|place| place + 1);
            entries.insert(token.id.to_string(), entry(token.id, *logprob, rank));
            for (place, &(id, logprob)) in top.iter().enumerate().take(self.top) {
                entries.entry(id.to_string()).or_insert_with(|| entry(id, logprob, Some(place + 1)));
            }
            entries.into()
        };
        [Value::Null].into_iter().chain(behind.iter().map(of_token)).collect()
    }
}
