//! Requests that are made to cost much, and what bounds them.

use std::time::Duration;

use crate::common::{TestServer, options, until};
use crate::conversations::roomy;
use lookahead_server::ServerOptions;
use serde_json::json;

#[test]
fn the_time_of_a_request_holds_while_it_is_prepared() {
    let server = TestServer::start(ServerOptions { request_timeout: Duration::ZERO, ..options() });
    // Takes some time to tokenize, while the first look at the clock says that there is none.
    let content = "one two three ".repeat(50_000);
    let reply = server.post("/tokenize", &json!({ "content": content }));
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (504, &json!("request_timeout")));
    until("the place is given back", || server.metric("lookahead_preparations") == 0.0);
    assert!(server.metric("lookahead_body_bytes") < 1.0);
}

#[test]
fn a_prompt_whose_length_says_that_it_is_too_long_is_refused_before_it_is_tokenized() {
    let server = TestServer::start(options());
    let spaces = " ".repeat(500_000);
    let tokens = |text: &str| {
        let reply = server.post("/tokenize", &json!({ "content": text }));
        reply.json()["tokens"].as_array().unwrap().len()
    };
    let all = tokens(&spaces);
    for (path, body) in [
        ("/v1/completions", json!({ "prompt": spaces })),
        ("/v1/chat/completions", json!({ "messages": [{ "role": "user", "content": spaces }] })),
        ("/infill", json!({ "input_prefix": spaces })),
        ("/v1/messages", json!({ "max_tokens": 5, "messages": [{ "role": "user", "content": spaces }] })),
    ] {
        let reply = server.post(path, &body);
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        let count = message.strip_prefix("prompt is too long: ").and_then(|rest| rest.split(' ').next());
        let count: usize = count.unwrap_or_else(|| panic!("{path}: {message}")).parse().unwrap();
        assert!((512..all).contains(&count), "{path}: {message}, and there are {all}");
    }
    // Of a prompt that is cut, the end is left, however long it is.
    let body = json!({ "prompt": spaces, "truncate_prompt_tokens": 10, "max_tokens": 2 });
    let reply = server.post("/v1/completions", &body);
    assert_eq!(reply.json()["usage"]["prompt_tokens"], 10, "{}", reply.text);
}

/// What no grammar holds is checked when a call is complete, with patterns and texts of the client's choice.
#[test]
fn a_call_whose_check_takes_too_much_work_is_delivered_and_said_to_be_unchecked() {
    let server = roomy();
    let doubled = (0..12).map(|at| {
        let next = json!({ "$ref": format!("#/$defs/{}", at + 1) });
        (at.to_string(), json!({ "anyOf": [next, next] }))
    });
    let mut definitions: serde_json::Map<_, _> = doubled.collect();
    definitions.insert("12".to_owned(), json!({ "type": "string", "pattern": "^(?:(?=a*b|a)a)*c" }));
    let parameters = json!({
        "type": "object", "$defs": definitions, "required": ["a"], "additionalProperties": false,
        "properties": { "a": { "const": "a".repeat(40), "not": { "not": { "$ref": "#/$defs/0" } } } },
    });
    let body = json!({
        "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 200, "temperature": 0,
        "tools": [{ "type": "function", "function": { "name": "f", "parameters": parameters } }],
        "tool_choice": "required",
    });
    let reply = server.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "tool_calls", "{}", reply.text);
    assert_eq!(
        reply.headers["x-lookahead-warning"],
        "call of \"f\": its schema takes too much work to be checked"
    );
}
