//! What llama-server answers.

use std::time::Duration;

use lookahead_model::TokenId;
use serde::Deserialize;

/// What another program made of a prompt, and how long it took by its own clock.
///
/// The times are those of llama-server's `timings`, which leave HTTP and the making of text out. Its clock for the prompt
/// stops when the first token has been sampled, and the clock for `predicted_ms` starts at the same moment and stops when the
/// last tokens have been sampled or verified; yet `predicted_n` counts the first token too. So `predicted_ms` is what the
/// tokens *after the first* took. Ours is measured in the same way: time to the first token, and the tokens after it by the
/// time after it. The server's own `predicted_per_second` is not used: older versions divide all tokens by the time without
/// the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// The new tokens, with the one that ended the answer, if one did.
    pub token_ids: Vec<TokenId>,
    /// Tokens that [`decode`](Self::decode) was spent on: all but the first.
    pub decode_tokens: usize,
    /// From the first token to the last: `predicted_ms`.
    pub decode: Duration,
    /// From the start of the prompt to the first token: `prompt_ms`.
    pub prefill: Duration,
}

/// The fields that are read; a missing one is an error with its name.
#[derive(Deserialize)]
struct Completion {
    tokens: Vec<TokenId>,
    timings: Timings,
}

#[derive(Deserialize)]
struct Timings {
    prompt_n: usize,
    prompt_ms: f64,
    predicted_n: usize,
    predicted_ms: f64,
}

impl PeerAnswer {
    /// Reads the JSON `body` that answers a prompt of `prompt_tokens`, or says what is wrong with it.
    pub(super) fn parse(body: &[u8], prompt_tokens: usize, max_tokens: usize) -> Result<Self, String> {
        let Completion { tokens, timings } =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if tokens.len() > max_tokens {
            return Err(format!("`tokens` holds {} ids, more than the {max_tokens} asked for", tokens.len()));
        }
        // A server that does not list its tokens cannot be compared, and one that kept a part of the prompt from the last
        // request was not timed on all of it.
        if timings.predicted_n != tokens.len() {
            let (n, len) = (timings.predicted_n, tokens.len());
            return Err(format!("`timings.predicted_n` is {n}, and `tokens` holds {len} ids"));
        }
        if timings.prompt_n != prompt_tokens {
            let n = timings.prompt_n;
            return Err(format!("`timings.prompt_n` is {n}, and the prompt has {prompt_tokens} tokens"));
        }
        Ok(Self {
            decode_tokens: tokens.len().saturating_sub(1),
            token_ids: tokens,
            decode: duration("timings.predicted_ms", timings.predicted_ms)?,
            prefill: duration("timings.prompt_ms", timings.prompt_ms)?,
        })
    }
}

fn duration(field: &str, ms: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(ms / 1000.0).map_err(|error| format!("`{field}` is {ms}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<PeerAnswer, String> {
        PeerAnswer::parse(body.as_bytes(), 5, 3)
    }

    #[test]
    fn decoding_is_all_tokens_but_the_first() {
        let body = r#"{"content": "abc", "tokens": [7, 8, 9], "timings": {"cache_n": 0, "prompt_n": 5, "prompt_ms": 2.5,
            "predicted_n": 3, "predicted_ms": 40, "predicted_per_second": 50.0}}"#;
        let expected = PeerAnswer {
            token_ids: vec![7, 8, 9],
            decode_tokens: 2,
            decode: Duration::from_millis(40),
            prefill: Duration::from_micros(2500),
        };
        assert_eq!(parse(body).unwrap(), expected);
    }

    #[test]
    fn an_answer_of_no_tokens_has_no_decode_tokens() {
        let body = r#"{"tokens": [], "timings": {"prompt_n": 5, "prompt_ms": 1, "predicted_n": 0, "predicted_ms": 0}}"#;
        assert_eq!(parse(body).unwrap().decode_tokens, 0);
    }

    #[test]
    fn a_wrong_answer_is_refused_by_field() {
        let timings = r#""prompt_n": 5, "prompt_ms": 1.0, "predicted_n": 1, "predicted_ms": 0.001"#;
        let body =
            |tokens: &str, timings: &str| format!(r#"{{"tokens": {tokens}, "timings": {{{timings}}}}}"#);
        parse(&body("[1]", timings)).unwrap();
        let long = format!("[{}1]", "1, ".repeat(100_000));
        let cases = [
            (body("[1, 2]", timings), "`timings.predicted_n` is 1, and `tokens` holds 2 ids"),
            (body(&long, timings), "`tokens` holds 100001 ids, more than the 3 asked for"),
            (body("[-1]", timings), "invalid value: integer `-1`, expected u32"),
            (body("null", timings), "invalid type: null, expected a sequence"),
            (body("[1]", &timings.replace('5', "0")), "`timings.prompt_n` is 0, and the prompt has 5 tokens"),
            (body("[1]", &timings.replace("1.0", "-1.0")), "`timings.prompt_ms` is -1"),
            (body("[1]", &timings.replace("1.0", "1e300")), "`timings.prompt_ms` is 1"),
            (body("[1]", &timings.replace("1.0", "null")), "invalid type: null, expected f64"),
            (body("[1]", &timings.replace("predicted_n", "n")), "missing field `predicted_n`"),
            (body("[1]", &timings.replace("predicted_ms", "ms")), "missing field `predicted_ms`"),
            (body("[1]", &timings.replace("prompt_n", "n")), "missing field `prompt_n`"),
            (body("[1]", &timings.replace("prompt_ms", "ms")), "missing field `prompt_ms`"),
            (format!(r#"{{"timings": {{{timings}}}}}"#), "missing field `tokens`"),
            (r#"{"tokens": [1]}"#.to_owned(), "missing field `timings`"),
            (format!(r#"{{"x": {}"#, "[".repeat(100_000)), "EOF"),
            (String::new(), "EOF"),
        ];
        for (body, expected) in cases {
            let error = parse(&body).unwrap_err();
            assert!(error.contains(expected), "{error}: expected {expected}");
        }
    }
}
