//! Web pages as attackers: those of other origins, and those whose name was pointed at this machine.

use crate::common::{TestServer, options};
use lookahead_server::{ApiKey, ServerOptions};
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";
const CORPUS: &str = "/v1/lookahead/corpora?name=x";

fn question() -> String {
    json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 4 }).to_string()
}

#[test]
fn a_page_cannot_post_what_needs_no_permission() {
    let server = TestServer::start(options());
    for (path, body) in
        [(CHAT, &*question()), ("/tokenize", r#"{"content": "Hi"}"#), (CORPUS, r#"{"text": "Hi"}"#)]
    {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
            let reply = server.post_with(path, &[("Content-Type", kind)], body);
            let error = &reply.json()["error"];
            assert_eq!(
                (reply.status, &error["code"]),
                (415, &json!("unsupported_media_type")),
                "{path} {kind}"
            );
            assert!(error["message"].as_str().unwrap().contains("`Content-Type: application/"), "{error}");
            let page = [("Content-Type", kind), ("Origin", "http://evil.example")];
            assert_eq!(server.post_with(path, &page, body).status, 403, "{path} {kind}");
        }
        assert_eq!(server.post_as(path, None, body).status, 200, "{path}");
    }
    let lines = server.post_with(CORPUS, &[("Content-Type", "application/x-ndjson")], r#"{"text": "Hi"}"#);
    assert_eq!(lines.status, 200, "{}", lines.text);
    assert_eq!(server.post_with(CHAT, &[("Content-Type", "application/x-ndjson")], &question()).status, 415);
}

#[test]
fn pages_of_other_origins_get_nothing_unless_they_are_allowed() {
    let friend = "https://chat.example";
    let server = TestServer::start(ServerOptions { cors_origins: vec![friend.to_owned()], ..options() });
    let own = server.base().to_owned();
    for (origin, status) in [
        (&*own, 200),
        (friend, 200),
        ("null", 403),
        ("http://evil.example", 403),
        ("http://127.0.0.1:1", 403),
    ] {
        let headers = [("Origin", origin), ("Content-Type", "application/json")];
        for reply in [server.post_with(CHAT, &headers, &question()), server.get_with("/v1/models", &headers)]
        {
            assert_eq!(reply.status, status, "{origin}: {}", reply.text);
            let allowed =
                reply.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(allowed, (origin == friend).then_some(friend), "{origin}");
        }
        let asked = server.preflight(CHAT, origin);
        let allowed = asked.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert_eq!(allowed, (origin == friend).then_some(friend), "{origin}");
    }
    for (site, status) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)] {
        assert_eq!(
            server.get_with("/v1/lookahead/stats", &[("Sec-Fetch-Site", site)]).status,
            status,
            "{site}"
        );
    }
    let health = server.get_with("/health", &[("Origin", friend), ("Sec-Fetch-Site", "cross-site")]);
    assert_eq!((health.status, health.headers.get("access-control-allow-origin")), (200, None));
}

#[test]
fn a_name_that_was_pointed_at_this_machine_gets_nothing() {
    let evil = [("Host", "evil.example:8080"), ("Content-Type", "application/json")];
    let server = TestServer::start(options());
    for reply in [
        server.post_with(CHAT, &evil, &question()),
        server.post_with(CORPUS, &evil, r#"{"text": "Hi"}"#),
        server.get_with("/v1/models", &evil),
        server.get_with("/v1/lookahead/corpora", &evil),
        server.get_with("/v1/lookahead/stats", &evil),
    ] {
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["code"]), (403, &json!("forbidden_host")), "{}", reply.text);
        assert!(error["message"].as_str().unwrap().contains("--allowed-hosts evil.example"), "{error}");
    }
    // Probes of Kubernetes and scrapers call a pod by its address.
    for path in ["/health", "/metrics"] {
        assert_eq!(server.get_with(path, &[("Host", "10.1.2.3:8080")]).status, 200);
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(server.get_with("/v1/models", &[("Host", host)]).status, 200, "{host}");
    }

    let allowed_hosts = vec!["llm".to_owned(), "evil.example".to_owned()];
    let server = TestServer::start(ServerOptions { allowed_hosts, ..options() });
    assert_eq!(server.post_with(CHAT, &evil, &question()).status, 200);
    assert_eq!(server.get_with("/v1/models", &[("Host", "llm")]).status, 200);

    let keys = vec![ApiKey::parse("alice:a").unwrap()];
    let server = TestServer::start(ServerOptions { keys, ..options() });
    let with_key = [("Host", "llm.example"), ("Authorization", "Bearer a")];
    assert_eq!(server.get_with("/v1/models", &with_key).status, 200, "a key is what a page does not have");
    let page = [("Host", "llm.example"), ("Authorization", "Bearer a"), ("Origin", "http://evil.example")];
    assert_eq!(server.get_with("/v1/models", &page).status, 403);
}
