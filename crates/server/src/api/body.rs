//! Bodies of requests: read with a bound and a timeout, and parsed so that an error names the field.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::{Map, Value};

use super::known_fields::{Treatment, treatment};
use crate::admission::{Resource, Ticket};
use crate::error::ApiError;
use crate::excerpt::excerpt;
use crate::state::State;

/// Values of a body, at most. Parsed, each takes up to 150 bytes, even where it is two as text.
const MAX_VALUES: usize = 1 << 20;

/// Names of fields within objects of a request that are told as passed over, at most.
const MAX_UNKNOWN_WITHIN: usize = 16;

/// What some programs of Windows put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The header of an answer that names the fields of its request that were passed over.
const IGNORED: HeaderName = HeaderName::from_static("x-lookahead-ignored");

/// A request, as an object of fields.
pub(super) struct Fields {
    value: Value,
    /// Those that no part of the request has known so far.
    unknown: BTreeSet<String>,
    /// Fields of objects within it that no part has known, by their paths without indexes.
    unknown_within: BTreeSet<String>,
    /// What becomes of those that none knows in the end.
    treatment: fn(&str, &Value) -> Treatment,
    /// Where the object stands, for errors: empty, or a path with a dot behind it.
    place: &'static str,
}

/// Names of the fields of a request that were left out of what was done.
#[derive(Debug, Default)]
pub(super) struct PassedOver(Vec<String>);

impl PassedOver {
    /// Refuses what is passed over, for a server that is strict.
    pub(super) fn refuse_if(&self, is_strict: bool) -> Result<(), ApiError> {
        match self.0.first().filter(|_| is_strict) {
            None => Ok(()),
            Some(name) => Err(ApiError::unsupported(
                name,
                format!(
                    "`{name}` does nothing here; leave it out, or start the server without --strict-fields"
                ),
            )),
        }
    }

    /// Adds those of another part of the request.
    pub(super) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Tells the client in a header, and the operator in the log.
    pub(super) fn tell(&self, response: &mut Response) {
        if self.0.is_empty() {
            return;
        }
        let names = self.0.join(", ");
        tracing::debug!(fields = names, "passed over");
        if let Ok(names) = HeaderValue::from_str(&names) {
            response.headers_mut().insert(IGNORED, names);
        }
    }
}

/// Asks for a tenant's request whether it may be taken in hand, and reads its whole body, if that is small enough and comes
/// in time.
pub(super) async fn read(
    state: &State,
    tenant: &Arc<str>,
    request: Request,
) -> Result<(Ticket, Vec<u8>), ApiError> {
    check_encoding(request.headers())?;
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

/// Refuses a body in an encoding that is not read here: of one that is, the header has gone when its bytes come.
fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let message = format!(
                "the body is said to be encoded as {encoding:?}; this server reads gzip and plain JSON"
            );
            Err(ApiError::unsupported_media_type(message))
        }
        _ => Ok(()),
    }
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
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let values = count_values(bytes);
        if values > MAX_VALUES {
            let message = format!("the body has {values} values; this server takes up to {MAX_VALUES}");
            return Err(ApiError::invalid("body", message));
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| ApiError::invalid("body", format!("the body is not valid JSON: {error}")))?;
        match value {
            Value::Object(fields) => Ok(Self::of(fields, treatment, "")),
            _ => Err(ApiError::invalid("body", "the body is not a JSON object")),
        }
    }

    /// The fields of an object that stands at `place`, such as `options.`.
    pub(super) fn of(
        fields: Map<String, Value>,
        treatment: fn(&str, &Value) -> Treatment,
        place: &'static str,
    ) -> Self {
        let asks = |(name, value): &(&String, &Value)| treatment(name, value) != Treatment::Passes;
        let unknown = fields.iter().filter(asks).map(|(name, _)| name.clone()).collect();
        let (value, unknown_within) = (Value::Object(fields), BTreeSet::new());
        Self { value, unknown, unknown_within, treatment, place }
    }

    /// A part of the request: the fields that `T` has.
    pub(super) fn part<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let mut ignored = BTreeSet::new();
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(&self.value, &mut track);
        let (value, within) = (&self.value, &mut self.unknown_within);
        let part = serde_ignored::deserialize(deserializer, |path| match &path {
            Path::Map { parent: Path::Root, key } => {
                ignored.insert(key.clone());
            }
            _ if within.len() < MAX_UNKNOWN_WITHIN && at(value, &path).is_some_and(asks) => {
                within.insert(name_of(&path));
            }
            _ => {}
        });
        let part = part.map_err(|error: serde_json::Error| {
            let place = match track.path().to_string().as_str() {
                "." => self.place.to_owned(), // the object itself
                path => format!("{}{path}.", self.place),
            };
            let problem = error.to_string();
            // Of these the path is that of the object.
            for (words, told) in
                [("missing field", "is missing"), ("duplicate field", "is given twice, by two of its names")]
            {
                let name = problem.strip_prefix(words).and_then(|rest| rest.split('`').nth(1));
                if let Some(name) = name {
                    let param = format!("{place}{name}");
                    let message = format!("`{param}` {told}");
                    return ApiError::invalid(param, message);
                }
            }
            let param = place.trim_end_matches('.');
            ApiError::invalid(param, format!("`{}`: {problem}", excerpt(param)))
        })?;
        self.unknown.retain(|name| ignored.contains(name));
        Ok(part)
    }

    /// Refuses the request if there are fields that no part has known and that would change an answer: what a client asks for
    /// is done or refused. The rest of them is passed over.
    pub(super) fn refuse_unknown(&self) -> Result<PassedOver, ApiError> {
        let mut passed_over = Vec::new();
        for name in &self.unknown {
            let (value, name) = (&self.value[name], format!("{}{name}", self.place));
            match (self.treatment)(&name[self.place.len()..], value) {
                Treatment::Passes => {}
                Treatment::PassedOver => passed_over.push(name),
                Treatment::Refused(reason) => {
                    let name = excerpt(&name);
                    return Err(ApiError::unsupported(&name, format!("`{name}` {reason}")));
                }
            }
        }
        passed_over.extend(self.unknown_within.iter().map(|name| format!("{}{name}", self.place)));
        Ok(PassedOver(passed_over))
    }
}

/// The value at a path.
fn at<'v>(value: &'v Value, path: &Path<'_>) -> Option<&'v Value> {
    match path {
        Path::Root => Some(value),
        Path::Seq { parent, index } => at(value, parent)?.get(index),
        Path::Map { parent, key } => at(value, parent)?.get(key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            at(value, parent)
        }
    }
}

/// What a path is called, whichever of a list it goes through.
fn name_of(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, .. } => format!("{}[]", name_of(parent)),
        Path::Map { parent: Path::Root, key } => key.clone(),
        Path::Map { parent, key } => {
            // It may come to stand in a header.
            let key: String = excerpt(key).escape_default().collect();
            format!("{}.{key}", name_of(parent))
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            name_of(parent)
        }
    }
}

/// Whether a value that is not known asks for something: clients write out what is empty or off.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_on) => *is_on,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(_) => true,
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
    fn what_is_passed_over_is_told_and_refused_where_the_server_is_strict() {
        let fields =
            Fields::parse(br#"{"mode": "chat", "user": "me", "n_ctx": 4096, "typical_p": 1.0}"#).unwrap();
        let passed_over = fields.refuse_unknown().unwrap();
        let mut response = Response::default();
        passed_over.tell(&mut response);
        assert_eq!(response.headers()[IGNORED], "mode, n_ctx");
        passed_over.refuse_if(false).unwrap();
        let refused = passed_over.refuse_if(true).unwrap_err();
        assert!(refused.message().starts_with("`mode` does nothing here"), "{}", refused.message());
        let mut response = Response::default();
        Fields::parse(b"{}").unwrap().refuse_unknown().unwrap().tell(&mut response);
        assert!(response.headers().is_empty());
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
        assert_eq!(Fields::parse(b"\xEF\xBB\xBF{\"a\": 1}").unwrap().part::<One>().unwrap().a, Some(1.0));
        for bad in ["", "[]", "{", "3"] {
            assert!(Fields::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
