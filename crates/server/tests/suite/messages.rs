//! Anthropic's messages.

use crate::common::{Reply, TestServer, options};
use crate::conversations::roomy;
use lookahead_server::{ApiKey, ServerOptions};
use serde_json::{Value, json};

#[expect(clippy::needless_pass_by_value, reason = "reads better")]
fn body(content: &str, more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": content }], "temperature": 0, "max_tokens": 20,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ask(server: &TestServer, content: &str, more: Value) -> Reply {
    server.post("/v1/messages", &body(content, more))
}

fn object(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

/// The events of a stream; each is named as its data says.
pub(crate) fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let events = reply.text.split("\n\n").filter(|event| !event.is_empty());
    let read = events.map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    });
    read.collect()
}

/// The message that the events of a stream make, as a client puts it together.
pub(crate) fn assembled(events: &[Value]) -> Value {
    let mut message = events[0]["message"].clone();
    let (mut content, mut json): (Vec<Value>, String) = (Vec::new(), String::new());
    for event in &events[1..] {
        let at = content.len().wrapping_sub(1);
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(event["index"], content.len());
                content.push(event["content_block"].clone());
                json.clear();
            }
            "content_block_delta" => {
                assert_eq!(event["index"], at);
                let delta = &event["delta"];
                for field in ["text", "thinking", "signature"] {
                    if let Some(text) = delta[field].as_str() {
                        content[at][field] = format!("{}{text}", content[at][field].as_str().unwrap()).into();
                    }
                }
                json += delta["partial_json"].as_str().unwrap_or_default();
            }
            "content_block_stop" => {
                assert_eq!(event["index"], at);
                if content[at]["type"] == "tool_use" {
                    content[at]["input"] = serde_json::from_str(&json).unwrap();
                }
            }
            "message_delta" => {
                for (field, value) in event["delta"].as_object().unwrap() {
                    message[field] = value.clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "ping" | "message_stop" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    message["content"] = content.into();
    message
}

/// What of a message does not depend on when it was asked for.
pub(crate) fn essence(message: &Value) -> Value {
    let content: Vec<Value> = message["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| {
            let mut block = block.clone();
            block.as_object_mut().unwrap().remove("id");
            block
        })
        .collect();
    json!([content, message["stop_reason"], message["stop_sequence"], message["usage"]["output_tokens"]])
}

fn weather() -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 5 } },
        "required": ["city"], "additionalProperties": false });
    json!({ "name": "weather", "description": "Of a city", "input_schema": schema })
}

#[test]
fn a_message_is_what_the_chat_says_whole_and_in_events() {
    let server = TestServer::start(options());
    let chat = server
        .post("/v1/chat/completions", &body("Tell me about rivers.", json!({ "max_tokens": 40 })))
        .json();
    let more = json!({ "max_tokens": 40, "metadata": { "user_id": "x" }, "context_management": { "edits": [] },
        "output_config": { "effort": "high" }, "thinking": { "type": "adaptive" } });
    let whole = object(&server.post("/v1/messages?beta=true", &body("Tell me about rivers.", more.clone())));
    assert_eq!(
        whole["content"],
        json!([{ "type": "text", "text": chat["choices"][0]["message"]["content"] }])
    );
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["model"]),
        (&json!("message"), &json!("assistant"), &json!("tiny"))
    );
    assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!("max_tokens"), &Value::Null));
    let tokens = |field: &str| whole["usage"][field].as_u64().unwrap();
    assert_eq!(
        json!(tokens("input_tokens") + tokens("cache_read_input_tokens")),
        chat["usage"]["prompt_tokens"]
    );
    assert_eq!(whole["usage"]["output_tokens"], chat["usage"]["completion_tokens"]);
    let mut streamed = more;
    streamed["stream"] = true.into();
    let events = events(&ask(&server, "Tell me about rivers.", streamed));
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    assert_eq!(essence(&assembled(&events)), essence(&whole));
}

#[test]
fn a_message_says_why_it_ended() {
    let server = TestServer::start(options());
    let text = object(&ask(&server, "Hi", json!({})))["content"][0]["text"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(5).take(2).collect();
    for stream in [false, true] {
        let reply = ask(&server, "Hi", json!({ "stop_sequences": ["never", stop], "stream": stream }));
        let message = if stream { assembled(&events(&reply)) } else { object(&reply) };
        assert_eq!(
            (&message["stop_reason"], &message["stop_sequence"]),
            (&json!("stop_sequence"), &json!(stop))
        );
        assert_eq!(message["content"][0]["text"], text[..text.find(&stop).unwrap()]);
        // An end by the model itself, which a bias makes likely.
        let more = json!({ "logit_bias": { "2": 100 }, "stream": stream });
        let reply = ask(&server, "Hi", more);
        let message = if stream { assembled(&events(&reply)) } else { object(&reply) };
        assert_eq!((&message["stop_reason"], &message["content"]), (&json!("end_turn"), &json!([])));
    }
    // More than the context holds is cut.
    let long = object(&ask(&server, "Hi", json!({ "max_tokens": 32_000, "ignore_eos": true })));
    assert_eq!(long["stop_reason"], "max_tokens");
}

#[test]
fn tools_are_used_and_their_results_are_read() {
    let server = roomy();
    let more = json!({ "tools": [weather()], "max_tokens": 100,
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true } });
    let whole = object(&ask(&server, "Weather?", more.clone()));
    let [call] = whole["content"].as_array().unwrap().as_slice() else { panic!("{whole}") };
    assert_eq!(
        (&call["type"], &call["name"], &whole["stop_reason"]),
        (&json!("tool_use"), &json!("weather"), &json!("tool_use"))
    );
    assert!(
        call["input"]["city"].is_string() && call["id"].as_str().unwrap().starts_with("toolu_"),
        "{call}"
    );
    let mut streamed = more.clone();
    streamed["stream"] = true.into();
    assert_eq!(essence(&assembled(&events(&ask(&server, "Weather?", streamed)))), essence(&whole));

    // The conversation goes on as the same chat does.
    let result = json!({ "type": "tool_result", "tool_use_id": call["id"], "content": [{ "type": "text", "text": "21" }] });
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": "Weather?", "cache_control": { "type": "ephemeral" } }] },
        { "role": "assistant", "content": [call] },
        { "role": "user", "content": [result, { "type": "text", "text": "And?" }] },
    ]);
    let system = json!([{ "type": "text", "text": "You are brief." }]);
    let next =
        object(&ask(&server, "", json!({ "messages": messages, "system": system, "tools": [weather()] })));
    let function =
        json!({ "name": "weather", "description": "Of a city", "parameters": weather()["input_schema"] });
    let called = json!({ "name": "weather", "arguments": call["input"].to_string() });
    let messages = json!([
        { "role": "system", "content": "You are brief." },
        { "role": "user", "content": "Weather?" },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function", "function": called }] },
        { "role": "tool", "tool_call_id": "1", "content": "21" },
        { "role": "user", "content": "And?" },
    ]);
    let fields = json!({ "messages": messages, "tools": [{ "type": "function", "function": function }] });
    let chat = server.post("/v1/chat/completions", &body("", fields)).json();
    assert_eq!(next["content"][0]["text"], chat["choices"][0]["message"]["content"]);
    let prompt = next["usage"]["input_tokens"].as_u64().unwrap()
        + next["usage"]["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(json!(prompt), chat["usage"]["prompt_tokens"]);
}

#[test]
fn tokens_are_counted_without_an_answer() {
    let server = roomy();
    let fields = json!({ "system": "Be brief.", "tools": [weather()] });
    let count =
        object(&server.post("/v1/messages/count_tokens", &body("Weather?", fields.clone())))["input_tokens"]
            .clone();
    let usage = object(&ask(&server, "Weather?", fields))["usage"].clone();
    assert_eq!(
        count,
        usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap()
    );
}

#[test]
fn an_answer_goes_on_with_what_the_assistant_said_last_and_follows_a_schema() {
    let server = TestServer::start(options());
    let length = |said: &str| {
        let messages =
            json!([{ "role": "user", "content": "Tell." }, { "role": "assistant", "content": said }]);
        object(&server.post("/v1/messages/count_tokens", &json!({ "messages": messages })))["input_tokens"]
            .as_u64()
            .unwrap()
    };
    assert!(length("Once") < length(""), "an empty turn is closed, and another one begins");
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 0, "maximum": 9 } },
        "required": ["a"], "additionalProperties": false });
    let format = json!({ "type": "json_schema", "schema": schema });
    for more in [json!({ "output_config": { "format": format } }), json!({ "output_format": format })] {
        let answer = object(&ask(&server, "Say it.", more));
        let value: Value = serde_json::from_str(answer["content"][0]["text"].as_str().unwrap()).unwrap();
        assert!(value["a"].as_u64().unwrap() <= 9);
    }
}

#[test]
fn errors_are_in_anthropics_form() {
    let keys = vec![ApiKey::parse("alice:a").unwrap()];
    let server = TestServer::start(ServerOptions { keys, ..options() });
    let content = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    for (headers, path, body, status, kind, message) in [
        (&[][..], "", content(json!("Hi")), 401, "authentication_error", "x-api-key"),
        (&[("x-api-key", "b")], "", content(json!("Hi")), 401, "authentication_error", "none"),
        (
            &[("x-api-key", "a"), ("Origin", "http://evil.example")],
            "",
            content(json!("Hi")),
            403,
            "permission_error",
            "evil",
        ),
        (&[("x-api-key", "a")], "", json!({ "messages": [] }), 400, "invalid_request_error", "empty"),
        (
            &[("x-api-key", "a")],
            "",
            json!({ "messages": [], "thinking": { "type": "loud" } }),
            400,
            "invalid_request_error",
            "",
        ),
        (
            &[("x-api-key", "a")],
            "",
            content(json!([{ "type": "image" }])),
            400,
            "invalid_request_error",
            "messages[0].content[0]",
        ),
        (
            &[("x-api-key", "a")],
            "",
            json!({ "messages": [{ "role": "user", "content": "x" }], "mcp_servers": [{}] }),
            400,
            "invalid_request_error",
            "mcp_servers",
        ),
        (
            &[("x-api-key", "a")],
            "",
            json!({ "messages": [{ "role": "user", "content": "x" }], "model": "claude-9" }),
            404,
            "not_found_error",
            "claude-9",
        ),
        (
            &[("x-api-key", "a")],
            "/count_tokens",
            json!({ "messages": [{ "role": "user", "content": "x" }], "model": "claude-9" }),
            404,
            "not_found_error",
            "claude-9",
        ),
        (
            &[("x-api-key", "a")],
            "",
            content(json!("x".repeat(8 << 20))),
            413,
            "request_too_large",
            "--max-body",
        ),
    ] {
        let json = [("Content-Type", "application/json")];
        let headers: Vec<_> = headers.iter().copied().chain(json).collect();
        let reply = server.post_with(&format!("/v1/messages{path}"), &headers, &body.to_string());
        let error = reply.json();
        assert_eq!(
            (reply.status, &error["type"], &error["error"]["type"]),
            (status, &json!("error"), &json!(kind)),
            "{error}"
        );
        let told = error["error"]["message"].as_str().unwrap();
        if message == "none" {
            assert!(told.contains("not one of"), "{told}");
        } else {
            assert!(told.contains(message), "{told}");
        }
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    let long = content(json!("word ".repeat(2000))).to_string();
    let long =
        server.post_with("/v1/messages", &[("x-api-key", "a")], &long).json()["error"]["message"].clone();
    let long = long.as_str().unwrap();
    assert!(long.starts_with("prompt is too long: ") && long.contains(" tokens > 511 maximum"), "{long}");
    let text = server.post_with("/v1/messages", &[("x-api-key", "a"), ("Content-Type", "text/plain")], "{}");
    assert_eq!((text.status, &text.json()["error"]["type"]), (415, &json!("invalid_request_error")));
    let get = server.get_with("/v1/messages", &[("x-api-key", "a")]);
    assert_eq!((get.status, &get.json()["error"]["type"]), (405, &json!("invalid_request_error")));
    let answered =
        server.post_with("/v1/messages", &[("x-api-key", "a")], &body("Hi", json!({})).to_string());
    assert_eq!(answered.status, 200, "{}", answered.text);
}

#[test]
fn a_stream_that_fails_ends_with_an_error_event() {
    let timeout = std::time::Duration::from_millis(50);
    let server = TestServer::start(ServerOptions { request_timeout: timeout, ..options() });
    let long = json!({ "max_tokens": 100_000, "stream": true, "lookahead": { "enabled": false }, "ignore_eos": true });
    let events = events(&ask(&server, "Tell me a long story.", long));
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("timeout_error")), "{last}");
}

#[test]
fn a_client_may_ask_whether_the_server_is_there() {
    let server = TestServer::start(options());
    assert_eq!(server.head("/").status, 200);
}
