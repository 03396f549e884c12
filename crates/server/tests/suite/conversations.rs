//! Conversations as clients hold them, in all the forms that they are sent in.

use crate::common::{Reply, TestServer, model, options};
use lookahead_fixtures::TinyModel;
use serde_json::{Value, json};

/// A server with room for descriptions of functions.
pub(crate) fn roomy() -> TestServer {
    let tiny = TinyModel { context_length: 2048, ..TinyModel::default() };
    TestServer::with_models(options(), vec![model(&tiny, &["tiny"], 8192)])
}

fn weather() -> Value {
    let properties = json!({ "city": { "type": "string", "maxLength": 5 } });
    json!({ "type": "object", "properties": properties, "required": ["city"], "additionalProperties": false })
}

#[expect(clippy::needless_pass_by_value, reason = "reads better")]
fn ask(server: &TestServer, messages: Value, more: Value) -> Reply {
    let mut body = json!({ "messages": messages, "temperature": 0, "max_tokens": 100 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/chat/completions", &body)
}

fn prompt_tokens(reply: &Reply) -> u64 {
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["usage"]["prompt_tokens"].as_u64().unwrap()
}

#[test]
fn histories_of_other_servers_are_answered_as_if_they_were_ours() {
    let server = TestServer::start(options());
    let call =
        json!([{ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } }]);
    let question = json!({ "role": "user", "content": "Hi" });
    let history = |said: Value, result: Value| json!([question, said, result, question]);
    let expected = ask(
        &server,
        history(
            json!({ "role": "assistant", "content": "", "tool_calls": call }),
            json!({ "role": "tool", "tool_call_id": "1", "content": "42" }),
        ),
        json!({}),
    );
    let expected = (prompt_tokens(&expected), expected.json()["choices"].clone());
    for (said, result) in [
        (
            json!({ "role": "Assistant", "content": null, "refusal": null, "tool_calls": call }),
            json!({ "role": "TOOL", "tool_call_id": "1", "content": ["42"] }),
        ),
        (
            json!({ "role": "assistant", "function_call": call[0]["function"] }),
            json!({ "role": "function", "name": "f", "content": [{ "type": "text", "text": "42" }] }),
        ),
        (
            json!({ "role": "assistant", "tool_calls": [call[0]["function"]],
                "content": [{ "type": "redacted_thinking", "data": "x" }, { "type": "output_text", "text": "" }] }),
            json!({ "role": "tool", "content": [{ "type": "text", "text": "4" }, { "type": "input_text", "text": "2" }] }),
        ),
    ] {
        let reply = ask(&server, history(said.clone(), result), json!({}));
        assert_eq!((prompt_tokens(&reply), reply.json()["choices"].clone()), expected, "{said}");
    }
}

#[test]
fn a_request_that_leaves_something_out_is_answered_with_a_warning() {
    let server = TestServer::start(options());
    let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } });
    let said = json!({ "role": "assistant", "content": null,
        "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] });
    let result = |content: Value| json!({ "role": "tool", "tool_call_id": "1", "content": content });
    let beside = json!([said, result(json!([{ "type": "text", "text": "a chart" }, image]))]);
    let reply = ask(&server, beside, json!({ "max_tokens": 1 }));
    assert!(
        reply.headers["x-lookahead-warning"].to_str().unwrap().contains("image_url"),
        "{:?}",
        reply.headers
    );
    assert_eq!(reply.status, 200, "{}", reply.text);
    let alone = ask(&server, json!([said, result(json!([image]))]), json!({}));
    assert_eq!((alone.status, &alone.json()["error"]["param"]), (400, &json!("messages[1].content[0]")));

    let question = json!([{ "role": "user", "content": "Hi" }]);
    let tools =
        json!([{ "type": "web_search" }, { "type": "function", "name": "f", "parameters": weather() }]);
    for stream in [false, true] {
        let more = json!({ "tools": tools, "max_tokens": 1, "stream": stream });
        let reply = ask(&server, question.clone(), more);
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(reply.headers["x-lookahead-warning"].to_str().unwrap().contains("web_search"));
    }
    let required = ask(&server, question.clone(), json!({ "tools": tools, "tool_choice": "required" }));
    assert_eq!((required.status, &required.json()["error"]["param"]), (400, &json!("tools[0]")));
    assert!(!ask(&server, question, json!({ "max_tokens": 1 })).headers.contains_key("x-lookahead-warning"));
}

#[test]
fn what_no_grammar_holds_of_a_schema_is_checked_when_a_call_is_complete() {
    let server = roomy();
    let question = json!([{ "role": "user", "content": "Hi" }]);
    let list = json!({ "type": "array", "items": { "enum": ["a"] }, "minItems": 2, "maxItems": 2, "uniqueItems": true });
    let asked = |list: &Value, stream: bool, strict: bool, most: u64| {
        let schema = json!({ "type": "object", "properties": { "tags": list }, "required": ["tags"], "additionalProperties": false });
        let tool = json!({ "type": "function", "name": "f", "parameters": schema, "strict": strict });
        let more = json!({ "tools": [tool], "tool_choice": "required", "stream": stream, "max_tokens": most, "parallel_tool_calls": false });
        ask(&server, question.clone(), more)
    };
    let unmet = || server.metric("lookahead_unmet_assertions_total");
    let reply = asked(&list, false, false, 100);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(
        reply.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
        r#"{"tags": ["a", "a"]}"#,
        "the call comes as it is"
    );
    assert_eq!(
        reply.headers["x-lookahead-warning"],
        r#"call of "f": uniqueItems at /properties/tags does not hold"#
    );
    assert_eq!(unmet(), 1.0);
    let streamed = asked(&list, true, false, 100);
    assert!(streamed.text.contains("[DONE]") && !streamed.headers.contains_key("x-lookahead-warning"));
    assert_eq!(unmet(), 2.0, "headers have gone before");
    let mut met = list.clone();
    met["items"] = json!({});
    met["prefixItems"] = json!([{ "enum": ["a"] }, { "enum": ["b"] }]);
    for reply in [asked(&met, false, false, 100), asked(&list, false, false, 20)] {
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!reply.headers.contains_key("x-lookahead-warning"), "{}", reply.text);
    }
    assert_eq!((unmet(), asked(&list, false, true, 100).status), (2.0, 400));
}

#[test]
fn functions_of_all_forms_are_shown_alike_and_called() {
    let server = roomy();
    let question = json!([{ "role": "user", "content": "Weather?" }]);
    let mut answers = Vec::new();
    for (tool, choice) in [
        (
            json!({ "type": "function", "function": { "name": "w", "description": "d", "parameters": weather() } }),
            json!("required"),
        ),
        (
            json!({ "type": "function", "name": "w", "description": "d", "parameters": weather(), "strict": false }),
            json!("any"),
        ),
        (json!({ "name": "w", "description": "d", "input_schema": weather() }), json!({ "type": "any" })),
        (
            json!({ "name": "w", "description": "d", "input_schema": weather() }),
            json!({ "type": "tool", "name": "w" }),
        ),
    ] {
        let more = json!({ "tools": [tool], "tool_choice": choice, "parallel_tool_calls": false });
        let reply = ask(&server, question.clone(), more);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let choice = &reply.json()["choices"][0];
        let function = choice["message"]["tool_calls"][0]["function"].clone();
        assert_eq!((&choice["finish_reason"], &function["name"]), (&json!("tool_calls"), &json!("w")));
        answers.push((prompt_tokens(&reply), function));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");

    // The older form is answered in the older form.
    let functions = json!({ "functions": [{ "name": "w", "description": "d", "parameters": weather() }],
        "function_call": { "name": "w" } });
    let older = ask(&server, question.clone(), functions.clone());
    let choice = older.json()["choices"][0].clone();
    assert_eq!((prompt_tokens(&older), choice["message"]["function_call"].clone()), answers[0]);
    assert_eq!(choice["finish_reason"], "function_call");
    let mut streamed = functions;
    streamed["stream"] = true.into();
    let streamed = ask(&server, question, streamed).text;
    let pieces =
        streamed.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let pieces: Vec<Value> = pieces.map(|data| serde_json::from_str(data).unwrap()).collect();
    let of = |field: &str| -> String {
        let call = pieces.iter().map(|piece| &piece["choices"][0]["delta"]["function_call"]);
        call.filter_map(|call| call[field].as_str()).collect()
    };
    assert_eq!(
        json!({ "name": of("name"), "arguments": of("arguments") }),
        choice["message"]["function_call"]
    );
    assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "function_call");
}

#[test]
fn beside_functions_an_answer_may_have_to_be_json() {
    let server = roomy();
    let schema = json!({
        "type": "object", "properties": { "n": { "enum": [1, 2] } }, "required": ["n"], "additionalProperties": false,
    });
    let form = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let tools =
        json!([{ "type": "function", "function": { "name": "get_weather", "parameters": weather() } }]);
    let mut seen = [false, false];
    for seed in 0..12 {
        let more = json!({ "tools": tools, "response_format": form, "temperature": 2, "seed": seed });
        let reply = ask(&server, json!([{ "role": "user", "content": "Hi" }]), more);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let message = &reply.json()["choices"][0]["message"];
        let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
        if calls == 0 {
            let said: Value = serde_json::from_str(message["content"].as_str().unwrap()).unwrap();
            assert!(said == json!({ "n": 1 }) || said == json!({ "n": 2 }), "{message}");
        } else {
            assert!(message["content"].is_null(), "{message}");
        }
        seen[usize::from(calls > 0)] = true;
    }
    assert_eq!(seen, [true, true], "both kinds of answers came to the test");
    let more = json!({ "tools": tools, "structured_outputs": { "regex": "a+" } });
    let refused = ask(&server, json!([{ "role": "user", "content": "Hi" }]), more);
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("structured_outputs.regex: beside tools"), "{}", refused.text);
}
