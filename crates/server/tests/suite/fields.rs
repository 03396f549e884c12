//! Errors and headers name fields as the client has written them, and say what they must be.

use crate::common::{TestServer, options};
use lookahead_server::ServerOptions;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The error of a request: its field and its message.
fn refused(server: &TestServer, path: &str, body: &Value) -> (Value, String) {
    let reply = server.post(path, body);
    let error = &reply.json()["error"];
    assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text);
    let message = error["message"].as_str().or(error.as_str()).unwrap_or_default().to_owned();
    (error["param"].clone(), message)
}

#[test]
fn every_wire_names_fields_as_it_calls_them() {
    let server = TestServer::start(options());
    let long = "long ".repeat(2000);
    let said = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    for (path, body, name) in [
        (CHAT, with(said.clone(), &json!({ "max_tokens": 0 })), "max_tokens"),
        (CHAT, with(said.clone(), &json!({ "n_predict": 0 })), "n_predict"),
        (CHAT, with(said.clone(), &json!({ "max_completion_tokens": 0 })), "max_completion_tokens"),
        (CHAT, with(said.clone(), &json!({ "repeat_penalty": -1 })), "repeat_penalty"),
        (CHAT, with(said.clone(), &json!({ "repetition_penalty": -1 })), "repetition_penalty"),
        (CHAT, with(said.clone(), &json!({ "lookahead": { "namespace": "a/b" } })), "lookahead.namespace"),
        (
            CHAT,
            with(said.clone(), &json!({ "thinking_budget": 1, "reasoning_budget": 2 })),
            "thinking_budget",
        ),
        (CHAT, json!({}), "messages"),
        (CHAT, json!({ "messages": [{ "content": "Hi" }] }), "messages[0].role"),
        ("/v1/completions", json!({}), "prompt"),
        ("/v1/completions", json!({ "prompt": "Hi", "n_predict": 0 }), "n_predict"),
        ("/v1/completions", json!({ "prompt": long }), "prompt"),
        ("/v1/responses", json!({ "input": "Hi", "max_output_tokens": 0 }), "max_output_tokens"),
        ("/v1/responses", json!({ "input": long }), "input"),
        ("/completion", json!({ "prompt": "Hi", "n_predict": 0 }), "n_predict"),
        ("/completion", json!({ "prompt": "Hi", "max_tokens": 0 }), "max_tokens"),
        ("/infill", json!({ "input_prefix": long }), "input_prefix"),
        ("/infill", json!({ "input_prefix": "a", "input_suffix": "b" }), "input_suffix"),
    ] {
        let (param, message) = refused(&server, path, &body);
        assert_eq!(param, name, "{path}: {message}");
        assert!(message.contains(name) || message.starts_with("prompt is too long"), "{path}: {message}");
    }
    for (option, value) in [
        ("temperature", json!(-1)),
        ("top_p", json!(2)),
        ("repeat_penalty", json!(-1)),
        ("presence_penalty", json!(3)),
        ("stop", json!(vec!["x"; 99])),
        ("num_predict", json!(0)),
        ("num_predict", json!(-3)),
        ("num_predict", json!("x")),
    ] {
        let body = with(said.clone(), &json!({ "model": "tiny", "options": { option: value } }));
        let (_, message) = refused(&server, "/api/chat", &body);
        assert!(message.contains(&format!("options.{option}")), "{message}");
    }
    for (query, name) in [("name=a/b", "name"), ("name=a&namespace=a/b", "namespace")] {
        let headers = [("Content-Type", "application/x-ndjson")];
        let reply = server.post_with(&format!("/v1/lookahead/corpora?{query}"), &headers, "");
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(name)), "{}", reply.text);
    }
}

#[test]
fn a_field_of_another_type_is_told_what_it_must_be() {
    let server = TestServer::start(options());
    let said = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    for (path, body, message) in [
        (CHAT, with(said.clone(), &json!({ "stop": 3 })), "`stop`: expected a text or a list of texts"),
        (
            CHAT,
            with(said.clone(), &json!({ "logit_bias": "x" })),
            "`logit_bias`: expected an object of token ids",
        ),
        ("/v1/completions", json!({ "prompt": 3 }), "`prompt`: expected a text, a list of texts"),
        ("/completion", json!({ "prompt": ["a", "b"] }), "`prompt`: expected a text or a list of token ids"),
        (
            "/api/chat",
            with(said.clone(), &json!({ "model": "tiny", "think": 3 })),
            "`think`: expected true, false",
        ),
        (CHAT, with(said.clone(), &json!({ "guided_regex": r"[^\s\S]" })), "make it allow some text"),
    ] {
        let (_, told) = refused(&server, path, &body);
        assert!(told.contains(message), "{path}: {told}");
    }
}

#[test]
fn what_is_quoted_of_a_request_is_bounded() {
    let server = TestServer::start(options());
    let name = "x".repeat(100_000);
    for body in [
        json!({ "prompt": "Hi", &name: 1 }),
        json!({ "prompt": "Hi", "model": name }),
        json!({ "prompt": "Hi", "lookahead": { "namespace": name } }),
        json!({ "prompt": "Hi", "stream_options": name }),
    ] {
        let reply = server.post("/v1/completions", &body);
        assert!(reply.status >= 400 && reply.text.len() < 5000, "{} bytes", reply.text.len());
    }
}

#[test]
fn fields_within_objects_that_are_not_known_are_told_and_refused_where_the_server_is_strict() {
    let server = TestServer::start(options());
    let name = "é\n".repeat(50_000);
    let message =
        json!({ "role": "user", "content": "Hi", "mood": "good", "refusal": null, "annotations": [] });
    let body = json!({ "messages": [message, message], "max_tokens": 2,
        "stream_options": { "include_usage": false, &name: 1 } });
    let reply = server.post(CHAT, &body);
    let ignored = reply.headers["x-lookahead-ignored"].to_str().unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(ignored.contains("messages[].mood") && !ignored.contains("refusal"), "{ignored}");
    assert!(ignored.contains("stream_options.") && ignored.len() < 2000, "{ignored}");
    let strict = TestServer::start(ServerOptions { strict_fields: true, ..options() });
    let reply = strict.post(CHAT, &body);
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("messages[].mood")));
}

#[test]
fn a_text_begins_where_its_token_does_however_long_it_is_held_back() {
    let server = TestServer::start(options());
    let ask = |more: Value| {
        let body = with(json!({ "prompt": "Hi", "temperature": 0, "max_tokens": 12, "logprobs": 0 }), &more);
        let reply = server.post("/v1/completions", &body);
        reply.json()["choices"][0].clone()
    };
    let plain = ask(json!({}));
    let text = plain["text"].as_str().unwrap();
    assert!(text.chars().count() > 3, "{text:?}");
    // A stop string that the whole answer is the beginning of.
    let held = ask(json!({ "stop": format!("{text}, and more") }));
    assert_eq!((&held["text"], &held["logprobs"]), (&plain["text"], &plain["logprobs"]));
    let offsets = plain["logprobs"]["text_offset"].as_array().unwrap();
    assert!(offsets.last().unwrap().as_u64().unwrap() > 0, "{offsets:?}");
    // Behind a prompt that is echoed, all is further to the right.
    let echoed = ask(json!({ "echo": true, "stop": format!("{text}, and more") }));
    let echoed = echoed["logprobs"]["text_offset"].as_array().unwrap();
    let behind = &echoed[echoed.len() - offsets.len()..];
    let by = |offsets: &[Value]| -> Vec<u64> { offsets.iter().filter_map(Value::as_u64).collect() };
    let moved: Vec<u64> = by(offsets).iter().map(|offset| offset + 2).collect();
    assert_eq!(by(behind), moved);
}
