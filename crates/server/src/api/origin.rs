//! Web pages as clients: a browser sends whatever any page asks it to, with the rights of whoever sits in front of it.
//!
//! So a page of another origin must be allowed to use the server (`Origin`, `Sec-Fetch-Site`), bodies must be of types that a page
//! of another origin cannot send unasked (`Content-Type`), and a server without keys must be called by a name that is its own:
//! a page may point its own name at this machine (DNS rebinding), and is of the server's origin then, but not of its name.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::http::{HeaderMap, HeaderName, Method, Uri, header, uri};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::ApiError;
use crate::options::ServerOptions;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Types of JSON lines, besides those of JSON.
const LINE_TYPES: [&str; 5] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-lines",
];

/// Which pages may use the server, and what it may be called.
pub(super) struct Gate {
    /// Origins of pages; `*` is all.
    origins: Vec<String>,
    /// `None` where there are keys, which a page that rebinds its name does not have.
    hosts: Option<Hosts>,
}

/// What a server may be called.
struct Hosts {
    /// Of this machine, as a loopback address is, or allowed.
    names: Vec<Authority>,
    /// Whether any address is one of this machine. No page can have an address in place of a name without being there.
    any_address: bool,
    any_name: bool,
}

/// The name and the port of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    name: String,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                (address, rest)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':')?.parse().ok()?),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_name = !name.is_empty() && !name.contains(['@', '/', '\\', ' ']);
        is_name.then_some(Self { name, port })
    }

    fn address(&self) -> Option<IpAddr> {
        self.name.parse().ok().map(|address: IpAddr| address.to_canonical())
    }
}

impl Hosts {
    /// The names of a server that listens at `bound`, and those that its operator allows.
    fn new(bound: &str, allowed: &[String]) -> Self {
        let any_address = bound.parse().is_ok_and(|address: IpAddr| address.is_unspecified());
        let own = Authority { name: bound.to_ascii_lowercase(), port: None };
        let names = allowed.iter().filter_map(|name| Authority::parse(name)).chain([own]).collect();
        Self { names, any_address, any_name: allowed.iter().any(|name| name == "*") }
    }

    fn allow(&self, host: &Authority) -> bool {
        let is_here = match host.address() {
            Some(address) => address.is_loopback() || self.any_address,
            None => host.name == "localhost",
        };
        let is_allowed =
            |own: &Authority| own.name == host.name && (own.port.is_none() || own.port == host.port);
        is_here || self.any_name || self.names.iter().any(is_allowed)
    }
}

impl Gate {
    /// The gate of a server that listens at `bound`.
    pub(super) fn new(options: &ServerOptions, bound: &str) -> Self {
        let hosts = options.keys.is_empty().then(|| Hosts::new(bound, &options.allowed_hosts));
        Self { origins: options.cors_origins.clone(), hosts }
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        self.check_host(uri, headers)?;
        self.check_origin(headers)
    }

    /// Refuses a request to another name than the server's. One without a name comes from no browser.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        for host in named.chain(uri.authority().map(uri::Authority::as_str)) {
            if !Authority::parse(host).is_some_and(|host| hosts.allow(&host)) {
                return Err(ApiError::forbidden(
                    "forbidden_host",
                    format!(
                        "the request is for the host {host:?}; a server without keys answers to `localhost`, to the \
                         address that it listens at, and to the names of --allowed-hosts. Start it with \
                         `--allowed-hosts {host}`, or with keys"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Refuses a page of another origin that nobody has allowed.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        let is_allowed =
            |origin: &str| self.origins.iter().any(|allowed| allowed == origin || allowed == "*");
        let is_foreign = match origin {
            Some(origin) if is_allowed(origin) => return Ok(()),
            Some(origin) => !is_same_origin(origin, headers),
            // What a page loads without asking for its content (an image, a frame) names no origin.
            None => {
                !is_allowed("*")
                    && headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none")
            }
        };
        if !is_foreign {
            return Ok(());
        }
        let origin = origin.unwrap_or("another site");
        Err(ApiError::forbidden(
            "forbidden_origin",
            format!(
                "web pages of {origin} may not use this server; start it with `--cors-origin ORIGIN` to let those of \
                 an origin do so. Behind a proxy, the proxy must pass the `Host` header on"
            ),
        ))
    }
}

/// Whether a page of `origin` was loaded from where the request goes to. The scheme is not compared: a proxy may have spoken TLS.
fn is_same_origin(origin: &str, headers: &HeaderMap) -> bool {
    let usual_port = match origin.split_once("://") {
        Some(("http", _)) => 80,
        Some(("https", _)) => 443,
        _ => return false, // `null`, an extension, a file
    };
    let page = origin.split_once("://").and_then(|(_, authority)| Authority::parse(authority));
    let host = headers.get(header::HOST).and_then(|host| Authority::parse(host.to_str().ok()?));
    page.zip(host).is_some_and(|(page, host)| {
        page.name == host.name && page.port.unwrap_or(usual_port) == host.port.unwrap_or(usual_port)
    })
}

/// Lets a request through whose host and origin are right.
pub(super) async fn check(
    FromState(gate): FromState<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    gate.check(request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

/// Lets a request through whose body, if it has one that is read, is said to be JSON.
pub(super) async fn check_json(request: Request, next: Next) -> Result<Response, ApiError> {
    if request.method() == Method::POST {
        check_type(request.headers(), &[], "application/json")?;
    }
    Ok(next.run(request).await)
}

/// Lets a request through whose body, if it has one that is read, is said to be JSON or JSON lines.
pub(super) async fn check_json_lines(request: Request, next: Next) -> Result<Response, ApiError> {
    if request.method() == Method::POST {
        check_type(request.headers(), &LINE_TYPES, "application/x-ndjson")?;
    }
    Ok(next.run(request).await)
}

fn check_type(headers: &HeaderMap, more: &[&str], usual: &str) -> Result<(), ApiError> {
    let problem = match headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default()) {
        Some(value) => {
            let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let is_json = kind == "application/json"
                || kind.strip_prefix("application/").is_some_and(|kind| kind.ends_with("+json"));
            if is_json || more.contains(&&*kind) {
                return Ok(());
            }
            format!("the body is said to be `{value}`")
        }
        // Programs may leave it out; a browser does only for a page that tries to send a body unasked.
        None if !headers.contains_key(header::ORIGIN) && !headers.contains_key(SEC_FETCH_SITE) => {
            return Ok(());
        }
        None => "a web page does not say what the body is".to_owned(),
    };
    Err(ApiError::unsupported_media_type(format!(
        "{problem}; send the header `Content-Type: {usual}` (with curl: -H 'Content-Type: {usual}')"
    )))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_server_without_keys_answers_to_names_of_its_own() {
        let gate = |bound: &str, allowed: &[&str]| Gate {
            origins: Vec::new(),
            hosts: Some(Hosts::new(bound, &allowed.iter().map(ToString::to_string).collect::<Vec<_>>())),
        };
        for (bound, allowed, host, is_right) in [
            ("127.0.0.1", &[][..], "127.0.0.1:8080", true),
            ("127.0.0.1", &[], "localhost", true),
            ("127.0.0.1", &[], "LOCALHOST.:99", true),
            ("127.0.0.1", &[], "[::1]:8080", true),
            ("127.0.0.1", &[], "[::ffff:127.0.0.1]", true),
            ("127.0.0.1", &[], "127.8.8.8", true),
            ("127.0.0.1", &[], "10.0.0.7:8080", false),
            ("127.0.0.1", &[], "evil.example", false),
            ("127.0.0.1", &[], "localhost.evil.example", false),
            ("127.0.0.1", &[], "localhost@evil.example", false),
            ("127.0.0.1", &[], "evil.example:localhost", false),
            ("127.0.0.1", &[], "127.0.0.1.evil.example", false),
            ("127.0.0.1", &[], "", false),
            ("127.0.0.1", &["llm", "web:81"], "llm:8080", true),
            ("127.0.0.1", &["llm", "web:81"], "web:81", true),
            ("127.0.0.1", &["llm", "web:81"], "web:82", false),
            ("127.0.0.1", &["*"], "evil.example", true),
            ("10.0.0.7", &[], "10.0.0.7:8080", true),
            ("10.0.0.7", &[], "10.0.0.8:8080", false),
            ("box.local", &[], "box.local:8080", true),
            ("0.0.0.0", &[], "10.0.0.7:8080", true),
            ("::", &[], "[fd00::7]:8080", true),
            ("0.0.0.0", &[], "evil.example", false),
        ] {
            let checked =
                gate(bound, allowed).check(&Uri::from_static("/v1/models"), &headers(&[("host", host)]));
            assert_eq!(checked.is_ok(), is_right, "{host} at {bound}, {allowed:?}");
        }
        let here = headers(&[("host", "localhost")]);
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        let gate = gate("127.0.0.1", &[]);
        assert!(gate.check(&Uri::from_static("http://evil.example/v1/models"), &here).is_err());
        assert!(gate.check(&Uri::from_static("/v1/models"), &twice).is_err());
        assert!(gate.check(&Uri::from_static("/v1/models"), &headers(&[])).is_ok(), "no browser");
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
        let gate = |origins: &[&str]| Gate {
            origins: origins.iter().map(ToString::to_string).collect(),
            hosts: None,
        };
        let listed = &["https://chat.example"][..];
        for (origins, sent, is_right) in [
            (&[][..], &[("host", "llm.example")][..], true),
            (&[], &[("host", "llm.example"), ("origin", "http://llm.example")], true),
            (&[], &[("host", "llm.example"), ("origin", "https://LLM.example:443")], true),
            (&[], &[("host", "llm.example:8080"), ("origin", "http://llm.example:8080")], true),
            (&[], &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")], true),
            (&[], &[("host", "llm.example:8080"), ("origin", "http://llm.example")], false),
            (&[], &[("host", "llm.example"), ("origin", "http://llm.example:8080")], false),
            (&[], &[("host", "llm.example"), ("origin", "http://evil.example")], false),
            (&[], &[("host", "llm.example"), ("origin", "null")], false),
            (&[], &[("host", "llm.example"), ("origin", "")], false),
            (&[], &[("host", "llm.example"), ("origin", "chrome-extension://llm.example")], false),
            (&[], &[("origin", "http://llm.example")], false),
            (&[], &[("host", "a"), ("sec-fetch-site", "same-origin")], true),
            (&[], &[("host", "a"), ("sec-fetch-site", "none")], true),
            (&[], &[("host", "a"), ("sec-fetch-site", "cross-site")], false),
            (&[], &[("host", "a"), ("sec-fetch-site", "same-site")], false),
            (listed, &[("origin", "https://chat.example"), ("sec-fetch-site", "cross-site")], true),
            (listed, &[("origin", "https://chat.example.evil")], false),
            (listed, &[("sec-fetch-site", "cross-site")], false),
            (&["*"], &[("origin", "null"), ("sec-fetch-site", "cross-site")], true),
            (&["*"], &[("sec-fetch-site", "cross-site")], true),
        ] {
            assert_eq!(gate(origins).check_origin(&headers(sent)).is_ok(), is_right, "{sent:?}, {origins:?}");
        }
    }

    #[test]
    fn a_body_is_of_a_type_that_pages_cannot_send_unasked() {
        let is_taken =
            |sent: &[(&'static str, &str)], more: &[&str]| check_type(&headers(sent), more, "x/y").is_ok();
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert!(is_taken(&[("content-type", kind)], &[]), "{kind}");
        }
        let lines = [("content-type", "application/x-ndjson")];
        assert!(is_taken(&lines, &LINE_TYPES) && !is_taken(&lines, &[]));
        for kind in [
            "text/plain",
            "text/plain; application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/json",
            "text/x+json",
            "",
        ] {
            assert!(!is_taken(&[("content-type", kind)], &LINE_TYPES), "{kind}");
        }
        assert!(is_taken(&[], &[]), "a program");
        assert!(!is_taken(&[("origin", "http://a")], &[]) && !is_taken(&[("sec-fetch-site", "none")], &[]));
    }
}
