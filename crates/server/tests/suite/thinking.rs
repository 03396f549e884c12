//! What a model thinks is told from what it answers.

use std::sync::Arc;

use crate::common::{TestServer, model, options};
use lookahead_fixtures::{Thoughts, TinyModel};
use lookahead_model::{PromptEncoder, chat_template::ChatTemplate};
use lookahead_server::{ReasoningMode, ServerOptions};
use serde_json::{Value, json};

fn server(options: ServerOptions) -> TestServer {
    let tiny = TinyModel { thoughts: Thoughts::Tags, ..TinyModel::default() };
    TestServer::with_models(options, vec![model(&tiny, &["tiny"], 8192)])
}

/// The answer to a question, with more fields.
fn ask(server: &TestServer, more: &Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Where does the river end?" }],
        "temperature": 0, "max_tokens": 60,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = server.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{body}: {}", reply.text);
    reply.json()
}

fn message(answer: &Value) -> (&str, &str) {
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning"], message["reasoning_content"]);
    (message["reasoning_content"].as_str().unwrap_or_default(), message["content"].as_str().unwrap())
}

#[test]
fn thoughts_come_beside_the_answer_and_end_with_their_budget() {
    let server = server(options());
    let answer = ask(&server, &json!({ "thinking_budget": 9 }));
    let (reasoning, content) = message(&answer);
    assert!(!reasoning.is_empty() && !content.is_empty(), "{answer}");
    assert!(!format!("{reasoning}{content}").contains("think>"), "{answer}");
    let details = &answer["usage"]["completion_tokens_details"];
    assert_eq!(details["reasoning_tokens"], 10, "nine, and the one that ends them");

    let plain = ask(&server, &json!({ "thinking_budget": 9, "lookahead": { "enabled": false } }));
    assert_eq!(plain["choices"], answer["choices"]);
    let (mut thoughts, mut text) = (String::new(), String::new());
    let body = json!({
        "messages": [{ "role": "user", "content": "Where does the river end?" }],
        "temperature": 0, "max_tokens": 60, "thinking_budget": 9, "stream": true,
    });
    let stream = server.post("/v1/chat/completions", &body).text;
    for piece in stream.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let piece: Value = serde_json::from_str(&format!("{{{piece}")).unwrap();
        let delta = &piece["choices"][0]["delta"];
        let reasoning = delta["reasoning_content"].as_str().unwrap_or_default();
        assert!(reasoning.is_empty() || text.is_empty(), "thoughts come first");
        thoughts += reasoning;
        text += delta["content"].as_str().unwrap_or_default();
    }
    assert_eq!((thoughts.as_str(), text.as_str()), (reasoning, content));
}

#[test]
fn an_answer_of_a_given_form_begins_behind_the_thoughts() {
    let server = server(options());
    let schema = json!({
        "type": "object", "properties": { "n": { "enum": [1, 2] } }, "required": ["n"], "additionalProperties": false,
    });
    let form = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    for enabled in [true, false] {
        let more =
            json!({ "thinking_budget": 7, "response_format": form, "lookahead": { "enabled": enabled } });
        let answer = ask(&server, &more);
        let (reasoning, content) = message(&answer);
        let value: Value = serde_json::from_str(content).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(!reasoning.is_empty() && [json!(1), json!(2)].contains(&value["n"]), "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

#[test]
fn a_form_holds_in_the_final_channel_behind_thoughts_in_another() {
    let tiny = TinyModel { thoughts: Thoughts::Channels, context_length: 2048, ..TinyModel::default() };
    let server = TestServer::with_models(options(), vec![model(&tiny, &["tiny"], 8192)]);
    let mut thoughtful = 0;
    for seed in 0..20 {
        if seed > 1 && thoughtful > 0 {
            break;
        }
        // That a thought begins and ends is a matter of chance.
        let more = |enabled: bool| {
            json!({ "structured_outputs": { "choice": ["yes", "no"] }, "max_tokens": 1500, "temperature": 2, "seed": seed,
                "lookahead": { "enabled": enabled } })
        };
        let answer = ask(&server, &more(true));
        let (reasoning, content) = message(&answer);
        if answer["choices"][0]["finish_reason"] == "stop" {
            assert!(["yes", "no"].contains(&content), "{answer}");
            thoughtful += usize::from(!reasoning.is_empty());
        }
        if seed < 2 {
            assert_eq!(ask(&server, &more(false))["choices"], answer["choices"]);
        }
    }
    assert!(thoughtful > 0, "some answer had thoughts");
}

#[test]
fn an_answer_that_is_cut_off_inside_its_thoughts_has_no_content() {
    let answer = ask(&server(options()), &json!({ "max_tokens": 5, "thinking_budget": 50 }));
    let (reasoning, content) = message(&answer);
    assert!(!reasoning.is_empty() && content.is_empty(), "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 5);
}

#[test]
fn who_asks_for_no_thoughts_gets_none() {
    let server = server(options());
    for more in [
        json!({ "reasoning_effort": "none" }),
        json!({ "enable_thinking": false }),
        json!({ "chat_template_kwargs": { "enable_thinking": false } }),
    ] {
        let answer = ask(&server, &more);
        let (reasoning, content) = message(&answer);
        assert!(reasoning.is_empty() && !content.is_empty(), "{answer}");
        assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
    }
}

#[test]
fn thoughts_are_part_of_the_answer_where_the_operator_wants_it_so() {
    let answer = ask(
        &server(ServerOptions { reasoning: ReasoningMode::Off, ..options() }),
        &json!({ "logit_bias": { "510": 100 }, "max_tokens": 3 }),
    );
    assert_eq!(message(&answer), ("", "<think><think><think>"));
}

/// A server of a model with that chat template.
fn templated(source: &str) -> TestServer {
    let (engine, mut served) = model(&TinyModel::default(), &["tiny"], 8192);
    let template = ChatTemplate::from_source("test", source, "", "").unwrap();
    served.prompts =
        Arc::new(PromptEncoder::new(Arc::clone(served.prompts.tokenizer()), Some(template)).unwrap());
    TestServer::with_models(options(), vec![(engine, served)])
}

#[test]
fn an_answer_goes_on_with_the_message_that_its_prompt_begins() {
    let server = templated(
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}{{ message.content }}<|close|>{% endfor %}\
         {% if add_generation_prompt %}<|open|>{{ 'response' if thinking is false else 'think' }}<|sep|>{% endif %}",
    );
    let thoughtful = ask(&server, &json!({ "max_tokens": 9 }));
    let (reasoning, content) = message(&thoughtful);
    assert!(!reasoning.is_empty() && content.is_empty(), "{thoughtful}");
    assert_eq!(thoughtful["usage"]["completion_tokens_details"]["reasoning_tokens"], 9);
    for more in [
        json!({ "max_tokens": 9, "chat_template_kwargs": { "thinking": false } }),
        json!({ "response_format": { "type": "json_object" } }),
    ] {
        let answer = ask(&server, &more);
        let (reasoning, content) = message(&answer);
        assert!(reasoning.is_empty() && !content.is_empty(), "{more}: {answer}");
    }
    let server = templated(
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}>>>all\n{{ message.content }}{% endfor %}\
         {% if add_generation_prompt %}>>>{% endif %}",
    );
    let nothing = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let tools = json!([{ "type": "function", "function": { "name": "now", "parameters": nothing } }]);
    let answer =
        ask(&server, &json!({ "tools": tools, "tool_choice": "required", "parallel_tool_calls": false }));
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(*call, json!({ "name": "now", "arguments": "{}" }), "{answer}");
}
