//! Bodies of requests: read with a bound and a timeout, and parsed so that an error names the field.

use std::collections::BTreeSet;

use axum::body::HttpBody as _;
use axum::extract::Request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ApiError;
use crate::options::ServerOptions;

/// Fields of other servers that ask for nothing that changes an answer: they are ignored, as there.
const HARMLESS: [&str; 12] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
    "reasoning_effort",
    "cache_prompt",
    "id_slot",
    "timings_per_token",
];

/// A request, as an object of fields.
pub(super) struct Fields {
    value: Value,
    /// Those that no part of the request has known so far.
    unknown: BTreeSet<String>,
}

/// Reads a whole body, if it is small enough and comes in time.
pub(super) async fn read(options: &ServerOptions, request: Request) -> Result<Vec<u8>, ApiError> {
    let (body, max_bytes) = (request.into_body(), options.max_body_bytes);
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(ApiError::too_large(max_bytes)); // before it is asked for
    }
    match tokio::time::timeout(options.client_timeout, Limited::new(body, max_bytes).collect()).await {
        Err(_) => Err(ApiError::client_timeout()),
        Ok(Ok(collected)) => Ok(collected.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(max_bytes)),
        Ok(Err(error)) => Err(ApiError::invalid("body", format!("the body could not be read: {error}"))),
    }
}

impl Fields {
    /// The fields of a JSON object.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| ApiError::invalid("body", format!("the body is not valid JSON: {error}")))?;
        let Value::Object(fields) = &value else {
            return Err(ApiError::invalid("body", "the body is not a JSON object"));
        };
        let unknown = fields
            .iter()
            .filter(|(name, value)| !value.is_null() && !HARMLESS.contains(&name.as_str()))
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
    fn an_error_names_the_field() {
        let mut fields = Fields::parse(br#"{"b": ["x", 3]}"#).unwrap();
        let error = fields.part::<Two>().unwrap_err();
        assert!(error.message().starts_with("`b[1]`: invalid type"), "{}", error.message());
        for bad in ["", "[]", "{", "3"] {
            assert!(Fields::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
