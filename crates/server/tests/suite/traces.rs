//! Spans of requests.
use lookahead_server::ServerOptions;
use opentelemetry::{Key, Value, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;

use crate::common::{TestServer, options};

fn number(span: &SpanData, key: &'static str) -> i64 {
    match span
        .attributes
        .iter()
        .find(|attribute| attribute.key == Key::from_static_str(key))
        .map(|a| &a.value)
    {
        Some(Value::I64(number)) => *number,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn a_request_is_a_span_beneath_the_clients_own_with_its_answers_beneath_it() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    global::set_tracer_provider(provider);
    global::set_text_map_propagator(TraceContextPropagator::new());
    let mut server = TestServer::start(ServerOptions { parallel: 1, ..options() });
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 30, "n": 2, "ignore_eos": true });
    let header = format!("00-{trace}-{parent}-01");
    let answer = ureq::post(format!("{}/v1/chat/completions", server.base()))
        .header("traceparent", &header)
        .send(body.to_string())
        .unwrap();
    assert_eq!(answer.status(), 200);
    drop(answer);
    let missing = ureq::get(format!("{}/v1/nothing", server.base()))
        .config()
        .http_status_as_error(false)
        .build()
        .header("traceparent", &header)
        .call()
        .unwrap();
    assert_eq!(missing.status(), 404);
    drop(missing);
    server.stop();

    // Other tests of this binary are traced, too.
    let mut spans = exporter.get_finished_spans().unwrap();
    spans.retain(|span| span.span_context.trace_id().to_string() == trace);
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let request = named("POST /v1/chat/completions")[0];
    assert_eq!(request.parent_span_id.to_string(), parent);
    assert_eq!(number(request, "http.response.status_code"), 200);
    let answers = named("answer");
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        assert_eq!(answer.parent_span_id, request.span_context.span_id());
        assert_eq!(number(answer, "gen_ai.usage.output_tokens"), 30);
        assert!(number(answer, "lookahead.steps") > 0);
        let of_answer =
            |name| *named(name).iter().find(|s| s.parent_span_id == answer.span_context.span_id()).unwrap();
        let (queue, prefill, decode) = (of_answer("queue"), of_answer("prefill"), of_answer("decode"));
        assert!(prefill.start_time < prefill.end_time, "a prompt takes time");
        assert!(queue.end_time <= prefill.end_time && prefill.end_time <= decode.end_time);
        assert!(decode.start_time < decode.end_time && answer.start_time < answer.end_time);
    }
    // One sequence at a time: the second answer waits for the first one.
    let seconds = |span: &SpanData| span.end_time.duration_since(span.start_time).unwrap();
    let waits = named("queue").iter().map(|span| seconds(span)).max().unwrap();
    assert!(waits >= named("decode").iter().map(|span| seconds(span)).min().unwrap());
    assert_eq!(number(named("GET other")[0], "http.response.status_code"), 404);
}
