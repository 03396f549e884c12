//! What one key does, another hardly notices.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{Faulty, TestServer, options, until};
use lookahead_server::{ApiKey, ServerOptions};
use serde_json::json;

#[test]
fn a_key_that_floods_the_queue_does_not_keep_another_waiting() {
    let keys = ["hostile:h", "other:o"].map(|key| ApiKey::parse(key).unwrap()).to_vec();
    let options = ServerOptions { keys, parallel: 2, ..options() };
    let server = TestServer::with_model(options, 8192, |model| Faulty::new(model, Duration::from_millis(5)));
    let body = |prompt: &str, max_tokens| {
        json!({ "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
            "lookahead": { "enabled": false } })
        .to_string()
    };
    let (flood, answered) = (24, AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..flood {
            let (server, answered, body) = (&server, &answered, body(&format!("{number} stories"), 100));
            scope.spawn(move || {
                assert_eq!(server.post_as("/v1/completions", Some("h"), &body).status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }
        until("they wait", || server.metric("lookahead_queue_depth") >= 20.0);
        let before = answered.load(Ordering::Relaxed);
        assert_eq!(server.post_as("/v1/completions", Some("o"), &body("Hello", 40)).status, 200);
        // It shares each pass with one of the others, and takes less than half as long as that.
        let meanwhile = answered.load(Ordering::Relaxed) - before;
        assert!(meanwhile <= 4, "{meanwhile} of {flood} came first");
    });
}
