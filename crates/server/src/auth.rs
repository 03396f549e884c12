//! Who asks: API keys, each a tenant with a namespace of its own.

use axum::http::{HeaderMap, HeaderName, header};
use subtle::ConstantTimeEq as _;

use crate::error::ApiError;

/// The tenant that everyone is where there are no keys.
const EVERYONE: &str = "default";

/// Where Anthropic's clients send their key.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Characters of a tenant's name, at most.
const MAX_NAME: usize = 64;

/// A client's key.
#[derive(Clone)]
pub struct ApiKey {
    tenant: String,
    /// Of the secret: hashes are of one length, so comparing them tells nothing of it.
    hash: [u8; 32],
}

/// A key that cannot be used. It does not say the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// There is no secret.
    #[error("an API key is empty")]
    Empty,
    /// The name in front of the colon could not name a namespace.
    #[error("{0:?} cannot name an API key: up to {MAX_NAME} letters, digits, `-`, `_` and `.` can")]
    Name(String),
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl ApiKey {
    /// A key as an operator writes it: the secret, or `name:secret`. Without a name, the tenant is called by the first
    /// digits of the secret's hash.
    ///
    /// # Errors
    /// If there is no secret, or the name has other characters than names may have.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let (name, secret) = match text.split_once(':') {
            Some((name, secret)) => (Some(name), secret),
            None => (None, text),
        };
        if secret.is_empty() {
            return Err(InvalidKey::Empty);
        }
        let hash = blake3::hash(secret.as_bytes());
        let tenant = match name {
            Some(name) if is_name(name) => name.to_owned(),
            Some(name) => return Err(InvalidKey::Name(name.to_owned())),
            None => format!("key-{}", &hash.to_hex()[..8]),
        };
        Ok(Self { tenant, hash: *hash.as_bytes() })
    }
}

/// Whether `name` may name a tenant or a namespace.
pub(crate) fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_path = name.chars().all(|c| c == '.'); // of folders, in URLs as well
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_allowed) && !is_path
}

/// Finds out whose key the request bears: as OpenAI's clients send it, or as Anthropic's. Every key is compared, however early
/// one fits.
pub(crate) fn tenant_of(keys: &[ApiKey], headers: &HeaderMap) -> Result<String, ApiError> {
    if keys.is_empty() {
        return Ok(EVERYONE.to_owned());
    }
    let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = value(&header::AUTHORIZATION).and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then_some(secret)
    });
    let sent: Vec<&str> = bearer.into_iter().chain(value(&API_KEY)).collect();
    if sent.is_empty() {
        return Err(ApiError::unauthorized(
            "this server wants an API key: send the header `Authorization: Bearer KEY`, or `x-api-key: KEY`",
        ));
    }
    let tenant = sent.into_iter().find_map(|secret| owner_of(keys, secret.trim()));
    tenant.ok_or_else(|| ApiError::unauthorized("this API key is not one of this server's"))
}

fn owner_of(keys: &[ApiKey], secret: &str) -> Option<String> {
    let hash = *blake3::hash(secret.as_bytes()).as_bytes();
    let mut tenant = None;
    for key in keys {
        if bool::from(key.hash.ct_eq(&hash)) {
            tenant = Some(&key.tenant);
        }
    }
    tenant.cloned()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn tenant(keys: &[&str], authorization: Option<&str>) -> Option<String> {
        let keys: Vec<ApiKey> = keys.iter().map(|key| ApiKey::parse(key).unwrap()).collect();
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        tenant_of(&keys, &headers).ok()
    }

    #[test]
    fn a_key_names_its_tenant_and_nothing_else_is_one() {
        let keys = ["alice:s3cret", "bare"];
        assert_eq!(tenant(&keys, Some("Bearer s3cret")).as_deref(), Some("alice"));
        // Schemes are told apart without regard to case (RFC 9110, section 11.1).
        for scheme in ["bearer", "BEARER"] {
            assert_eq!(tenant(&keys, Some(&format!("{scheme} s3cret"))).as_deref(), Some("alice"));
        }
        assert!(tenant(&keys, Some("Bearer bare")).unwrap().starts_with("key-"));
        for wrong in
            [None, Some("Bearer "), Some("Bearer alice"), Some("Bearer alice:s3cret"), Some("Basic s3cret")]
        {
            assert_eq!(tenant(&keys, wrong), None, "{wrong:?}");
        }
        assert_eq!(tenant(&[], None).as_deref(), Some("default"));
    }

    #[test]
    fn a_key_may_come_in_either_header() {
        let keys = ["alice:a", "bob:b"].map(|key| ApiKey::parse(key).unwrap());
        for (authorization, api_key, owner) in [
            (None, Some("a"), Some("alice")),
            (None, Some("c"), None),
            (Some("Bearer c"), Some("b"), Some("bob")),
            (Some("Bearer a"), Some("b"), Some("alice")),
            (Some("Bearer c"), Some("Bearer a"), None),
        ] {
            let sent = [(header::AUTHORIZATION, authorization), (API_KEY, api_key)];
            let sent =
                sent.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_static(value?))));
            assert_eq!(
                tenant_of(&keys, &sent.collect()).ok().as_deref(),
                owner,
                "{authorization:?}, {api_key:?}"
            );
        }
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused_and_secrets_are_not_shown() {
        assert_eq!(ApiKey::parse("").unwrap_err(), InvalidKey::Empty);
        assert_eq!(ApiKey::parse("name:").unwrap_err(), InvalidKey::Empty);
        for name in ["a/b", ".", ".."] {
            assert_eq!(ApiKey::parse(&format!("{name}:x")).unwrap_err(), InvalidKey::Name(name.to_owned()));
        }
        assert!(!format!("{:?}", ApiKey::parse("n:topsecret").unwrap()).contains("topsecret"));
    }
}
