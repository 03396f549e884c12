//! The server as clients and operators see it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Reply, TestServer, model, options, until};
use lookahead_fixtures::TinyModel;
use lookahead_server::{ApiKey, DraftOptions, ServerOptions};
use serde_json::{Value, json};

#[expect(clippy::needless_pass_by_value, reason = "reads better")]
fn chat(content: &str, more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": content }], "temperature": 0, "max_tokens": 20,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ask(server: &TestServer, content: &str, more: Value) -> Reply {
    server.post("/v1/chat/completions", &chat(content, more))
}

/// The pieces of a stream.
fn pieces(reply: &Reply) -> Vec<Value> {
    let lines: Vec<&str> = reply.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(lines.last(), Some(&"[DONE]"), "{}", reply.text);
    lines[..lines.len() - 1].iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_call_is_told_as_it_is_written_and_is_one_even_if_it_is_cut_off() {
    // Tools are long where each byte is a token.
    let tiny = TinyModel { context_length: 2048, ..TinyModel::default() };
    let server = TestServer::with_models(options(), vec![model(&tiny, &["tiny"], 8192)]);
    let tool = |strict| {
        let parameters = json!({
            "type": "object",
            "properties": {
                "text": { "type": "string", "minLength": 500 },
                "tags": { "type": "array", "uniqueItems": true, "items": { "format": "color" } }
            },
            "required": ["text"]
        });
        let function = json!({ "name": "note", "parameters": parameters, "strict": strict });
        json!({ "tools": [{ "type": "function", "function": function }], "tool_choice": "required", "max_tokens": 150 })
    };
    let refused = ask(&server, "Take a note.", tool(true));
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("uniqueItems at /properties/tags"), "{}", refused.text);

    let whole = ask(&server, "Take a note.", tool(false));
    let choice = &whole.json()["choices"][0];
    assert_eq!(choice["finish_reason"], "length", "{}", whole.text);
    let call = &choice["message"]["tool_calls"][0]["function"];
    let arguments = call["arguments"].as_str().unwrap();
    assert_eq!(call["name"], "note");
    assert!(arguments.starts_with(r#"{"text": ""#) && arguments.len() > 12, "{arguments}");
    assert!(serde_json::from_str::<Value>(arguments).is_err(), "{arguments}");

    let mut streamed = tool(false);
    streamed["stream"] = json!(true);
    let pieces = pieces(&ask(&server, "Take a note.", streamed));
    let deltas: Vec<&str> = pieces
        .iter()
        .filter_map(|piece| piece["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert!(deltas.len() > 3, "{deltas:?}");
    assert_eq!(deltas.concat(), arguments);
}

#[test]
fn a_stream_says_what_the_whole_answer_says_and_where_it_came_from() {
    let server = TestServer::start(options());
    let whole = ask(&server, "Tell me about rivers.", json!({ "max_tokens": 60 })).json();
    let more = json!({
        "max_tokens": 60, "stream": true, "stream_options": { "include_usage": true },
        "lookahead": { "trace": true },
    });
    let pieces = pieces(&ask(&server, "Tell me about rivers.", more));
    assert_eq!(pieces[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String =
        pieces.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    let (last, end) = (&pieces[pieces.len() - 1], &pieces[pieces.len() - 2]);
    assert_eq!(last["choices"], json!([]));
    assert_eq!(end["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
    let count =
        |field: &str| pieces.iter().filter_map(|piece| piece["lookahead"][field].as_u64()).sum::<u64>();
    let usage = &last["usage"]["lookahead"];
    assert_eq!(
        (json!(count("drafted")), json!(count("accepted"))),
        (usage["drafted"].clone(), usage["accepted"].clone())
    );
    assert!(count("accepted") > 0, "the second answer repeats the first one");
    let traced: String = pieces
        .iter()
        .filter_map(|piece| piece["lookahead"]["tokens"].as_array())
        .flatten()
        .filter_map(|token| token["text"].as_str())
        .collect();
    assert!(text.starts_with(&traced));
    assert!(usage["accepted_by_source"]["output"].as_u64().unwrap() > 0, "{usage}");
}

#[test]
fn an_answer_has_the_structure_that_is_asked_for() {
    let server = TestServer::start(options());
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer", "minimum": 0, "maximum": 9 } },
        "required": ["a"], "additionalProperties": false });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let is_json = |text: &str| {
        let value: Result<Value, _> = serde_json::from_str(text);
        value.is_ok_and(|value| value["a"].as_u64().is_some_and(|a| a <= 9))
    };
    for (field, value, is_right) in [
        ("response_format", format, &is_json as &dyn Fn(&str) -> bool),
        ("json_schema", schema.clone(), &is_json),
        ("structured_outputs", json!({ "json": schema }), &is_json),
        ("structured_outputs", json!({ "regex": "[0-9]{3}" }), &|text| {
            text.parse().is_ok_and(|n: u32| n < 1000)
        }),
        ("structured_outputs", json!({ "choice": ["yes", "\"no\""] }), &|text| {
            ["yes", "\"no\""].contains(&text)
        }),
        ("structured_outputs", json!({ "grammar": "start: \"a\" | \"b\"" }), &|text| {
            text == "a" || text == "b"
        }),
    ] {
        let fields = json!({ field: value, "max_tokens": 100, "temperature": 1.5, "seed": 1 });
        let mut text_fields = fields.clone();
        text_fields["prompt"] = "Say it:".into();
        let chat = ask(&server, "Say it.", fields).json()["choices"][0]["message"]["content"].clone();
        let text = server.post("/v1/completions", &text_fields).json()["choices"][0]["text"].clone();
        for answer in [chat, text] {
            assert!(is_right(answer.as_str().unwrap_or_default()), "{field}: {answer}");
        }
    }
}

#[test]
fn an_answer_goes_on_behind_its_end_if_it_is_asked_to() {
    let server = TestServer::start(options());
    let tokens =
        |fields: Value| server.post("/v1/completions", &fields).json()["usage"]["completion_tokens"].clone();
    let fields =
        json!({ "prompt": "Hi", "n_predict": 100, "temperature": 2, "seed": 5, "logit_bias": { "2": 20 } });
    assert!(tokens(fields.clone()).as_u64().unwrap() < 100, "the test wants an end");
    let mut on = fields;
    on["ignore_eos"] = true.into();
    assert_eq!(tokens(on.clone()), 100);
    on["n_predict"] = (-1).into();
    assert_eq!(tokens(on), 512 - 2, "what the context holds");
}

#[test]
fn a_prompt_ends_where_the_answer_is_to_go_on() {
    let server = TestServer::start(options());
    let length = |more: Value| {
        let talk =
            json!([{ "role": "user", "content": "Tell." }, { "role": "assistant", "content": "Once" }]);
        let mut fields = json!({ "messages": talk, "chat_template_kwargs": { "enable_thinking": false } });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask(&server, "", fields).json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let usual = length(json!({}));
    let closed = length(json!({ "add_generation_prompt": false }));
    let open = length(json!({ "add_generation_prompt": false, "continue_final_message": true }));
    assert!(open < closed && closed < usual, "{open}, {closed}, {usual}");
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let server = TestServer::start(options());
    for (more, status, param, message) in [
        (json!({ "temperature": -1 }), 400, "temperature", "0 or more"),
        (json!({ "temperature": "hot" }), 400, "temperature", "invalid type"),
        (json!({ "top_logprobs": 3 }), 400, "top_logprobs", "logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 30 }), 400, "top_logprobs", "0 to 20"),
        (json!({ "n": 0 }), 400, "n", "1 to"),
        (json!({ "best_friend": 1 }), 400, "best_friend", "no argument"),
        (json!({ "functions": [{}] }), 400, "functions[0]", "no function"),
        (json!({ "messages": [] }), 400, "messages", "empty"),
        (json!({ "messages": [{ "role": "boss", "content": "x" }] }), 400, "messages[0].role", "boss"),
        (json!({ "messages": [{ "role": "user", "content": 3 }] }), 400, "messages[0].content", "a text"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            400,
            "messages[0].content[0]",
            "image_url",
        ),
        (json!({ "model": "gpt-9" }), 404, "model", "`tiny`"),
        (json!({ "logit_bias": { "x": 1 } }), 400, "logit_bias", "\"x\""),
        (json!({ "logit_bias": { "1": 200 } }), 400, "logit_bias", "-100 to 100"),
        (json!({ "response_format": { "type": "xml" } }), 400, "response_format.type", "xml"),
        (
            json!({ "response_format": { "type": "json_schema" } }),
            400,
            "response_format.json_schema.schema",
            "missing",
        ),
        (json!({ "json_schema": 3 }), 400, "json_schema", "schema"),
        (json!({ "structured_outputs": { "poem": 1 } }), 400, "structured_outputs.poem", "unknown field"),
        (json!({ "structured_outputs": { "regex": "(" } }), 400, "structured_outputs.regex", "regular"),
        (json!({ "structured_outputs": { "choice": [] } }), 400, "structured_outputs.choice", "no texts"),
        (
            json!({ "structured_outputs": { "choice": ["a"] }, "response_format": { "type": "json_object" } }),
            400,
            "structured_outputs.choice",
            "together",
        ),
        (json!({ "tool_choice": "required" }), 400, "tool_choice", "tools"),
        (json!({ "tools": [{ "type": "function" }] }), 400, "tools[0]", "name"),
        (json!({ "lookahead": { "namespace": "a/b" } }), 400, "lookahead.namespace", "a/b"),
        (json!({ "lookahead": { "speed": 9 } }), 400, "lookahead.speed", "unknown field"),
        (json!({ "lookahead": { "draft_length": 1000 } }), 400, "lookahead.draft_length", "0 to 64"),
        (json!({ "max_tokens": 0 }), 400, "max_tokens", "at least 1"),
        (json!({ "mirostat": 2 }), 400, "mirostat", "no argument"),
        (json!({ "chat_template_kwargs": { "tools": [] } }), 400, "chat_template_kwargs", "`tools`"),
        (json!({ "max_tokens": -2 }), 400, "max_tokens", "-2 is no number"),
    ] {
        let reply = ask(&server, "Hi", more.clone());
        let error = &reply.json()["error"];
        assert_eq!((reply.status, error["param"].as_str()), (status, Some(param)), "{more}: {}", reply.text);
        assert!(error["message"].as_str().unwrap().contains(message), "{more}: {}", reply.text);
        assert_eq!(error["type"], "invalid_request_error");
    }
    let long = ask(&server, &"word ".repeat(2000), json!({}));
    assert_eq!((long.status, &long.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    // The server may know before it has read all; the answer arrives all the same.
    for path in ["/v1/chat/completions", "/tokenize", "/v1/lookahead/corpora?name=x"] {
        let large = server.post_as(path, None, &"x".repeat(8 << 20));
        assert_eq!(large.status, 413, "{}", large.text);
    }
    for (path, status) in [("/v1/nothing", 404), ("/v1/chat/completions", 405)] {
        let reply = server.get(path);
        assert_eq!(reply.status, status);
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains(path));
    }
    assert_eq!(server.post("/v1/embeddings", &json!({ "input": "x" })).status, 501);
    for harmless in [
        json!({ "user": "me", "store": true, "mirostat": 0 }),
        json!({ "stop": null, "seed": null, "tools": null }),
    ] {
        assert_eq!(ask(&server, "Hi", harmless).status, 200);
    }
}

#[test]
fn a_key_is_a_tenant_and_tenants_share_nothing() {
    let keys = ["alice:a", "bob:b"].map(|key| ApiKey::parse(key).unwrap()).to_vec();
    let server = TestServer::start(ServerOptions { keys, ..options() });
    let refused = ask(&server, "Hi", json!({}));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    assert!(refused.headers.contains_key("www-authenticate"));
    assert_eq!(server.post_as("/tokenize", None, &"x".repeat(8 << 20)).status, 401, "unread, but answered");
    let body = chat("Tell me about glass.", json!({ "max_tokens": 60 })).to_string();
    let usage = |key: &str| {
        let reply = server.post_as("/v1/chat/completions", Some(key), &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["usage"].clone()
    };
    let from_others = |usage: &Value| {
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        (usage["lookahead"]["accepted_by_source"]["output"].as_u64().unwrap_or(0), cached)
    };
    assert_eq!(from_others(&usage("a")), (0, 0));
    assert_eq!(from_others(&usage("b")), (0, 0), "Bob asks what Alice has asked, and nothing tells him so");
    let (drafted, cached) = from_others(&usage("a"));
    assert!(drafted > 0 && cached > 0, "Alice's second request is served from her first one");
    let corpus = r#"{"text": "glass is made of sand"}"#;
    let add = server.post_as("/v1/lookahead/corpora?name=c", Some("a"), corpus);
    assert_eq!(add.status, 200, "{}", add.text);
}

#[test]
fn a_corpus_comes_is_drafted_from_and_goes() {
    let server = TestServer::start(options());
    let answer =
        ask(&server, "Tell me about maps.", json!({ "max_tokens": 60, "lookahead": { "share": "off" } }));
    let text = answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let line = json!({ "text": text }).to_string();
    let added = server.post_as("/v1/lookahead/corpora?name=answers", None, &format!("{line}\n\n{line}"));
    assert_eq!(added.status, 200, "{}", added.text);
    assert_eq!(server.get("/v1/lookahead/corpora").json()["data"][0]["name"], "answers");
    let accepted = || {
        let more = json!({ "max_tokens": 60, "lookahead": { "share": "read" } });
        ask(&server, "Tell me about maps.", more).json()["usage"]["lookahead"]["accepted_by_source"]["corpus"]
            .as_u64()
    };
    // Few, as not all that a model with random weights says is text.
    assert!(accepted().unwrap() > 0);
    assert_eq!(server.delete("/v1/lookahead/corpora/answers").status, 200);
    assert_eq!(server.delete("/v1/lookahead/corpora/answers").status, 404);
    assert_eq!(accepted(), None);
    for (path, body, message) in [
        ("?name=bad", "{\"text\": 3}", "line 1: `text`"),
        ("?name=bad", "{\"text\": \"x\"}\nnonsense", "line 2"),
        ("?name=bad", "", "no text"),
        ("?name=a/b", "{\"text\": \"x\"}", "no name"),
        ("", "{\"text\": \"x\"}", "name"),
    ] {
        let reply = server.post_as(&format!("/v1/lookahead/corpora{path}"), None, body);
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains(message), "{}", reply.text);
    }
    for url in ["/v1/lookahead/stats?namespace=a&namespace=b", "/v1/models/%ff"] {
        assert_eq!(server.get(url).json()["error"]["param"], "url", "{url}");
    }
}

#[test]
fn a_request_is_answered_whatever_has_become_of_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("default.drafts"), "no drafts").unwrap();
    let drafts = DraftOptions { directory: Some(directory.path().to_owned()), ..options().drafts };
    let server = TestServer::start(ServerOptions { drafts, ..options() });
    assert_eq!(ask(&server, "Hi", json!({})).status, 200);
    assert_eq!(server.metric("lookahead_namespace_failures_total"), 1.0);
    // Who asks for the namespace itself is told.
    let namespace = server.get("/v1/lookahead/stats").json()["namespace"].clone();
    assert_eq!(namespace["is_open"], false);
    assert!(namespace["problem"].as_str().unwrap().contains("default.drafts"), "{namespace}");
}

#[test]
fn what_was_learned_survives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let kept = || {
        let drafts = DraftOptions { directory: Some(directory.path().to_owned()), ..options().drafts };
        TestServer::start(ServerOptions { drafts, ..options() })
    };
    let accepted = |server: &TestServer| {
        let answer = ask(server, "Tell me about stars.", json!({ "max_tokens": 60 })).json();
        let by_source = &answer["usage"]["lookahead"]["accepted_by_source"];
        [by_source["output"].as_u64().unwrap_or(0), by_source["corpus"].as_u64().unwrap_or(0)]
    };
    let mut first = kept();
    assert_eq!(accepted(&first), [0, 0]);
    let add = first.post_as("/v1/lookahead/corpora?name=kept", None, r#"{"text": "something else"}"#);
    assert_eq!(add.status, 200);
    first.stop();
    let second = kept();
    assert!(accepted(&second)[0] > 10);
    assert_eq!(second.get("/v1/lookahead/corpora").json()["data"][0]["name"], "kept");
}

#[test]
fn more_requests_than_may_wait_are_told_to_come_again() {
    let server = TestServer::start(ServerOptions { parallel: 1, max_queue: 2, ..options() });
    let statuses: Vec<(u16, bool)> = thread::scope(|scope| {
        let ask = || {
            let reply = ask(
                &server,
                "Tell me a long story.",
                json!({ "max_tokens": 300, "lookahead": { "enabled": false } }),
            );
            (reply.status, reply.headers.contains_key("retry-after"))
        };
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let served = statuses.iter().filter(|status| **status == (200, false)).count();
    let refused = statuses.iter().filter(|status| **status == (429, true)).count();
    assert_eq!(served + refused, 12, "{statuses:?}");
    assert!(served >= 2 && refused > 0, "{statuses:?}");
    assert_eq!(ask(&server, "Hi", json!({})).status, 200, "later there is room again");
}

/// Begins a streamed request and returns once the answer has begun.
pub(crate) fn begin_stream(server: &TestServer, max_tokens: usize) -> BufReader<TcpStream> {
    let body = chat("Tell me a long story.", json!({ "max_tokens": max_tokens, "stream": true })).to_string();
    let address = server.base().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the answer begins");
    }
    reader
}

#[test]
fn nobody_is_served_who_has_gone() {
    let server = TestServer::start(options());
    let stream = begin_stream(&server, 100_000);
    until("the answer runs", || server.metric("lookahead_running_sequences") > 0.0);
    drop(stream);
    until("the answer is given up", || server.metric("lookahead_running_sequences") == 0.0);
    assert!(
        server.metric("lookahead_cancelled_total") >= 1.0
            || server.metric("lookahead_generated_tokens_total") > 400.0
    );
}

#[test]
fn an_answer_that_takes_too_long_ends_with_an_error() {
    let server = TestServer::start(ServerOptions { request_timeout: Duration::from_millis(50), ..options() });
    let long = json!({ "max_tokens": 100_000, "n": 8, "lookahead": { "enabled": false } });
    let reply = ask(&server, "Tell me a long story.", long.clone());
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (504, &json!("request_timeout")),
        "{}",
        reply.text
    );
    let mut streamed = long;
    streamed["stream"] = true.into();
    let pieces = pieces(&ask(&server, "Tell me a long story.", streamed));
    assert_eq!(pieces.last().unwrap()["error"]["code"], "request_timeout");
}

#[test]
fn clients_that_keep_the_server_waiting_are_sent_away_and_others_are_served() {
    let server = TestServer::start(ServerOptions { client_timeout: Duration::from_millis(300), ..options() });
    let address = server.base().trim_start_matches("http://").to_owned();
    let beginnings = [
        "GET /health HT",
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{\"con",
        "",
    ];
    let mut slow: Vec<TcpStream> = (0..60)
        .map(|index| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(beginnings[index % 3].as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        })
        .collect();
    assert_eq!(ask(&server, "Hi", json!({})).status, 200);
    let began = Instant::now();
    for stream in &mut slow {
        let _ = stream.read_to_end(&mut Vec::new()); // an answer, or the end of the connection
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_server_that_is_told_to_stop_finishes_what_it_has_begun() {
    let mut server = TestServer::start(options());
    let mut stream = begin_stream(&server, 400);
    server.begin_stopping();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
    server.stop();
    let address = server.base().trim_start_matches("http://").to_owned();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn pages_documents_and_metrics_are_there() {
    let server = TestServer::start(options());
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/chat.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/openapi.json", "application/json"),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ] {
        let reply = server.get(path);
        assert_eq!((reply.status, reply.headers["content-type"].to_str().unwrap()), (200, kind), "{path}");
    }
    let document = server.get("/openapi.json").json();
    for path in [
        "/v1/chat/completions",
        "/v1/responses/{id}",
        "/v1/messages",
        "/v1/lookahead/corpora/{name}",
        "/health",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let fields = &document["components"]["schemas"];
    assert!(fields.to_string().contains("draft_length"), "{fields}");
    assert!(server.get("/").headers.contains_key("content-security-policy"));
    ask(&server, "Hi", json!({}));
    assert!(server.metric("lookahead_generated_tokens_total") > 0.0);
    assert!(server.metric("lookahead_requests_total") >= 8.0);
    let ids = server.post("/tokenize", &json!({ "content": "Hello there" })).json();
    assert_eq!(server.post("/detokenize", &ids).json()["content"], "Hello there");
}
