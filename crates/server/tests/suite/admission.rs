//! What a tenant may have in hand: limits, their messages, and that whatever ends a request gives back what it took.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{TestServer, options, until};
use lookahead_server::{ApiKey, ServerOptions};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn keys() -> Vec<ApiKey> {
    ["alice:a", "mallory:m"].map(|key| ApiKey::parse(key).unwrap()).to_vec()
}

fn chat(content: &str, more: &Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": content }], "max_tokens": 5 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Sends the head of a request for a chat with so many bytes, and of these what `body` has.
fn begin_sending(server: &TestServer, key: &str, length: usize, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.base().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream
}

/// What the server has in hand.
fn in_hand(server: &TestServer) -> [f64; 4] {
    ["answers_in_hand", "body_bytes", "queued_tokens", "preparations"]
        .map(|name| server.metric(&format!("lookahead_{name}")))
}

fn expect_nothing_in_hand(server: &TestServer, behind: &str) {
    until(&format!("nothing is in hand behind {behind}: {:?}", in_hand(server)), || {
        in_hand(server) == [0.0; 4]
    });
}

#[test]
fn a_request_that_needs_more_than_ever_fits_says_which_limit_it_meets() {
    let server = TestServer::start(ServerOptions {
        keys: keys(),
        parallel: 4,
        max_queue: 60,
        max_queued_tokens: 400,
        max_body_memory: 40_000,
        max_prediction_bytes: 1000,
        max_prediction_tokens: 50,
        ..options()
    });
    let many: Vec<String> = (0..64).map(|number| format!("Say {number}")).collect();
    let prediction = |content: String| json!({ "prediction": { "type": "content", "content": content } });
    let long = "word ".repeat(150);
    for (path, body, code, param, parts) in [
        (
            "/v1/completions",
            json!({ "prompt": many, "n": 64 }),
            "more_than_fits",
            None,
            ["4096 answers", "one key may have 32 (50 % by --tenant-share)", "--max-queue and --parallel"],
        ),
        (
            "/v1/completions",
            json!({ "prompt": [long, long, long] }),
            "more_than_fits",
            None,
            ["tokens of prompts", "one key may have 200 (50 % by --tenant-share)", "--max-queued-tokens"],
        ),
        (
            CHAT,
            chat(&"x".repeat(30_000), &json!({})),
            "more_than_fits",
            None,
            ["bytes of requests", "one key may have 20000 (50 % by --tenant-share)", "--max-body-memory"],
        ),
        (
            CHAT,
            chat("Hi", &prediction("x".repeat(1001))),
            "invalid_value",
            Some("prediction"),
            ["1001 bytes", "up to 1000", "--max-prediction"],
        ),
        (
            CHAT,
            chat("Hi", &prediction("ab ".repeat(100))),
            "invalid_value",
            Some("prediction"),
            ["tokens", "up to 50", "--max-prediction-tokens"],
        ),
        (
            CHAT,
            chat("Hi", &json!({ "stop": ["x".repeat(5000)] })),
            "invalid_value",
            Some("stop"),
            ["stop", "up to 4096 bytes", "5000"],
        ),
        (
            CHAT,
            chat(
                "Hi",
                &json!({ "logit_bias": (0..2000).map(|id| (id.to_string(), json!(1))).collect::<serde_json::Map<_, _>>() }),
            ),
            "invalid_value",
            Some("logit_bias"),
            ["logit_bias", "up to 1024 tokens", "2000"],
        ),
    ] {
        let reply = server.post_as(path, Some("m"), &body.to_string());
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, error["code"].as_str(), error["param"].as_str()),
            (400, Some(code), param),
            "{error}"
        );
        for part in parts {
            assert!(error["message"].as_str().unwrap().contains(part), "{part}: {error}");
        }
        assert!(!reply.headers.contains_key("retry-after"), "coming again is no use");
    }
    expect_nothing_in_hand(&server, "refusals");
}

#[test]
fn a_key_that_has_its_share_in_hand_is_told_so_and_another_is_served() {
    let server = TestServer::start(ServerOptions { keys: keys(), max_body_memory: 100_000, ..options() });
    let bodies: Vec<TcpStream> = (0..2).map(|_| begin_sending(&server, "m", 25_000, "{")).collect();
    until("the bodies are being read", || server.metric("lookahead_body_bytes") == 50_000.0);
    let refused = server.post_as(CHAT, Some("m"), &chat("Hi", &json!({})).to_string());
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["code"]), (429, &json!("body_memory_full")), "{error}");
    assert_eq!(
        (&error["type"], &refused.headers["retry-after"]),
        (&json!("rate_limit_error"), &"1".parse().unwrap())
    );
    for part in
        ["this key has 50000 bytes", "one key may have 50000 (50 % by --tenant-share)", "--max-body-memory"]
    {
        assert!(error["message"].as_str().unwrap().contains(part), "{part}: {error}");
    }
    assert_eq!(server.post_as(CHAT, Some("a"), &chat("Hi", &json!({})).to_string()).status, 200);
    drop(bodies);
    expect_nothing_in_hand(&server, "clients that went away");
    assert_eq!(server.post_as(CHAT, Some("m"), &chat("Hi", &json!({})).to_string()).status, 200);
}

#[test]
fn a_server_that_has_all_it_may_in_hand_says_so() {
    let server = TestServer::start(ServerOptions { max_body_memory: 20_000, ..options() });
    let body = begin_sending(&server, "", 19_990, "{");
    until("the body is being read", || server.metric("lookahead_body_bytes") == 19_990.0);
    let refused = server.post_as(CHAT, None, &chat("Hi", &json!({})).to_string());
    assert_eq!(refused.status, 429);
    assert!(refused.text.contains("this server has 19990 bytes"), "{}", refused.text);
    drop(body);
    expect_nothing_in_hand(&server, "a client that went away");
}

#[test]
fn whatever_ends_a_request_gives_back_what_it_took() {
    let server = TestServer::start(ServerOptions {
        client_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_secs(5),
        ..options()
    });
    let ask = |more: Value| server.post(CHAT, &chat("Tell me about rivers.", &more)).status;
    assert_eq!(ask(json!({ "n": 3 })), 200);
    expect_nothing_in_hand(&server, "answers");
    assert_eq!(ask(json!({ "stream": true })), 200);
    expect_nothing_in_hand(&server, "a stream");
    assert_eq!(server.post_as(CHAT, None, "{").status, 400);
    expect_nothing_in_hand(&server, "a body that is no JSON");
    assert_eq!(ask(json!({ "structured_outputs": { "regex": "(" } })), 400);
    expect_nothing_in_hand(&server, "a grammar that is none");
    assert_eq!(server.post(CHAT, &chat(&"word ".repeat(2000), &json!({}))).status, 400);
    expect_nothing_in_hand(&server, "a prompt that is too long");
    assert_eq!(server.post("/tokenize", &json!({ "content": "some text" })).status, 200);
    expect_nothing_in_hand(&server, "tokens");

    let mut slow = begin_sending(&server, "", 5000, "{");
    let mut reply = String::new();
    slow.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    expect_nothing_in_hand(&server, "a body that does not come");

    let endless =
        chat("Tell me a story.", &json!({ "max_tokens": -1, "n": 20, "stream": true, "ignore_eos": true }));
    let mut stream = begin_sending(&server, "", endless.to_string().len(), &endless.to_string());
    stream.read_exact(&mut [0; 500]).unwrap();
    drop(stream);
    expect_nothing_in_hand(&server, "a client that reads no more");
    let stream = begin_sending(&server, "", endless.to_string().len(), &endless.to_string());
    drop(stream);
    expect_nothing_in_hand(&server, "a client that reads nothing");
}

#[test]
fn a_flood_of_one_key_leaves_another_served_and_threads_and_memory_bounded() {
    let max_body_memory = 16 << 20;
    let server = TestServer::start(ServerOptions {
        keys: keys(),
        parallel: 2,
        max_queue: 62,
        max_body_memory,
        max_body_bytes: 2 << 20,
        max_prediction_bytes: 4 << 20,
        client_timeout: Duration::from_secs(2),
        ..options()
    });
    let ask = |number: usize| {
        let body = chat(&format!("Tell me about map {number}."), &json!({})).to_string();
        server.post_as(CHAT, Some("a"), &body)
    };
    assert_eq!(ask(0).status, 200);
    let before = server.metric("lookahead_resident_memory_bytes");

    let prompts: Vec<String> = (0..64).map(|number| format!("Say {number}")).collect();
    let floods = [
        // A prediction of a megabyte, many answers, a large schema, and a long prompt.
        (
            CHAT,
            chat(
                "Hi",
                &json!({ "prediction": { "type": "content", "content": "so it is. ".repeat(100_000) } }),
            ),
        ),
        ("/v1/completions", json!({ "prompt": prompts, "n": 64 })),
        ("/v1/completions", json!({ "prompt": prompts[..30], "max_tokens": 3 })),
        (CHAT, chat("Hi", &json!({ "structured_outputs": { "regex": "(a|b|c|[d-z]{3,90}){3,90}" } }))),
        (CHAT, chat(&"word ".repeat(200_000), &json!({}))),
        ("/tokenize", json!({ "content": "some words ".repeat(100_000) })),
    ];
    let (is_over, statuses) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 600]);
    let bodies: Vec<TcpStream> = (0..250).map(|_| begin_sending(&server, "m", 1 << 20, "{\"mess")).collect();
    let (mut threads, mut memory) = (0, 0.0f64);
    thread::scope(|scope| {
        for client in 0..24 {
            let (server, floods, is_over, statuses) = (&server, &floods, &is_over, &statuses);
            scope.spawn(move || {
                for round in 0.. {
                    let (path, body) = &floods[(client + round) % floods.len()];
                    let status = server.post_as(path, Some("m"), &body.to_string()).status;
                    statuses[status as usize].fetch_add(1, Ordering::Relaxed);
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for number in 1..12 {
            let reply = ask(number);
            assert_eq!(reply.status, 200, "{}", reply.text);
            let [answers, bytes, tokens, preparations] = in_hand(&server);
            assert!(answers <= 64.0 && bytes <= max_body_memory as f64, "{answers} answers, {bytes} bytes");
            assert!(tokens <= f64::from(1 << 20) && preparations <= 2.0, "{tokens}, {preparations}");
            threads = threads.max(server.threads());
            memory = memory.max(server.metric("lookahead_resident_memory_bytes"));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    drop(bodies);
    let count = |status: usize| statuses[status].load(Ordering::Relaxed);
    assert!(count(400) > 0 && count(429) > 0, "{} refused for ever, {} for now", count(400), count(429));
    // Two for connections, two that prepare, and a few for metrics.
    assert!(threads <= 12, "{threads} threads");
    // Most of it is what the clients of this test hold themselves.
    assert!(memory - before < f64::from(512 << 20), "{} MiB", (memory - before) / f64::from(1 << 20));
    expect_nothing_in_hand(&server, "the flood");
}
