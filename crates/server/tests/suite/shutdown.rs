//! The end of a server: in time, whatever waits, with clients told and what was learned saved.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Faulty, TestServer, options, rest_of, until};
use lookahead_server::{DraftOptions, ServerOptions};
use serde_json::{Value, json};

/// Requests that wait.
const WAITING: usize = 200;

fn chat(content: &str, more: &Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": content }], "temperature": 0, "max_tokens": 400, "ignore_eos": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A server with one place whose passes take a while, and what it learns in `directory`.
fn server(directory: &tempfile::TempDir, shutdown_timeout: Duration) -> TestServer {
    let drafts = DraftOptions { directory: Some(directory.path().to_owned()), ..options().drafts };
    let options = ServerOptions { parallel: 1, shutdown_timeout, drafts, ..options() };
    TestServer::with_model(options, 8192, |model| Faulty::new(model, Duration::from_millis(20)))
}

/// What a server that has just begun finds of what was learned, once a request has opened its namespace.
fn tokens_kept(server: &TestServer) -> u64 {
    let more = json!({ "max_tokens": 1, "lookahead": { "share": "read" } });
    assert_eq!(server.post("/v1/chat/completions", &chat("Hi", &more)).status, 200);
    tokens_learned(server)
}

fn tokens_learned(server: &TestServer) -> u64 {
    server.get("/v1/lookahead/stats").json()["namespace"]["tokens"].as_u64().unwrap()
}

#[test]
fn a_long_queue_delays_the_end_by_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = server(&directory, Duration::from_secs(1));
    let once = json!({ "max_tokens": 20 });
    assert_eq!(server.post("/v1/chat/completions", &chat("Tell me about stars.", &once)).status, 200);
    until("it is learned", || tokens_learned(&server) > 0);
    let plain = json!({ "stream": true, "lookahead": { "enabled": false } });
    let running = server.send("/v1/chat/completions", None, &chat("A long story.", &plain));
    until("it runs", || server.metric("lookahead_running_sequences") == 1.0);
    let waiting: Vec<_> = (0..WAITING)
        .map(|_| server.send("/v1/chat/completions", None, &chat("Another one.", &json!({}))))
        .collect();
    until("they wait", || server.metric("lookahead_queue_depth") == WAITING as f64);

    let began = Instant::now();
    server.begin_stopping();
    for stream in waiting {
        let refusal = rest_of(stream);
        assert!(refusal.starts_with("HTTP/1.1 503"), "{refusal}");
        assert!(refusal.to_lowercase().contains("retry-after:") && refusal.contains("stopping"), "{refusal}");
    }
    let told = rest_of(running);
    assert!(told.contains("\"delta\":{\"content\""), "it went on for a while: {told}");
    assert!(told.contains("the server is stopping"), "{told}");
    server.stop();
    // The bound is 3 s; the rest is for machines that do other things.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let after = self::server(&directory, Duration::from_secs(1));
    assert!(tokens_kept(&after) >= 20, "what it had learned is saved");
}

#[test]
fn while_it_stops_a_server_says_so_to_whoever_comes_and_ends_what_it_has_begun() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = server(&directory, Duration::from_mins(1));
    let more = json!({ "stream": true, "max_tokens": 60, "lookahead": { "enabled": false } });
    let running = server.send("/v1/chat/completions", None, &chat("A story.", &more));
    until("it runs", || server.metric("lookahead_running_sequences") == 1.0);
    server.begin_stopping();
    until("it says so", || server.health().as_deref() == Some("stopping"));
    let refused = server.post("/v1/chat/completions", &chat("One more.", &json!({})));
    assert_eq!(
        (refused.status, refused.headers.contains_key("retry-after")),
        (503, true),
        "{}",
        refused.text
    );
    let answer = rest_of(running);
    assert!(answer.contains("\"finish_reason\":\"length\"") && answer.contains("data: [DONE]"), "{answer}");
    server.stop();
}

#[test]
fn a_server_that_is_hurried_does_not_wait_for_answers_and_saves() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = server(&directory, Duration::from_mins(10));
    let running =
        server.send("/v1/chat/completions", None, &chat("A long story.", &json!({ "stream": true })));
    until("it is being told", || server.metric("lookahead_generated_tokens_total") > 5.0);
    server.begin_stopping();
    thread::sleep(Duration::from_millis(100));
    server.hurry();
    let told = rest_of(running);
    assert!(told.contains("the server is stopping"), "{told}");
    server.stop();
    let after = self::server(&directory, Duration::from_secs(1));
    assert!(tokens_kept(&after) > 0, "what there was of the answer is learned");
}
