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

/// Each page with its path, its type and its content.
const PAGES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../assets/index.html")),
    ("/docs", HTML, include_str!("../assets/docs.html")),
    ("/assets/announcer.js", SCRIPT, include_str!("../assets/announcer.js")),
    ("/assets/answer.js", SCRIPT, include_str!("../assets/answer.js")),
    ("/assets/api.js", SCRIPT, include_str!("../assets/api.js")),
    ("/assets/app.js", SCRIPT, include_str!("../assets/app.js")),
    ("/assets/attachments.js", SCRIPT, include_str!("../assets/attachments.js")),
    ("/assets/calls.js", SCRIPT, include_str!("../assets/calls.js")),
    ("/assets/chat.js", SCRIPT, include_str!("../assets/chat.js")),
    ("/assets/chats.js", SCRIPT, include_str!("../assets/chats.js")),
    ("/assets/conversation.js", SCRIPT, include_str!("../assets/conversation.js")),
    ("/assets/docs.js", SCRIPT, include_str!("../assets/docs.js")),
    ("/assets/dom.js", SCRIPT, include_str!("../assets/dom.js")),
    ("/assets/figures.js", SCRIPT, include_str!("../assets/figures.js")),
    ("/assets/forms.js", SCRIPT, include_str!("../assets/forms.js")),
    ("/assets/key.js", SCRIPT, include_str!("../assets/key.js")),
    ("/assets/plots.js", SCRIPT, include_str!("../assets/plots.js")),
    ("/assets/scroll.js", SCRIPT, include_str!("../assets/scroll.js")),
    ("/assets/settings.js", SCRIPT, include_str!("../assets/settings.js")),
    ("/assets/store.js", SCRIPT, include_str!("../assets/store.js")),
    ("/assets/text.js", SCRIPT, include_str!("../assets/text.js")),
    ("/assets/thinking.js", SCRIPT, include_str!("../assets/thinking.js")),
    ("/assets/transfer.js", SCRIPT, include_str!("../assets/transfer.js")),
    ("/assets/turn.js", SCRIPT, include_str!("../assets/turn.js")),
    ("/assets/style.css", STYLE, include_str!("../assets/style.css")),
    ("/assets/favicon.svg", SVG, include_str!("../assets/favicon.svg")),
    ("/favicon.ico", SVG, include_str!("../assets/favicon.svg")),
];

/// The routes of all pages.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    PAGES.iter().fold(Router::new(), |router, &(path, kind, content)| {
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
