//! Ollama's API, as its clients use it.

use lookahead_fixtures::TinyModel;
use serde_json::{Value, json};

use crate::common::{Reply, TestServer, model, options};

fn with(mut fields: Value, more: &Value) -> Value {
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

fn chat(server: &TestServer, more: &Value) -> Reply {
    let fields = json!({
        "model": "tiny",
        "messages": [{ "role": "user", "content": "Tell me about rivers." }],
        "options": { "temperature": 0, "num_predict": 40 },
    });
    server.post("/api/chat", &with(fields, more))
}

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.headers["content-type"], "application/x-ndjson", "{}", reply.text);
    reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_chat_is_answered_as_in_openais_form_whole_and_in_lines() {
    let server = TestServer::start(options());
    let openai = json!({
        "messages": [{ "role": "user", "content": "Tell me about rivers." }], "temperature": 0, "max_tokens": 40,
    });
    let expected = server.post("/v1/chat/completions", &openai).json();
    let whole = chat(&server, &json!({ "stream": false })).json();
    assert_eq!(whole["message"]["content"], expected["choices"][0]["message"]["content"]);
    assert_eq!(whole["message"]["role"], "assistant");
    assert_eq!((&whole["done"], &whole["done_reason"]), (&json!(true), &json!("length")));
    assert_eq!(whole["prompt_eval_count"], expected["usage"]["prompt_tokens"]);
    assert_eq!(whole["eval_count"], 40);

    let lines = lines(&chat(&server, &json!({})));
    let (last, parts) = lines.split_last().unwrap();
    let text: String = parts.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(text, expected["choices"][0]["message"]["content"]);
    for line in &lines {
        assert_eq!(line["model"], "tiny");
        assert!(line["created_at"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert!(parts.iter().all(|line| line["done"] == false));
    assert_eq!((&last["done"], &last["message"]["content"]), (&json!(true), &json!("")));
    let duration = |name: &str| last[name].as_u64().unwrap_or_else(|| panic!("{name} in {last}"));
    assert!(duration("prompt_eval_duration") > 0 && duration("eval_duration") > 0);
    assert!(duration("total_duration") >= duration("prompt_eval_duration") + duration("eval_duration"));
    assert_eq!(duration("load_duration"), 0);
}

#[test]
fn a_text_is_what_a_user_says_or_with_raw_the_prompt() {
    let server = TestServer::start(options());
    let generate = |more: Value| {
        let fields = json!({
            "model": "tiny:latest", "prompt": "Tell me about rivers.", "stream": false,
            "options": { "temperature": 0, "num_predict": 30 },
        });
        let reply = server.post("/api/generate", &with(fields, &more));
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    };
    let text = |reply: &Value| reply["response"].as_str().unwrap().to_owned();
    let options = json!({ "temperature": 0, "num_predict": 30 });
    let as_chat = chat(&server, &json!({ "stream": false, "options": options })).json();
    let plain = generate(json!({}));
    assert_eq!(text(&plain), as_chat["message"]["content"].as_str().unwrap());
    assert_eq!(plain["model"], "tiny:latest");
    let told = generate(json!({ "system": "Be brief." }));
    assert!(told["prompt_eval_count"].as_u64() > plain["prompt_eval_count"].as_u64());
    let raw = generate(json!({ "raw": true, "system": "passed by" }));
    let completion = json!({ "prompt": "Tell me about rivers.", "temperature": 0, "max_tokens": 30 });
    let completed = server.post("/v1/completions", &completion).json();
    assert_eq!(text(&raw), completed["choices"][0]["text"].as_str().unwrap());
    let streamed = lines(&server.post(
        "/api/generate",
        &json!({ "model": "tiny", "prompt": "Tell me about rivers.", "raw": true,
            "options": { "temperature": 0, "num_predict": 30 } }),
    ));
    let streamed: String = streamed.iter().map(|line| line["response"].as_str().unwrap()).collect();
    assert_eq!(streamed, text(&raw));
    for (path, answer) in [("/api/generate", "/response"), ("/api/chat", "/message/content")] {
        let loaded = server.post(path, &json!({ "model": "tiny" })).json();
        assert_eq!((&loaded["done_reason"], loaded.pointer(answer)), (&json!("load"), Some(&json!(""))));
    }
}

#[test]
fn an_answer_follows_a_format_and_a_conversation_may_have_calls() {
    let server = TestServer::start(options());
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 0, "maximum": 9 } },
        "required": ["a"], "additionalProperties": false });
    let more = json!({ "stream": false, "format": schema, "options": { "seed": 1.0, "temperature": 1.5 } });
    let content = chat(&server, &more).json()["message"]["content"].clone();
    let answer: Value = serde_json::from_str(content.as_str().unwrap()).unwrap();
    assert!(answer["a"].as_u64().unwrap() <= 9);
    let any =
        json!({ "stream": false, "format": "json", "options": { "num_predict": 20, "temperature": 0 } });
    assert!(chat(&server, &any).json()["message"]["content"].as_str().unwrap().starts_with('{'));

    let tiny = TinyModel { context_length: 2048, ..TinyModel::default() };
    let server = TestServer::with_models(options(), vec![model(&tiny, &["tiny"], 8192)]);
    let parameters = json!({ "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"],
        "additionalProperties": false });
    let tool = json!({ "type": "function", "function": { "name": "light", "parameters": parameters } });
    let talk = json!([
        { "role": "user", "content": "Light!" },
        { "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "light", "arguments": { "on": true } } }] },
        { "role": "tool", "tool_name": "light", "content": "It is on." },
    ]);
    let reply = chat(&server, &json!({ "messages": talk, "tools": [tool], "stream": false }));
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[test]
fn models_are_described_and_what_is_not_done_is_refused_in_ollamas_form() {
    let server = TestServer::start(options());
    let listed = server.get("/api/tags").json();
    let names: Vec<&str> =
        listed["models"].as_array().unwrap().iter().filter_map(|m| m["model"].as_str()).collect();
    assert_eq!(names, ["tiny", "other-name"]);
    assert_eq!(server.get("/api/ps").json()["models"][0]["context_length"], 512);
    let version = server.get("/api/version").json();
    assert_eq!(version["lookahead"], server.get("/version").json()["version"]);
    assert_ne!(version["version"], version["lookahead"], "of Ollama's API");
    let shown = server.post("/api/show", &json!({ "model": "tiny:latest" })).json();
    assert_eq!(shown["model_info"]["lookahead.context_length"], 512);
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert!(shown["template"].as_str().unwrap().contains("<|im_start|>"));
    for (path, body, status, message) in [
        ("/api/show", json!({ "model": "none" }), 404, "`none` is not served here"),
        ("/api/chat", json!({ "model": "none", "messages": [] }), 404, "`none`"),
        ("/api/chat", json!({ "messages": [] }), 400, "model"),
        ("/api/chat", json!({ "model": "tiny", "poem": 1 }), 400, "`poem`"),
        (
            "/api/chat",
            json!({ "model": "tiny", "options": { "poem": 1 } }),
            400,
            "`options.poem` is no option",
        ),
        ("/api/chat", json!({ "model": "tiny", "options": { "top_k": "x" } }), 400, "`options.top_k`"),
        (
            "/api/chat",
            json!({ "model": "tiny", "options": { "num_predict": 0 } }),
            400,
            "options.num_predict",
        ),
        ("/api/chat", json!({ "model": "tiny", "format": 3 }), 400, "format is 3"),
        (
            "/api/generate",
            json!({ "model": "tiny", "prompt": "x", "template": "{{ .Prompt }}" }),
            400,
            "template",
        ),
        ("/api/generate", json!({ "model": "tiny", "prompt": "x", "context": [1] }), 400, "context"),
        ("/api/generate", json!({ "model": "tiny", "prompt": "x", "images": ["aGk="] }), 400, "images"),
        (
            "/api/generate",
            json!({ "model": "tiny", "prompt": "x", "suffix": "y" }),
            400,
            "fill in the middle",
        ),
        ("/api/embed", json!({ "model": "tiny", "input": "x" }), 501, "embeddings"),
        ("/api/embeddings", json!({ "model": "tiny", "prompt": "x" }), 501, "embeddings"),
        ("/api/pull", json!({ "model": "llama3" }), 501, "/api/pull is not supported"),
        ("/api/nothing", json!({}), 404, "/api/nothing"),
    ] {
        let reply = server.post(path, &body);
        assert_eq!(reply.status, status, "{path} {body}: {}", reply.text);
        let error = reply.json()["error"].as_str().unwrap_or_else(|| panic!("{}", reply.text)).to_owned();
        assert!(error.contains(message), "{path} {body}: {error}");
    }
    let foreign = [("Origin", "http://evil.example"), ("Content-Type", "application/json")];
    let refused = server.post_with("/api/chat", &foreign, "{}");
    assert!(refused.status == 403 && refused.json()["error"].is_string());
    let passed =
        chat(&server, &json!({ "keep_alive": "5m", "options": { "num_ctx": 4096, "num_predict": 1 } }));
    assert_eq!(passed.headers["x-lookahead-ignored"], "keep_alive, options.num_ctx");
}

#[test]
fn a_gap_is_filled_with_the_models_own_tokens_in_every_form() {
    let tiny = TinyModel { context_length: 512, fill_in_middle: true, ..TinyModel::default() };
    let server = TestServer::with_models(options(), vec![model(&tiny, &["tiny"], 4096)]);
    let by_hand = "<|fim_prefix|>fn add(<|fim_suffix|>) {}<|fim_middle|>";
    let complete = |fields: Value| {
        let fields = with(fields, &json!({ "temperature": 0, "max_tokens": 20 }));
        server.post("/v1/completions", &fields).json()["choices"][0]["text"].clone()
    };
    let expected = complete(json!({ "prompt": by_hand }));
    assert_ne!(expected, "");
    assert_eq!(complete(json!({ "prompt": "fn add(", "suffix": ") {}" })), expected);
    let fields = json!({ "model": "tiny", "prompt": "fn add(", "suffix": ") {}", "stream": false,
        "options": { "temperature": 0, "num_predict": 20 } });
    assert_eq!(server.post("/api/generate", &fields).json()["response"], expected);
    // A name of a control token in the text is text.
    let usage = |prompt: &str| {
        let fields = json!({ "prompt": prompt, "suffix": "x", "max_tokens": 1 });
        server.post("/v1/completions", &fields).json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert!(usage("<|fim_middle|>") > usage("a") + 3);
    let shown = server.post("/api/show", &json!({ "model": "tiny" })).json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools", "insert"]));
    let plain = TestServer::start(options());
    let refused = plain.post("/v1/completions", &json!({ "prompt": "a", "suffix": "b" }));
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("suffix")));
}
