//! Whatever wire a conversation comes by, it makes the same prompt and the same answer.

use crate::common::{TestServer, model, options};
use crate::conversations::roomy;
use crate::{messages, responses};
use lookahead_fixtures::{Thoughts, TinyModel};
use serde_json::{Value, json};

/// What a wire says of an answer: tokens of the prompt and of the answer, its text, and what it calls.
fn told(input: u64, output: &Value, text: &Value, calls: Vec<(Value, Value)>) -> Value {
    let calls: Vec<Value> = calls.into_iter().map(|(name, arguments)| json!([name, arguments])).collect();
    let text = if text.is_null() { json!("") } else { text.clone() };
    json!({ "input": input, "output": output, "text": text, "calls": calls })
}

fn parsed(arguments: &Value) -> Value {
    serde_json::from_str(arguments.as_str().unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn chat(answer: &Value) -> Value {
    let (message, usage) = (&answer["choices"][0]["message"], &answer["usage"]);
    let calls = list(&message["tool_calls"]).iter().map(|call| &call["function"]);
    let calls = calls.map(|call| (call["name"].clone(), parsed(&call["arguments"]))).collect();
    told(usage["prompt_tokens"].as_u64().unwrap(), &usage["completion_tokens"], &message["content"], calls)
}

fn message(answer: &Value) -> Value {
    let blocks =
        |kind: &'static str| list(&answer["content"]).iter().filter(move |block| block["type"] == kind);
    let text = blocks("text").next().map_or(Value::Null, |block| block["text"].clone());
    let calls = blocks("tool_use").map(|call| (call["name"].clone(), call["input"].clone())).collect();
    let count = |field: &str| answer["usage"][field].as_u64().unwrap();
    told(
        count("input_tokens") + count("cache_read_input_tokens"),
        &answer["usage"]["output_tokens"],
        &text,
        calls,
    )
}

fn response(answer: &Value) -> Value {
    let items = |kind: &'static str| list(&answer["output"]).iter().filter(move |item| item["type"] == kind);
    let text = items("message").next().map_or(Value::Null, |item| item["content"][0]["text"].clone());
    let calls =
        items("function_call").map(|call| (call["name"].clone(), parsed(&call["arguments"]))).collect();
    let usage = &answer["usage"];
    told(usage["input_tokens"].as_u64().unwrap(), &usage["output_tokens"], &text, calls)
}

#[test]
fn three_wires_give_the_same_tokens() {
    let server = roomy();
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 5 } },
        "required": ["city"], "additionalProperties": false });
    let function = json!({ "name": "weather", "description": "Of a city", "parameters": schema });
    let arguments = json!({ "city": "Oslo" });
    let chat_tools = json!([{ "type": "function", "function": function }]);
    let message_tools = json!([{ "name": "weather", "description": "Of a city", "input_schema": schema }]);
    let response_tools = json!([{ "type": "function", "name": "weather", "description": "Of a city", "parameters": schema, "strict": true }]);
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "weather", "arguments": arguments.to_string() } });
    let chat_messages = json!([
        { "role": "system", "content": "You are a guide." },
        { "role": "user", "content": "Weather in Oslo?" },
        { "role": "assistant", "content": "Let me see.", "reasoning_content": "A city.", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "content": "Rain." },
        { "role": "user", "content": "And in Rome?" },
    ]);
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": "Weather in Oslo?" }] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "A city.", "signature": "x" }, { "type": "text", "text": "Let me see." },
            { "type": "tool_use", "id": "c1", "name": "weather", "input": arguments }] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "c1", "content": [{ "type": "text", "text": "Rain." }] },
            { "type": "text", "text": "And in Rome?" }] },
    ]);
    let input = json!([
        { "role": "user", "content": "Weather in Oslo?" },
        { "type": "reasoning", "summary": [], "content": [{ "type": "reasoning_text", "text": "A city." }] },
        { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "Let me see." }] },
        { "type": "function_call", "call_id": "c1", "name": "weather", "arguments": arguments.to_string() },
        { "type": "function_call_output", "call_id": "c1", "output": "Rain." },
        { "role": "user", "content": "And in Rome?" },
    ]);
    for (choices, sampling) in [
        ([json!("none"), json!({ "type": "none" }), json!("none")], json!({ "temperature": 0 })),
        (
            [json!("none"), json!({ "type": "none" }), json!("none")],
            json!({ "temperature": 1.2, "top_p": 0.9, "seed": 7 }),
        ),
        ([json!("auto"), json!({ "type": "auto" }), json!("auto")], json!({ "temperature": 0.8, "seed": 3 })),
        (
            [
                json!({ "type": "function", "function": { "name": "weather" } }),
                json!({ "type": "tool", "name": "weather" }),
                json!({ "type": "function", "name": "weather" }),
            ],
            json!({ "temperature": 1, "seed": 5 }),
        ),
    ] {
        let ask = |path: &str, limit: &str, fields: Value| {
            let mut body = sampling.clone();
            body[limit] = 100.into();
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let reply = server.post(path, &body);
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
            reply.json()
        };
        let [chat_choice, message_choice, response_choice] = &choices;
        let fields = json!({ "messages": chat_messages, "tools": chat_tools, "tool_choice": chat_choice });
        let by_chat = chat(&ask("/v1/chat/completions", "max_tokens", fields));
        let fields = json!({ "system": "You are a guide.", "messages": messages, "tools": message_tools, "tool_choice": message_choice });
        let by_message = message(&ask("/v1/messages", "max_tokens", fields));
        let fields = json!({ "instructions": "You are a guide.", "input": input, "tools": response_tools, "tool_choice": response_choice });
        let by_response = response(&ask("/v1/responses", "max_output_tokens", fields));
        assert_eq!(by_chat, by_message, "{choices:?}");
        assert_eq!(by_chat, by_response, "{choices:?}");
    }
}

#[test]
fn thoughts_come_by_every_wire() {
    let tiny = TinyModel { thoughts: Thoughts::Tags, ..TinyModel::default() };
    let server = TestServer::with_models(options(), vec![model(&tiny, &["tiny"], 8192)]);
    let question = json!([{ "role": "user", "content": "Where does the river end?" }]);
    let ask = |path: &str, limit: &str, fields: Value| {
        let mut body = json!({ "temperature": 0, limit: 40 });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply
    };
    let fields = json!({ "messages": question, "enable_thinking": true, "thinking_budget": 9 });
    let chat = ask("/v1/chat/completions", "max_tokens", fields).json();
    let message = &chat["choices"][0]["message"];
    assert!(!message["reasoning_content"].as_str().unwrap().is_empty());
    let mut fields = json!({ "messages": question, "thinking": { "type": "enabled", "budget_tokens": 9 } });
    let whole = ask("/v1/messages", "max_tokens", fields.clone()).json();
    let thinking = &whole["content"][0];
    assert_eq!(
        (&thinking["type"], &thinking["thinking"]),
        (&json!("thinking"), &message["reasoning_content"])
    );
    assert!(
        !thinking["signature"].as_str().unwrap().is_empty(),
        "clients send no thinking back that has none"
    );
    assert_eq!(whole["content"][1]["text"], message["content"]);
    let details = &chat["usage"]["completion_tokens_details"];
    assert_eq!(whole["usage"]["output_tokens_details"]["thinking_tokens"], details["reasoning_tokens"]);
    fields["stream"] = true.into();
    let streamed = messages::assembled(&messages::events(&ask("/v1/messages", "max_tokens", fields)));
    assert_eq!(messages::essence(&streamed), messages::essence(&whole));

    let mut fields = json!({ "input": question, "enable_thinking": true, "thinking_budget": 9 });
    let whole = ask("/v1/responses", "max_output_tokens", fields.clone()).json();
    let item = &whole["output"][0];
    assert_eq!(
        (&item["type"], &item["content"][0]["text"]),
        (&json!("reasoning"), &message["reasoning_content"])
    );
    assert_eq!(whole["output"][1]["content"][0]["text"], message["content"]);
    assert_eq!(whole["usage"]["output_tokens_details"]["reasoning_tokens"], details["reasoning_tokens"]);
    fields["stream"] = true.into();
    let streamed =
        responses::assembled(&responses::events(&ask("/v1/responses", "max_output_tokens", fields)));
    assert_eq!(responses::essence(&streamed), responses::essence(&whole));

    // What was thought goes back as it came.
    let said = json!({ "role": "assistant", "content": message["content"], "reasoning_content": message["reasoning_content"] });
    let fields = json!({ "messages": [question[0], said, question[0]] });
    let by_chat = ask("/v1/chat/completions", "max_tokens", fields).json();
    let fields = json!({ "input": question, "previous_response_id": whole["id"] });
    let by_response = ask("/v1/responses", "max_output_tokens", fields).json();
    assert_eq!(by_response["usage"]["input_tokens"], by_chat["usage"]["prompt_tokens"]);
}

#[test]
fn calls_come_one_at_a_time_where_a_request_says_so() {
    let server = roomy();
    let schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let form = json!({ "type": "object", "properties": { "n": { "const": 1 } }, "required": ["n"] });
    let question = json!([{ "role": "user", "content": "Hi" }]);
    let ask = |path: &str, seed: u64, more: [Value; 2]| {
        // Without the bias, random answers hardly go on behind a call.
        let mut body = json!({ "temperature": 2, "seed": seed, "logit_bias": { "2": -100 } });
        for more in more {
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    };
    let chat_fields = json!({ "messages": question, "max_tokens": 200,
        "tools": [{ "type": "function", "function": { "name": "now", "parameters": schema } }],
        "response_format": { "type": "json_schema", "json_schema": { "schema": form } } });
    let message_fields = json!({ "messages": question, "max_tokens": 200,
        "tools": [{ "name": "now", "input_schema": schema }],
        "output_config": { "format": { "type": "json_schema", "schema": form } } });
    let response_fields = json!({ "input": question, "max_output_tokens": 200,
        "tools": [{ "type": "function", "name": "now", "parameters": schema }],
        "text": { "format": { "type": "json_schema", "name": "n", "schema": form } } });
    let (mut most, mut called) = (0, false);
    for seed in 0..12 {
        let asked = |more: Value| ask("/v1/chat/completions", seed, [chat_fields.clone(), more]);
        most = most.max(list(&asked(json!({}))["choices"][0]["message"]["tool_calls"]).len());
        let one = json!({ "parallel_tool_calls": false });
        let by_chat = chat(&asked(one.clone()));
        let calls = list(&by_chat["calls"]).len();
        assert!(calls <= 1, "{by_chat}");
        called |= calls == 1;
        let plain = json!({ "parallel_tool_calls": false, "lookahead": { "enabled": false } });
        assert_eq!(chat(&asked(plain)), by_chat);
        let choice = json!({ "tool_choice": { "type": "auto", "disable_parallel_tool_use": true } });
        assert_eq!(message(&ask("/v1/messages", seed, [message_fields.clone(), choice])), by_chat);
        assert_eq!(response(&ask("/v1/responses", seed, [response_fields.clone(), one])), by_chat);
    }
    assert!(most > 1 && called, "calls came to the test, and several in a row where they may");
}
