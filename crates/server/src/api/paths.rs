//! Paths as clients make them of a base URL that ends with a slash, or that has none: they are put right before routes, and so
//! all that guards them, look at a request.

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The request to the path that is meant: without repeated slashes, and without one at its end.
pub(super) fn normalize(mut request: Request) -> Request {
    if let Some(uri) = normalized(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// `None` if the path is right as it is, or cannot be put right.
fn normalized(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let is_wrong = path.contains("//") || (path.ends_with('/') && path != "/");
    if !is_wrong {
        return None;
    }
    let mut whole = String::with_capacity(uri.path_and_query()?.as_str().len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        whole.push('/');
        whole.push_str(segment);
    }
    if whole.is_empty() {
        whole.push('/');
    }
    if let Some(query) = uri.query() {
        whole.push('?');
        whole.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(whole).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_too_many_are_taken_away_and_nothing_else() {
        for (sent, meant) in [
            ("/", "/"),
            ("//", "/"),
            ("/v1/models/", "/v1/models"),
            ("//v1//chat/completions", "/v1/chat/completions"),
            ("/v1/models/a%2F%2Fb/?x=//y/", "/v1/models/a%2F%2Fb?x=//y/"),
            ("http://localhost:8080//v1/models/?a=b", "http://localhost:8080/v1/models?a=b"),
            ("/v1/models?x=//", "/v1/models?x=//"),
            ("/../v1//models", "/../v1/models"),
        ] {
            let request = Request::builder().uri(sent).body(axum::body::Body::empty()).unwrap();
            assert_eq!(normalize(request).uri().to_string(), meant, "{sent}");
        }
        let all = Request::builder().method("OPTIONS").uri("*").body(axum::body::Body::empty()).unwrap();
        assert_eq!(normalize(all).uri().to_string(), "*");
    }
}
