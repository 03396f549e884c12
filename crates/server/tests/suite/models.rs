//! Several models in one server.

use lookahead_fixtures::TinyModel;
use serde_json::{Value, json};

use crate::common::{TestServer, model, options};

#[test]
fn a_request_is_answered_by_the_model_that_it_names() {
    let tiny = |seed| TinyModel { context_length: 512, seed, ..TinyModel::default() };
    let both = TestServer::with_models(
        options(),
        vec![model(&tiny(1), &["first", "default"], 4096), model(&tiny(2), &["second"], 4096)],
    );
    let alone = TestServer::with_models(options(), vec![model(&tiny(2), &["second"], 4096)]);
    let ask = |server: &TestServer, name: Option<&str>| -> Value {
        let body =
            json!({ "model": name, "prompt": "Tell me about rivers.", "temperature": 0, "max_tokens": 40 });
        let reply = server.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    };
    let (first, second) = (ask(&both, None), ask(&both, Some("second")));
    assert_eq!((&first["model"], &second["model"]), (&json!("first"), &json!("second")));
    assert_eq!(second["choices"], ask(&alone, None)["choices"]);
    assert_ne!(second["choices"], first["choices"]);
    assert_eq!(first["choices"], ask(&both, Some("default"))["choices"]);
    let listed = both.get("/v1/models").json();
    let names: Vec<&str> =
        listed["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(names, ["first", "default", "second"]);
    let unknown = both.post("/v1/completions", &json!({ "model": "third", "prompt": "x" }));
    assert_eq!(unknown.status, 404);
    assert!(unknown.text.contains("`first`, `default`, `second` are"), "{}", unknown.text);
    // What one has said is no draft of the other's.
    let tokens = |name: &str| {
        both.get(&format!("/v1/lookahead/stats?model={name}")).json()["namespace"]["tokens"].clone()
    };
    assert_eq!(tokens("nothing"), Value::Null);
    assert!(both.get("/health").status == 200 && tokens("second").is_u64());
}
