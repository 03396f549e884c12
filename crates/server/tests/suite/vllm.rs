//! Fields of vLLM's requests.

use crate::common::{Reply, TestServer, options};
use serde_json::{Value, json};

fn complete(server: &TestServer, more: &Value) -> Reply {
    let mut fields = json!({ "prompt": "Tell me about rivers.", "temperature": 0, "max_tokens": 20 });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/completions", &fields)
}

/// A completion that is not refused.
fn completed(server: &TestServer, more: &Value) -> Value {
    let reply = complete(server, more);
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

fn prompt_tokens(server: &TestServer, text: &str) -> Vec<Value> {
    let tokens = server.post("/tokenize", &json!({ "content": text, "add_special": true }));
    tokens.json()["tokens"].as_array().unwrap().clone()
}

#[test]
fn guided_fields_are_structured_outputs_by_their_older_names() {
    let server = TestServer::start(options());
    let schema = json!({ "enum": ["red", "green"] });
    for (fields, right) in [
        (json!({ "guided_choice": ["yes", "no"] }), &["yes", "no"][..]),
        (json!({ "guided_regex": "[ab]c" }), &["ac", "bc"]),
        (json!({ "guided_json": schema }), &["\"red\"", "\"green\""]),
        (json!({ "guided_json": schema.to_string() }), &["\"red\"", "\"green\""]),
        (json!({ "guided_grammar": "root ::= \"x\" | \"y\"" }), &["x", "y"]),
        (json!({ "guided_grammar": "start: \"x\" | \"y\"" }), &["x", "y"]),
        (json!({ "structured_outputs": { "grammar": "root ::= \"x\" | \"y\"" } }), &["x", "y"]),
        // What a client sends that writes all fields of vLLM's class.
        (
            json!({ "structured_outputs": { "json": schema, "regex": null, "choice": null, "grammar": null,
                "json_object": null, "disable_fallback": false, "disable_any_whitespace": false,
                "disable_additional_properties": false, "whitespace_pattern": null, "structural_tag": null },
                "guided_json": null, "guided_regex": null, "guided_choice": null, "guided_grammar": null }),
            &["\"red\"", "\"green\""],
        ),
        (json!({ "structured_outputs": { "json": schema.to_string() } }), &["\"red\"", "\"green\""]),
        (json!({ "structured_outputs": null, "guided_regex": "[ab]c" }), &["ac", "bc"]),
        (json!({ "structured_outputs": { "json": null, "choice": ["a"], "json_object": false } }), &["a"]),
    ] {
        let reply = complete(&server, &fields);
        assert_eq!(reply.status, 200, "{fields}: {}", reply.text);
        let text = reply.json()["choices"][0]["text"].clone();
        assert!(right.contains(&text.as_str().unwrap()), "{fields}: {text}");
    }
    let open = completed(&server, &json!({ "structured_outputs": { "json": null, "regex": null } }));
    let free = completed(&server, &json!({}));
    assert_eq!(open["choices"][0]["text"], free["choices"][0]["text"], "nothing is asked for");
    for (fields, param) in [
        (json!({ "guided_json": "{" }), "guided_json"),
        (json!({ "guided_regex": "a", "guided_choice": ["a"] }), "guided_choice"),
        (json!({ "guided_grammar": "root ::= [" }), "guided_grammar"),
        (json!({ "structured_outputs": { "json": "{" } }), "structured_outputs.json"),
        (json!({ "structured_outputs": { "regex": "a", "choice": ["a"] } }), "structured_outputs.choice"),
        (json!({ "structured_outputs": { "regex": "a" }, "guided_choice": ["a"] }), "guided_choice"),
        (json!({ "structured_outputs": { "structural_tag": "{}" } }), "structured_outputs.structural_tag"),
        (json!({ "structured_outputs": { "regexp": "a" } }), "structured_outputs.regexp"),
    ] {
        let refused = complete(&server, &fields);
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(param)), "{fields}");
    }
}

#[test]
fn tokens_end_an_answer_where_they_are_named_and_not_before_the_fewest() {
    let server = TestServer::start(options());
    let tokens =
        |text: &Value| server.post("/tokenize", &json!({ "content": text })).json()["tokens"].clone();
    let ids = |more: Value| {
        let mut fields = json!({ "prompt": "Tell me about rivers.", "temperature": 0, "n_predict": 20,
            "return_tokens": true });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = server.post("/completion", &fields);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["tokens"].as_array().unwrap().clone()
    };
    assert!(tokens(&json!("x")).is_array());
    let free = ids(json!({}));
    let place = (1..free.len()).find(|&place| !free[..place].contains(&free[place])).unwrap();
    let stopped = ids(json!({ "stop_token_ids": [free[place]] }));
    assert_eq!(stopped, free[..=place]);
    let longer = ids(json!({ "stop_token_ids": [free[place]], "min_tokens": place + 2 }));
    assert!(longer.len() >= place + 2 && longer[..place] == free[..place], "{longer:?} of {free:?}");
    assert_ne!(longer[place], free[place], "the token that would end it is not taken");
    let plain = json!({ "stop_token_ids": [free[place]], "min_tokens": place + 2, "lookahead": { "enabled": false } });
    assert_eq!(ids(plain), longer);
    // An end that is likely everywhere is kept away all the same, with a grammar as without.
    let eager = json!({ "logit_bias": { "2": 100 }, "min_tokens": 7 });
    assert_eq!(ids(eager.clone()).len(), 8, "seven tokens, and the end");
    let mut constrained = eager;
    constrained["grammar"] = "root ::= [a-z]*".into();
    assert_eq!(ids(constrained).len(), 8);
    for (fields, message) in [
        (json!({ "stop_token_ids": [100_000] }), "100000 is no token id"),
        (json!({ "stop_token_ids": vec![1; 65] }), "up to 64, not 65"),
        (json!({ "min_tokens": -1 }), "-1 is negative"),
    ] {
        let refused = complete(&server, &fields);
        assert!(refused.status == 400 && refused.text.contains(message), "{}", refused.text);
    }
}

#[test]
fn a_long_prompt_loses_its_beginning_where_that_is_asked_for() {
    let server = TestServer::start(options());
    let long = "word ".repeat(2000);
    let tokens = |more: Value| {
        let mut fields = json!({ "prompt": long, "max_tokens": 1 });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = server.post("/v1/completions", &fields);
        reply.json()["usage"]["prompt_tokens"].as_u64()
    };
    assert_eq!(tokens(json!({})), None, "too long");
    assert_eq!(tokens(json!({ "truncate_prompt_tokens": 10 })), Some(10));
    assert_eq!(tokens(json!({ "truncate_prompt_tokens": -1 })), Some(511));
    assert_eq!(complete(&server, &json!({ "truncate_prompt_tokens": 0 })).status, 400);
}

#[test]
fn a_prompt_is_echoed_with_the_log_probabilities_of_its_tokens() {
    let server = TestServer::start(options());
    let tokens = prompt_tokens(&server, "Tell me about rivers. <|im_end|> And");
    let ask = |fields: Value| completed(&server, &fields);
    let echoed = ask(json!({ "prompt": tokens, "echo": true, "logprobs": 2, "max_tokens": 6 }));
    let plain = ask(json!({ "prompt": tokens, "logprobs": 2, "max_tokens": 6 }));
    let (echoed_choice, plain_choice) = (&echoed["choices"][0], &plain["choices"][0]);
    let echo = ask(json!({ "prompt": tokens, "echo": true, "max_tokens": 6 }));
    assert_eq!(echoed_choice["text"], echo["choices"][0]["text"]);
    assert_eq!(echoed["usage"]["prompt_tokens"], tokens.len());
    assert_eq!(echoed["usage"]["completion_tokens"], plain["usage"]["completion_tokens"]);
    assert_eq!(echoed_choice["finish_reason"], plain_choice["finish_reason"]);
    let list = |choice: &Value, name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(list(echoed_choice, name).len(), tokens.len() + list(plain_choice, name).len(), "{name}");
    }
    // Behind the prompt all is as without it; the prompt's first token follows from nothing.
    for name in ["tokens", "token_logprobs", "top_logprobs"] {
        assert_eq!(list(echoed_choice, name)[tokens.len()..], list(plain_choice, name), "{name}");
    }
    let logprobs = list(echoed_choice, "token_logprobs");
    assert_eq!((&logprobs[0], &list(echoed_choice, "top_logprobs")[0]), (&Value::Null, &Value::Null));
    // Each token's is what the model says of it behind those before.
    for place in 1..tokens.len() {
        let choice = ask(json!({ "prompt": tokens[..place], "logprobs": 20, "max_tokens": 1 }));
        let likeliest = &choice["choices"][0]["logprobs"]["token_logprobs"][0];
        assert!(logprobs[place].as_f64() <= likeliest.as_f64(), "{place}");
        let name = list(echoed_choice, "tokens")[place].as_str().unwrap().to_owned();
        if let Some(expected) = choice["choices"][0]["logprobs"]["top_logprobs"][0].get(name) {
            assert_eq!(&logprobs[place], expected, "{place}");
        }
    }
    // Nothing but the prompt, several prompts at once, and in a stream.
    let alone = ask(json!({ "prompt": tokens, "echo": true, "logprobs": 0, "max_tokens": 0 }));
    assert_eq!(list(&alone["choices"][0], "token_logprobs"), logprobs[..tokens.len()]);
    assert_eq!(alone["usage"]["completion_tokens"], 0);
    let both = ask(json!({ "prompt": [tokens[..3], tokens], "echo": true, "logprobs": 1, "max_tokens": 1 }));
    assert_eq!(list(&both["choices"][0], "token_logprobs")[..3], logprobs[..3]);
    assert_eq!(list(&both["choices"][1], "token_logprobs")[..tokens.len()], logprobs[..tokens.len()]);
    let one = ask(json!({ "prompt": tokens[..1], "echo": true, "logprobs": 1, "max_tokens": 0 }));
    assert_eq!(list(&one["choices"][0], "token_logprobs"), [Value::Null]);
    let plainly = ask(json!({ "prompt": tokens, "echo": true, "logprobs": 2, "max_tokens": 6,
        "lookahead": { "enabled": false } }));
    assert_eq!(plainly["choices"], echoed["choices"]);
    let streamed = complete(
        &server,
        &json!({ "prompt": tokens, "echo": true, "logprobs": 2, "max_tokens": 6, "stream": true }),
    );
    let pieces = streamed.text.lines().filter_map(|line| line.strip_prefix("data: {"));
    let pieces: Vec<Value> = pieces.map(|line| serde_json::from_str(&format!("{{{line}")).unwrap()).collect();
    let text: String = pieces.iter().filter_map(|piece| piece["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, echoed_choice["text"]);
    let told: Vec<Value> = pieces
        .iter()
        .filter_map(|piece| piece["choices"][0]["logprobs"]["token_logprobs"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(told, logprobs);
    // A prompt is not learned as an answer is.
    let learned = || server.get("/v1/lookahead/stats").json()["namespace"]["tokens"].clone();
    let before = learned();
    assert!(before.is_u64(), "{before}");
    ask(json!({ "prompt": "Words of a prompt alone.", "echo": true, "logprobs": 0, "max_tokens": 3 }));
    assert_eq!(learned(), before);
}

#[test]
fn the_tokens_of_a_prompt_are_told_with_their_log_probabilities() {
    let server = TestServer::start(options());
    let tokens = prompt_tokens(&server, "Tell me about rivers. And");
    let ask = |fields: Value| completed(&server, &fields);
    let echoed = ask(json!({ "prompt": tokens, "echo": true, "logprobs": 2, "max_tokens": 6 }));
    let plain = ask(json!({ "prompt": tokens, "logprobs": 1, "max_tokens": 6 }));
    let told = ask(json!({ "prompt": tokens, "logprobs": 1, "prompt_logprobs": 2, "max_tokens": 6 }));
    let of_prompt = told["choices"][0]["prompt_logprobs"].as_array().unwrap();
    assert_eq!((of_prompt.len(), &of_prompt[0]), (tokens.len(), &Value::Null));
    for (place, entries) in of_prompt.iter().enumerate().skip(1) {
        let entry = &entries[tokens[place].to_string()];
        assert_eq!(entry["logprob"], echoed["choices"][0]["logprobs"]["token_logprobs"][place], "{place}");
        let entries = entries.as_object().unwrap();
        assert!((2..=3).contains(&entries.len()), "{entries:?}");
        assert!(entries.values().any(|entry| entry["rank"] == 1), "{entries:?}");
    }
    // The answer, and what is told of it, are as without.
    for field in ["text", "logprobs", "finish_reason"] {
        assert_eq!(told["choices"][0][field], plain["choices"][0][field], "{field}");
    }
    assert_eq!(told["usage"]["completion_tokens"], plain["usage"]["completion_tokens"]);
    let both =
        ask(json!({ "prompt": tokens, "echo": true, "logprobs": 2, "prompt_logprobs": 0, "max_tokens": 6 }));
    assert_eq!(both["choices"][0]["logprobs"], echoed["choices"][0]["logprobs"]);
    assert_eq!(both["choices"][0]["prompt_logprobs"][1].as_object().unwrap().len(), 1);

    let chat = |more: Value| {
        let mut body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "temperature": 0,
            "max_tokens": 4, "logprobs": true, "top_logprobs": 1 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/chat/completions", &body)
    };
    let (told, plain) =
        (chat(json!({ "prompt_logprobs": 3, "n": 2 })).json(), chat(json!({ "n": 2 })).json());
    let of_prompt = told["prompt_logprobs"].as_array().unwrap();
    assert_eq!(of_prompt.len(), plain["usage"]["prompt_tokens"].as_u64().unwrap() as usize);
    assert_eq!(told["choices"], plain["choices"]);
    let refused = chat(json!({ "prompt_logprobs": 3, "stream": true }));
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("prompt_logprobs")));
}
