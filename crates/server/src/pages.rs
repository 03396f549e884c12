//! The chat page and the API reference, embedded: they work without any other server.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};

/// What the pages may load: nothing from elsewhere.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The routes of all pages.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let pages: [(&str, &'static str, &'static str); 7] = [
        ("/", HTML, include_str!("../assets/index.html")),
        ("/docs", HTML, include_str!("../assets/docs.html")),
        ("/assets/app.js", SCRIPT, include_str!("../assets/app.js")),
        ("/assets/docs.js", SCRIPT, include_str!("../assets/docs.js")),
        ("/assets/style.css", STYLE, include_str!("../assets/style.css")),
        ("/assets/favicon.svg", SVG, include_str!("../assets/favicon.svg")),
        ("/favicon.ico", SVG, include_str!("../assets/favicon.svg")),
    ];
    pages.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(move || async move { page(kind, content) }))
    })
}

fn page(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"), // the page belongs to the program that serves it
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), content).into_response()
}
