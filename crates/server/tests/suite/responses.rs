//! OpenAI's responses.

use std::io::Read as _;
use std::time::Duration;

use crate::common::{Faulty, Reply, TestServer, options, rest_of, until};
use crate::conversations::roomy;
use lookahead_server::{ApiKey, ServerOptions};
use serde_json::{Value, json};

#[expect(clippy::needless_pass_by_value, reason = "reads better")]
fn body(input: Value, more: Value) -> Value {
    let mut body = json!({ "input": input, "temperature": 0, "max_output_tokens": 20 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ask(server: &TestServer, input: Value, more: Value) -> Reply {
    server.post("/v1/responses", &body(input, more))
}

fn object(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

/// The events of a stream: named as their data say, and numbered.
pub(crate) fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let events = reply.text.split("\n\n").filter(|event| !event.is_empty()).enumerate();
    let read = events.map(|(number, event)| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        assert_eq!(data["sequence_number"], number);
        data
    });
    read.collect()
}

/// The response of the last event, if the events before say the same.
pub(crate) fn assembled(events: &[Value]) -> Value {
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["response.created", "response.in_progress"]);
    let response = events.last().unwrap()["response"].clone();
    assert_eq!(kinds.last().unwrap().strip_prefix("response."), response["status"].as_str());
    assert_eq!(events[0]["response"]["id"], response["id"]);
    for (index, item) in response["output"].as_array().unwrap().iter().enumerate() {
        let of_item: Vec<&Value> = events.iter().filter(|event| event["output_index"] == index).collect();
        let last = of_item.last().unwrap();
        assert_eq!((&last["type"], &last["item"]), (&json!("response.output_item.done"), item));
        assert_eq!(of_item[0]["type"], "response.output_item.added");
        assert_eq!(of_item[0]["item"]["id"], item["id"]);
        assert!(of_item[1..of_item.len() - 1].iter().all(|event| event["item_id"] == item["id"]));
        let told: String = of_item.iter().filter_map(|event| event["delta"].as_str()).collect();
        let whole =
            if item["type"] == "function_call" { &item["arguments"] } else { &item["content"][0]["text"] };
        assert_eq!(told, *whole);
    }
    response
}

/// What of a response does not depend on when it was asked for.
pub(crate) fn essence(response: &Value) -> Value {
    let mut output = response["output"].clone();
    for item in output.as_array_mut().unwrap() {
        for id in ["id", "call_id"] {
            item.as_object_mut().unwrap().remove(id);
        }
    }
    json!([output, response["status"], response["incomplete_details"], response["usage"]["output_tokens"]])
}

fn weather() -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 5 } },
        "required": ["city"], "additionalProperties": false });
    json!({ "type": "function", "name": "weather", "description": "Of a city", "parameters": schema, "strict": false })
}

#[test]
fn a_response_is_what_the_chat_says_whole_and_in_events() {
    let server = TestServer::start(options());
    let fields = json!({ "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Tell me about rivers." }],
        "max_tokens": 20, "temperature": 0, "logprobs": true, "top_logprobs": 2 });
    let chat = server.post("/v1/chat/completions", &fields).json();
    let more = json!({ "instructions": "Be brief.", "reasoning": { "effort": "low", "summary": "auto" }, "store": false,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"], "top_logprobs": 2, "prompt_cache_key": "k",
        "client_metadata": { "a": "b" }, "metadata": { "m": "1" }, "truncation": "disabled", "text": { "verbosity": "low" } });
    let whole = object(&ask(&server, json!("Tell me about rivers."), more.clone()));
    let part = &whole["output"][0]["content"][0];
    assert_eq!(part["text"], chat["choices"][0]["message"]["content"]);
    assert_eq!(part["logprobs"], chat["choices"][0]["logprobs"]["content"]);
    assert_eq!(
        (&whole["object"], &whole["model"], &whole["metadata"]["m"]),
        (&json!("response"), &json!("tiny"), &json!("1"))
    );
    assert_eq!(
        (&whole["status"], &whole["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(whole["output"][0]["status"], "incomplete");
    assert_eq!(whole["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    assert_eq!(whole["usage"]["output_tokens"], chat["usage"]["completion_tokens"]);
    let items = json!([{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "Tell me about rivers." }] }]);
    let mut streamed = more;
    streamed["stream"] = true.into();
    let streamed = assembled(&events(&ask(&server, items, streamed)));
    assert_eq!(essence(&streamed), essence(&whole));
    // An answer that says nothing is an item all the same.
    for stream in [false, true] {
        let reply = ask(&server, json!("Hi"), json!({ "logit_bias": { "2": 100 }, "stream": stream }));
        let response = if stream { assembled(&events(&reply)) } else { object(&reply) };
        assert_eq!(
            (&response["status"], &response["output"][0]["content"][0]["text"]),
            (&json!("completed"), &json!(""))
        );
    }
}

#[test]
fn functions_are_called_and_their_results_are_read() {
    let server = roomy();
    let more = json!({ "tools": [weather()], "tool_choice": "required", "parallel_tool_calls": false, "max_output_tokens": 100 });
    let whole = object(&ask(&server, json!("Weather?"), more.clone()));
    let [call] = whole["output"].as_array().unwrap().as_slice() else { panic!("{whole}") };
    assert_eq!(
        (&call["type"], &call["name"], &whole["status"]),
        (&json!("function_call"), &json!("weather"), &json!("completed"))
    );
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(
        arguments["city"].is_string() && call["call_id"].as_str().unwrap().starts_with("call_"),
        "{call}"
    );
    assert_eq!((&whole["tools"], &whole["parallel_tool_calls"]), (&json!([weather()]), &json!(false)));
    let mut streamed = more.clone();
    streamed["stream"] = true.into();
    assert_eq!(essence(&assembled(&events(&ask(&server, json!("Weather?"), streamed)))), essence(&whole));
    // A call that is cut off is an incomplete item.
    let mut short = more;
    short["max_output_tokens"] = 30.into();
    for stream in [false, true] {
        short["stream"] = stream.into();
        let reply = ask(&server, json!("Weather?"), short.clone());
        let response = if stream { assembled(&events(&reply)) } else { object(&reply) };
        assert_eq!(
            (&response["status"], &response["output"][0]["status"]),
            (&json!("incomplete"), &json!("incomplete"))
        );
    }
}

#[test]
fn a_conversation_goes_on_from_what_is_kept_as_from_what_is_sent() {
    let server = roomy();
    let tools = json!({ "tools": [weather()], "max_output_tokens": 100 });
    let with = |more: Value| {
        let mut fields = tools.clone();
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    let required = json!({ "tool_choice": "required", "parallel_tool_calls": false });
    for stream in [false, true] {
        let mut fields = with(required.clone());
        fields["stream"] = stream.into();
        let reply = ask(&server, json!("Weather?"), fields);
        let first = if stream { assembled(&events(&reply)) } else { object(&reply) };
        let call = &first["output"][0];
        let result = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "21" });
        let kept =
            object(&ask(&server, json!([result]), with(json!({ "previous_response_id": first["id"] }))));
        assert_eq!(kept["previous_response_id"], first["id"]);
        let question = json!({ "role": "user", "content": "Weather?" });
        let sent = object(&ask(&server, json!([question, call, result]), tools.clone()));
        let reference = json!({ "type": "item_reference", "id": call["id"] });
        let named = object(&ask(&server, json!([question, reference, result]), tools.clone()));
        for other in [&sent, &named] {
            assert_eq!(essence(&kept), essence(other));
            assert_eq!(kept["usage"]["input_tokens"], other["usage"]["input_tokens"]);
        }
        // A third turn.
        let more = with(json!({ "previous_response_id": kept["id"], "instructions": "Be brief." }));
        let third = object(&ask(&server, json!("And?"), more));
        let mut items = vec![question, call.clone(), result];
        items.extend(kept["output"].as_array().unwrap().clone());
        items.push(json!({ "role": "user", "content": "And?" }));
        let sent = object(&ask(&server, json!(items), with(json!({ "instructions": "Be brief." }))));
        assert_eq!(essence(&third), essence(&sent));
        assert_eq!(third["usage"]["input_tokens"], sent["usage"]["input_tokens"]);
    }
}

#[test]
fn responses_are_kept_for_their_key_until_they_are_deleted() {
    let keys = ["alice:a", "bob:b"].map(|key| ApiKey::parse(key).unwrap()).to_vec();
    let server = TestServer::start(ServerOptions { keys, ..options() });
    let ask = |key: &str, more: Value| {
        server.post_as("/v1/responses", Some(key), &body(json!("Hi"), more).to_string())
    };
    let first = object(&ask("a", json!({})));
    let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
    assert_eq!(object(&server.get_as(&path, Some("a"))), first);
    let goes_on = json!({ "previous_response_id": first["id"] });
    for refused in [server.get_as(&path, Some("b")), server.delete_as(&path, Some("b"))] {
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("response_not_found")));
    }
    let other = ask("b", goes_on.clone());
    assert_eq!((other.status, &other.json()["error"]["param"]), (400, &json!("previous_response_id")));
    assert_eq!(ask("a", goes_on.clone()).status, 200);
    assert_eq!(object(&server.delete_as(&path, Some("a")))["deleted"], true);
    assert_eq!(server.get_as(&path, Some("a")).status, 404);
    assert_eq!(ask("a", goes_on).status, 400);
    let unkept = object(&ask("a", json!({ "store": false })));
    assert_eq!(
        server.get_as(&format!("/v1/responses/{}", unkept["id"].as_str().unwrap()), Some("a")).status,
        404
    );
}

#[test]
fn what_is_kept_of_a_request_counts_until_it_is_answered() {
    let options = ServerOptions { max_body_memory: 100_000, ..options() };
    let server = TestServer::with_model(options, 8192, |model| Faulty::new(model, Duration::from_millis(20)));
    let large = body(
        json!("Hi"),
        json!({ "metadata": { "m": "x".repeat(60_000) }, "stream": true, "ignore_eos": true }),
    );
    let mut stream = server.send("/v1/responses", None, &large);
    stream.read_exact(&mut [0; 100]).unwrap(); // it has begun
    let refused = server.post("/v1/responses", &large);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("body_memory_full")));
    assert!(rest_of(stream).contains("response.incomplete"));
    until("what was kept is given back", || server.post("/v1/responses", &large).status == 200);
}

#[test]
fn a_response_follows_a_schema() {
    let server = TestServer::start(options());
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 0, "maximum": 9 } },
        "required": ["a"], "additionalProperties": false });
    let format = json!({ "type": "json_schema", "name": "x", "schema": schema, "strict": true });
    let response = object(&ask(&server, json!("Say it."), json!({ "text": { "format": format } })));
    let value: Value =
        serde_json::from_str(response["output"][0]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(value["a"].as_u64().unwrap() <= 9);
    assert_eq!(response["text"]["format"], format);
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let server = TestServer::start(options());
    for (input, more, param) in [
        (json!([]), json!({}), "input"),
        (json!(null), json!({}), "input"),
        (json!(3), json!({}), "input"),
        (json!([{ "type": "web_search_call" }]), json!({}), "input[0]"),
        (json!("Hi"), json!({ "background": true }), "background"),
        (json!("Hi"), json!({ "conversation": "conv_1" }), "conversation"),
        (json!("Hi"), json!({ "prompt": { "id": "x" } }), "prompt"),
        (json!("Hi"), json!({ "n": 2 }), "n"),
        (json!("Hi"), json!({ "lookahead": { "trace": true } }), "lookahead.trace"),
        (json!("Hi"), json!({ "text": { "format": { "type": "xml" } } }), "text.format.type"),
        (json!("Hi"), json!({ "text": { "format": { "type": "json_schema" } } }), "text.format.schema"),
        (json!("Hi"), json!({ "top_logprobs": 21 }), "top_logprobs"),
        (json!("Hi"), json!({ "previous_response_id": "resp_9" }), "previous_response_id"),
    ] {
        let reply = ask(&server, input.clone(), more.clone());
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, error["param"].as_str()),
            (400, Some(param)),
            "{input}, {more}: {}",
            reply.text
        );
    }
}

#[test]
fn a_stream_that_fails_says_so_in_its_last_event() {
    let timeout = std::time::Duration::from_millis(50);
    let server = TestServer::start(ServerOptions { request_timeout: timeout, ..options() });
    let long = json!({ "max_output_tokens": 100_000, "stream": true, "lookahead": { "enabled": false }, "ignore_eos": true });
    let events = events(&ask(&server, json!("Tell me a long story."), long));
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["status"]),
        (&json!("response.failed"), &json!("failed")),
        "{last}"
    );
    assert_eq!(last["response"]["error"]["code"], "server_error");
}
