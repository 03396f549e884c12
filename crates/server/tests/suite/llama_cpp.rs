//! Routes of llama.cpp's server.

use lookahead_fixtures::TinyModel;
use serde_json::{Value, json};

use crate::common::{Reply, TestServer, model, options, until};

fn complete(server: &TestServer, more: &Value) -> Reply {
    let mut fields = json!({ "prompt": "Tell me about rivers.", "temperature": 0, "n_predict": 20 });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/completion", &fields)
}

#[test]
fn a_text_is_continued_as_in_openais_form_whole_and_streamed() {
    let server = TestServer::start(options());
    let openai = json!({ "prompt": "Tell me about rivers.", "temperature": 0, "max_tokens": 20 });
    let expected = server.post("/v1/completions", &openai).json();
    let more = json!({ "cache_prompt": true, "return_tokens": true, "n_probs": 2 });
    let whole = complete(&server, &more).json();
    assert_eq!(whole["content"], expected["choices"][0]["text"]);
    assert_eq!((&whole["stop"], &whole["stop_type"]), (&json!(true), &json!("limit")));
    assert_eq!(whole["tokens_evaluated"], expected["usage"]["prompt_tokens"]);
    assert_eq!(whole["tokens_predicted"], 20);
    assert_eq!(whole["tokens"].as_array().unwrap().len(), 20);
    let timings = &whole["timings"];
    assert_eq!(timings["predicted_n"], 20);
    assert!(timings["cache_n"].as_u64().unwrap() > 0, "the prompt was asked before");
    assert!(timings["predicted_per_second"].as_f64().unwrap() > 0.0);
    let probabilities = whole["completion_probabilities"].as_array().unwrap();
    assert_eq!(probabilities.len(), 20);
    for (token, id) in probabilities.iter().zip(whole["tokens"].as_array().unwrap()) {
        assert_eq!(&token["id"], id);
        assert_eq!(token["top_logprobs"][0]["id"], *id, "greedy");
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
    }

    let streamed = complete(&server, &json!({ "stream": true, "return_tokens": true }));
    let pieces: Vec<Value> = streamed
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text: String = pieces.iter().filter_map(|piece| piece["content"].as_str()).collect();
    assert_eq!(text, whole["content"]);
    let tokens: Vec<Value> =
        pieces.iter().flat_map(|piece| piece["tokens"].as_array().unwrap().clone()).collect();
    assert_eq!(json!(tokens), whole["tokens"]);
    let (last, parts) = pieces.split_last().unwrap();
    assert!(parts.iter().all(|piece| piece["stop"] == false) && last["stop"] == true);
    assert_eq!(last["tokens_predicted"], 20);

    let by_tokens =
        server.post("/tokenize", &json!({ "content": "Tell me about rivers.", "add_special": true }));
    let tokens = by_tokens.json()["tokens"].clone();
    assert_eq!(complete(&server, &json!({ "prompt": tokens })).json()["content"], whole["content"]);
    let content = whole["content"].as_str().unwrap();
    let stop = content.chars().nth(5).unwrap().to_string();
    assert_eq!(complete(&server, &json!({ "stop": [stop] })).json()["stop_type"], "word");
    let ended = json!({ "n_predict": -1, "temperature": 2, "seed": 5, "logit_bias": { "2": 20 } });
    assert_eq!(complete(&server, &ended).json()["stop_type"], "eos");
    let pairs = json!({ "n_predict": 1, "logit_bias": [[tokens[0], 100]], "return_tokens": true });
    assert_eq!(complete(&server, &pairs).json()["tokens"][0], tokens[0]);
    for (more, param) in [
        (json!({ "n": 2 }), "n"),
        (json!({ "logit_bias": [[1_000_000, 1]] }), "logit_bias"),
        (json!({ "logit_bias": [[1]] }), "logit_bias"),
        (json!({ "n_probs": 99 }), "n_probs"),
        (json!({ "prompt": ["a", "b"] }), "prompt"),
        (json!({ "poem": 1 }), "poem"),
        (json!({ "n_predict": 3, "max_tokens": 4 }), "max_tokens"),
    ] {
        let refused = complete(&server, &more);
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(param)), "{more}");
    }
}

#[test]
fn tokens_come_with_their_pieces_where_they_are_asked_for() {
    let server = TestServer::start(options());
    let content = "Rivers, Zürich 🦀";
    let tokens = |more: Value| {
        let mut fields = json!({ "content": content });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/tokenize", &fields).json()["tokens"].as_array().unwrap().clone()
    };
    let with_pieces = tokens(json!({ "with_pieces": true }));
    let ids: Vec<Value> = with_pieces.iter().map(|token| token["id"].clone()).collect();
    assert_eq!(ids, tokens(json!({})));
    let mut bytes = Vec::new();
    for token in &with_pieces {
        match &token["piece"] {
            Value::String(text) => bytes.extend_from_slice(text.as_bytes()),
            piece => bytes.extend(serde_json::from_value::<Vec<u8>>(piece.clone()).unwrap()),
        }
    }
    assert_eq!(String::from_utf8(bytes).unwrap(), content);
    assert!(with_pieces.iter().any(|token| token["piece"].is_array()), "a part of a character is bytes");
}

#[test]
fn a_grammar_in_gbnf_is_followed_in_every_form() {
    let server = TestServer::start(options());
    let grammar =
        json!({ "grammar": "root ::= digit{3} \"!\"\ndigit ::= [0-9]", "seed": 1, "temperature": 1 });
    let is_right = |text: &Value| {
        let text = text.as_str().unwrap();
        text.strip_suffix('!').is_some_and(|digits| digits.len() == 3 && digits.parse::<u32>().is_ok())
    };
    assert!(is_right(&complete(&server, &grammar).json()["content"]));
    let mut fields = grammar.clone();
    fields["prompt"] = "Count:".into();
    assert!(is_right(&server.post("/v1/completions", &fields).json()["choices"][0]["text"]));
    let mut fields = grammar;
    fields["messages"] = json!([{ "role": "user", "content": "Count." }]);
    assert!(is_right(
        &server.post("/v1/chat/completions", &fields).json()["choices"][0]["message"]["content"]
    ));
    let refused = complete(&server, &json!({ "grammar": "root ::= \"a\"\nb = \"c\"" })).json();
    assert_eq!(refused["error"]["param"], "grammar");
    assert!(refused["error"]["message"].as_str().unwrap().contains("line 2"), "{refused}");
    let schema = json!({ "json_schema": { "enum": ["red", "green"] } });
    let content = complete(&server, &schema).json()["content"].clone();
    assert!(["\"red\"", "\"green\""].contains(&content.as_str().unwrap()), "{content}");
}

#[test]
fn a_gap_is_filled_behind_other_files() {
    let tiny = TinyModel { context_length: 512, fill_in_middle: true, ..TinyModel::default() };
    let server = TestServer::with_models(options(), vec![model(&tiny, &["tiny"], 4096)]);
    let fill = |fields: Value| {
        let mut all = json!({ "temperature": 0, "n_predict": 20 });
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let reply = server.post("/infill", &all);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["content"].clone()
    };
    let complete = |prompt: &str| {
        let fields = json!({ "prompt": prompt, "temperature": 0, "n_predict": 20 });
        server.post("/completion", &fields).json()["content"].clone()
    };
    assert_eq!(
        fill(json!({ "input_prefix": "fn add(", "input_suffix": ") {}" })),
        complete("<|fim_prefix|>fn add(<|fim_suffix|>) {}<|fim_middle|>")
    );
    let extra = json!([{ "filename": "b.rs", "text": "fn b() {}" }]);
    assert_eq!(
        fill(json!({ "input_prefix": "fn a(", "prompt": "x", "input_suffix": ")", "input_extra": extra })),
        complete("b.rs\nfn b() {}\n<|fim_prefix|>fn a(x<|fim_suffix|>)<|fim_middle|>")
    );
    let plain = TestServer::start(options());
    let refused = plain.post("/infill", &json!({ "input_prefix": "a", "input_suffix": "b" }));
    assert!(refused.status == 400 && refused.text.contains("fill in the middle"), "{}", refused.text);
}

#[test]
fn a_conversation_is_shown_as_the_model_reads_it_and_the_server_as_it_is_set_up() {
    let server = TestServer::start(options());
    let talk = json!([{ "role": "user", "content": "Hi <|im_end|>" }]);
    let shown = server.post("/apply-template", &json!({ "messages": talk })).json();
    assert_eq!(shown["prompt"], "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n");
    let talk = json!([{ "role": "user", "content": "Hi" }]);
    let shown = server.post("/apply-template", &json!({ "messages": talk })).json();
    let asked = json!({ "prompt": shown["prompt"], "temperature": 0, "n_predict": 20 });
    let by_prompt = server.post("/completion", &asked).json()["content"].clone();
    let asked = json!({ "messages": talk, "temperature": 0, "max_tokens": 20 });
    let by_chat =
        server.post("/v1/chat/completions", &asked).json()["choices"][0]["message"]["content"].clone();
    assert_eq!(by_prompt, by_chat);
    let props = server.get("/props").json();
    assert_eq!(props["default_generation_settings"]["n_ctx"], 512);
    assert_eq!((&props["total_slots"], &props["eos_token"]), (&json!(8), &json!("<|im_end|>")));
    let slots = || server.get("/slots").json().as_array().unwrap().clone();
    assert_eq!(slots().len(), 8);
    until("every slot is free", || slots().iter().all(|slot| slot["is_processing"] == false));
    let foreign = server.get_with("/props", &[("Origin", "http://evil.example")]);
    assert_eq!(foreign.status, 403);
}
