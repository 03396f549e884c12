//! Whatever else is being served, an answer is the one that plain decoding gives alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::{TestServer, options};
use lookahead_server::{DraftOptions, ServerOptions};
use serde_json::{Value, json};

const REQUESTS: usize = 500;

/// Requests at once.
const CLIENTS: usize = 24;

/// A different request for each number, many with a beginning in common.
fn request(number: usize) -> (&'static str, Value) {
    let random = |salt: usize, below: usize| {
        let mixed = (number * 7919 + salt * 104_729).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 33) % below
    };
    // A third of the requests come twice.
    let topic = ["rivers", "stars", "bread", "glass", "maps"][random(1, 5)];
    let story = format!("Tell me about {topic}. ").repeat(1 + random(2, 6));
    let mut body = json!({
        "max_tokens": 1 + random(3, 90),
        "seed": random(4, 1000),
        "temperature": ([0.0, 0.0, 0.7, 1.3][random(5, 4)]),
        "stream": false,
    });
    let more = match random(6, 9) {
        0 => json!({ "top_p": 0.8, "min_p": 0.02 }),
        1 => json!({ "top_k": 20, "frequency_penalty": 0.4 }),
        2 => json!({ "logit_bias": { "40": 5, "41": -100 } }),
        3 => json!({ "stop": ["e", "\n"] }),
        4 => json!({ "n": 3 }),
        5 => json!({ "lookahead": { "share": "off" } }),
        6 => json!({ "lookahead": { "draft_length": 7, "namespace": "other" } }),
        _ => json!({}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if random(7, 3) == 0 {
        body["prompt"] = story.into();
        body["logprobs"] = 2.into();
        return ("/v1/completions", body);
    }
    body["messages"] = json!([
        { "role": "system", "content": "You are a guide in a museum and answer at length." },
        { "role": "user", "content": story },
    ]);
    match random(8, 6) {
        0 => body["logprobs"] = true.into(),
        1 => body["response_format"] = json!({ "type": "json_object" }),
        2 => {
            let schema =
                json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
            body["response_format"] = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
        }
        3 => body["prediction"] = json!({ "type": "content", "content": "Tell me about maps and stars." }),
        _ => return by_another_wire(body, random(9, 3)),
    }
    ("/v1/chat/completions", body)
}

/// The same by the wire of this number, if it is one that gives as many answers.
fn by_another_wire(mut body: Value, wire: usize) -> (&'static str, Value) {
    let fields = body.as_object_mut().unwrap();
    if wire > 1 || fields.contains_key("n") {
        return ("/v1/chat/completions", body);
    }
    let mut messages = fields.remove("messages").unwrap();
    if wire == 0 {
        let system = messages.as_array_mut().unwrap().remove(0);
        fields.extend([("system".to_owned(), system["content"].clone()), ("messages".to_owned(), messages)]);
        return ("/v1/messages", body);
    }
    let limit = fields.remove("max_tokens").unwrap();
    fields.extend([("input".to_owned(), messages), ("max_output_tokens".to_owned(), limit)]);
    ("/v1/responses", body)
}

/// What of an answer depends on nothing but the request.
fn essence(answer: &Value) -> Value {
    let usage = &answer["usage"];
    if let Some(choices) = answer.get("choices") {
        return json!([choices, usage["prompt_tokens"], usage["completion_tokens"]]);
    }
    if let Some(output) = answer.get("output") {
        let items = output.as_array().unwrap().iter().map(|item| &item["content"]);
        return json!([
            items.collect::<Vec<_>>(),
            answer["status"],
            usage["input_tokens"],
            usage["output_tokens"]
        ]);
    }
    json!([answer["content"], answer["stop_reason"], answer["stop_sequence"], usage["output_tokens"]])
}

fn ask(server: &TestServer, number: usize) -> Value {
    let (path, body) = request(number);
    let reply = server.post(path, &body);
    assert_eq!(reply.status, 200, "{body}: {}", reply.text);
    essence(&reply.json())
}

#[test]
fn every_answer_under_load_is_the_one_given_alone() {
    under_load_as_alone("llama", 768);
}

#[test]
fn so_is_every_answer_of_a_model_with_recurrent_layers() {
    under_load_as_alone("qwen35", 1536);
}

/// With memory for the longest request, but not for all that run at once.
fn under_load_as_alone(architecture: &'static str, kv_tokens: usize) {
    // Each number is asked for at a random time, some twice.
    let numbers: Vec<usize> = (0..REQUESTS).map(|index| index * 137 % (REQUESTS * 2 / 3)).collect();
    let alone: Vec<Value> = {
        let drafts = DraftOptions { policy: None, ..options().drafts };
        let server = TestServer::with_architecture(ServerOptions { drafts, ..options() }, architecture, 8192);
        (0..REQUESTS * 2 / 3).map(|number| ask(&server, number)).collect()
    };
    let server = TestServer::with_architecture(options(), architecture, kv_tokens);
    let (next, differ) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = ask(&server, number);
                    if answer != alone[number] {
                        differ.lock().unwrap().push((number, answer));
                    }
                }
            });
        }
    });
    let differ = differ.into_inner().unwrap();
    for (number, answer) in differ.iter().take(3) {
        eprintln!("{number}: {}\nalone:      {}\nunder load: {answer}", request(*number).1, alone[*number]);
    }
    assert!(differ.is_empty(), "{} of {REQUESTS} answers differ", differ.len());
    for metric in ["preemptions", "prefix_cache_tokens", "accepted_tokens"] {
        assert!(
            server.metric(&format!("lookahead_{metric}_total")) > 0.0,
            "{metric} did not come to the test"
        );
    }
}
