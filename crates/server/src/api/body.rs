//! Bodies of requests: read with a bound and a timeout, and parsed so that an error names the field.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admission::{Resource, Ticket};
use crate::error::ApiError;
use crate::state::State;

/// Values of a body, at most. Parsed, each takes up to 150 bytes, even where it is two as text.
const MAX_VALUES: usize = 1 << 20;

/// Fields of other servers that ask for nothing that changes an answer: they are ignored, as there. So are the settings of
/// samplers that [`is_at_rest`] lets pass only while they are off.
const HARMLESS: [&str; 19] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
    "cache_prompt",
    "id_slot",
    "timings_per_token",
    "dry_allowed_length",
    "dry_base",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "mirostat_eta",
    "mirostat_tau",
    "xtc_threshold",
];

/// Whether a field that this server has not asks for nothing as it is. Clients of llama.cpp's server and of vLLM send all
/// that those know, most of it switched off.
fn is_at_rest(name: &str, value: &Value) -> bool {
    match name {
        "dry_multiplier" | "dynatemp_range" | "min_keep" | "min_tokens" | "mirostat" | "n_keep"
        | "n_probs" | "prompt_logprobs" | "xtc_probability" => value.as_f64() == Some(0.0),
        "length_penalty" | "typical_p" => value.as_f64() == Some(1.0),
        "t_max_predict_ms" | "top_n_sigma" => value.as_f64().is_some_and(|number| number <= 0.0),
        "echo"
        | "include_stop_str_in_output"
        | "post_sampling_probs"
        | "return_progress"
        | "return_tokens"
        | "use_beam_search" => value == false,
        "skip_special_tokens" | "spaces_between_special_tokens" => value == true,
        "bad_words" | "functions" | "lora" | "stop_token_ids" => value.as_array().is_some_and(Vec::is_empty),
        "grammar" => value == "",
        _ => false,
    }
}

/// A request, as an object of fields.
pub(super) struct Fields {
    value: Value,
    /// Those that no part of the request has known so far.
    unknown: BTreeSet<String>,
}

/// Asks for a tenant's request whether it may be taken in hand, and reads its whole body, if that is small enough and comes
/// in time.
pub(super) async fn read(
    state: &State,
    tenant: &Arc<str>,
    request: Request,
) -> Result<(Ticket, Vec<u8>), ApiError> {
    let (body, max_bytes) = (request.into_body(), state.options.max_body_bytes);
    let size = body.size_hint();
    if size.lower() > max_bytes as u64 {
        return Err(too_large(max_bytes)); // before it is asked for
    }
    let expected = size.upper().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(max_bytes);
    let mut ticket = state.admission.admit(tenant, expected)?;
    let bytes = tokio::time::timeout(state.options.client_timeout, collect(body, expected, max_bytes))
        .await
        .unwrap_or_else(|_| Err(ApiError::client_timeout()))?;
    ticket.hold(Resource::BodyBytes, bytes.len())?;
    Ok((ticket, bytes))
}

fn too_large(max_bytes: usize) -> ApiError {
    ApiError::too_large(format!("the request is larger than the {max_bytes} bytes of --max-body"))
}

/// Copies the pieces together as they come: a piece keeps the buffer that it was read into, and a client may send them byte
/// by byte.
async fn collect(mut body: Body, expected: usize, max_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::with_capacity(expected);
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::invalid("body", format!("the body could not be read: {error}")))?;
        let piece = frame.data_ref().map_or(&[][..], Bytes::as_ref);
        if piece.len() > max_bytes - bytes.len() {
            return Err(too_large(max_bytes));
        }
        bytes.extend_from_slice(piece);
    }
    Ok(bytes)
}

impl Fields {
    /// The fields of a JSON object.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let values = count_values(bytes);
        if values > MAX_VALUES {
            let message = format!("the body has {values} values; this server takes up to {MAX_VALUES}");
            return Err(ApiError::invalid("body", message));
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| ApiError::invalid("body", format!("the body is not valid JSON: {error}")))?;
        let Value::Object(fields) = &value else {
            return Err(ApiError::invalid("body", "the body is not a JSON object"));
        };
        let unknown = fields
            .iter()
            .filter(|(name, value)| {
                !(value.is_null() || HARMLESS.contains(&name.as_str()) || is_at_rest(name, value))
            })
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Self { value, unknown })
    }

    /// A part of the request: the fields that `T` has.
    pub(super) fn part<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let mut ignored = BTreeSet::new();
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(&self.value, &mut track);
        let part = serde_ignored::deserialize(deserializer, |path| {
            ignored.insert(path.to_string());
        });
        let part = part.map_err(|error: serde_json::Error| {
            let param = track.path().to_string();
            ApiError::invalid(param.clone(), format!("`{param}`: {error}"))
        })?;
        self.unknown.retain(|name| ignored.contains(name));
        Ok(part)
    }

    /// Refuses the request if there are fields that no part has known: what a client asks for is done or refused.
    pub(super) fn refuse_unknown(&self) -> Result<(), ApiError> {
        match self.unknown.first() {
            None => Ok(()),
            Some(name) => Err(ApiError::unsupported(
                name,
                format!("`{name}` is no argument of this request, or none that this server supports"),
            )),
        }
    }
}

/// About how many values a text of JSON has: as many as stand behind brackets, commas and colons.
fn count_values(bytes: &[u8]) -> usize {
    let (mut count, mut in_string, mut is_escaped) = (0, false, false);
    for &byte in bytes {
        if in_string {
            in_string = is_escaped || byte != b'"';
            is_escaped = byte == b'\\' && !is_escaped;
        } else {
            in_string = byte == b'"';
            count += usize::from(matches!(byte, b'[' | b'{' | b',' | b':'));
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct One {
        a: Option<f32>,
    }

    #[derive(Debug, Deserialize)]
    struct Two {
        b: Option<Vec<String>>,
    }

    #[test]
    fn parts_take_their_fields_and_the_rest_is_unknown() {
        let mut fields = Fields::parse(br#"{"a": 1, "b": ["x"], "user": "me", "c": null}"#).unwrap();
        assert_eq!(fields.part::<One>().unwrap().a, Some(1.0));
        assert_eq!(fields.refuse_unknown().unwrap_err().message().split(' ').next(), Some("`b`"));
        assert_eq!(fields.part::<Two>().unwrap().b.unwrap(), ["x"]);
        fields.refuse_unknown().unwrap();
    }

    #[test]
    fn what_is_switched_off_may_be_sent_along() {
        let off = br#"{"typical_p": 1.0, "mirostat": 0, "mirostat_tau": 5, "lora": [], "grammar": "", "echo": false}"#;
        Fields::parse(off).unwrap().refuse_unknown().unwrap();
        for on in [
            r#"{"typical_p": 0.9}"#,
            r#"{"mirostat": 2}"#,
            r#"{"lora": [{}]}"#,
            r#"{"skip_special_tokens": false}"#,
        ] {
            assert!(Fields::parse(on.as_bytes()).unwrap().refuse_unknown().is_err(), "{on}");
        }
    }

    #[test]
    fn a_body_of_too_many_values_is_refused_before_it_is_parsed() {
        assert_eq!(count_values(br#"{"a": ["x,[{:", "\\", "\",[", 3]}"#), 6);
        let body = |values: usize| format!("{{\"a\": [{}0]}}", "0,".repeat(values)).into_bytes();
        assert!(Fields::parse(&body(MAX_VALUES - 3)).is_ok());
        let error = Fields::parse(&body(MAX_VALUES)).err().unwrap();
        assert!(error.message().contains("values; this server takes up to 1048576"), "{}", error.message());
    }

    #[test]
    fn an_error_names_the_field() {
        let mut fields = Fields::parse(br#"{"b": ["x", 3]}"#).unwrap();
        let error = fields.part::<Two>().unwrap_err();
        assert!(error.message().starts_with("`b[1]`: invalid type"), "{}", error.message());
        for bad in ["", "[]", "{", "3"] {
            assert!(Fields::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
