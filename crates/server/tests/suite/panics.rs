//! A panic of the engine costs the answers that were being made, and nothing else.

use std::time::Duration;

use crate::common::{BREAKS, Faulty, PANICS, TestServer, options, rest_of, until};
use lookahead_server::ServerOptions;
use serde_json::{Value, json};

const PASS: Duration = Duration::from_millis(5);

fn server(options: ServerOptions) -> TestServer {
    TestServer::with_model(options, 8192, |model| Faulty::new(model, PASS))
}

fn completion(prompt: impl Into<Value>, max_tokens: usize) -> Value {
    json!({ "prompt": prompt.into(), "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
        "lookahead": { "enabled": false } })
}

fn ask(server: &TestServer, prompt: impl Into<Value>) -> (u16, Value) {
    let reply = server.post("/v1/completions", &completion(prompt, 8));
    (reply.status, reply.json())
}

fn health(server: &TestServer) -> (u16, Value) {
    let reply = server.get("/health");
    (reply.status, reply.json()["status"].clone())
}

#[test]
fn a_panic_costs_the_answers_beside_it_and_no_more() {
    let server = server(ServerOptions { parallel: 2, max_queue: 8, ..options() });
    let (status, before) = ask(&server, "The river");
    assert_eq!((status, health(&server)), (200, (200, json!("ok"))));
    let mut streamed = completion("A long story", 400);
    streamed["stream"] = true.into();
    let beside = server.send("/v1/completions", None, &streamed);
    until("it runs", || server.metric("lookahead_running_sequences") == 1.0);
    let poisoned = server.send("/v1/completions", None, &completion(PANICS.to_vec(), 8));
    let waiting: Vec<_> =
        (0..4).map(|_| server.send("/v1/completions", None, &completion("The river", 8))).collect();

    until("it has panicked", || server.metric("lookahead_engine_panics_total") == 1.0);
    assert_eq!(health(&server), (200, json!("degraded")));
    let poisoned = rest_of(poisoned);
    assert!(poisoned.starts_with("HTTP/1.1 500") && poisoned.contains("internal_error"), "{poisoned}");
    let beside = rest_of(beside);
    assert!(beside.contains("internal_error") && beside.contains("data: [DONE]"), "{beside}");
    for stream in waiting {
        let answer = rest_of(stream);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let (status, after) = ask(&server, "The river");
    assert_eq!((status, &after["choices"]), (200, &before["choices"]), "nothing of it is left");
    for gauge in ["lookahead_queue_depth", "lookahead_running_sequences"] {
        until(gauge, || server.metric(gauge) == 0.0);
    }
    assert_eq!(server.metric("lookahead_rejected_total"), 0.0);
}

#[test]
fn an_engine_that_panics_again_and_again_is_unhealthy_and_serves() {
    let server = server(options());
    for _ in 0..3 {
        assert_eq!(ask(&server, PANICS.to_vec()).0, 500);
    }
    assert_eq!(health(&server), (503, json!("degraded")));
    assert_eq!(ask(&server, "The river").0, 200);
}

#[test]
fn without_an_engine_requests_are_refused_at_once_and_as_what_they_are() {
    let server = server(ServerOptions { parallel: 1, max_queue: 1, ..options() });
    assert_eq!(ask(&server, BREAKS.to_vec()).0, 503);
    until("it is noticed", || health(&server) == (503, json!("failed")));
    for _ in 0..5 {
        let (status, answer) = ask(&server, "The river");
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("unavailable")), "{answer}");
    }
    assert_eq!(server.metric("lookahead_queue_depth"), 0.0);
}
