//! Spans, made when their times are known. Their names and attributes are those of OpenTelemetry's semantic conventions for HTTP
//! servers and for generative models, where there are such.

use std::time::{Instant, SystemTime};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName};
use lookahead_engine::FinishReason;
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};

use super::answer_times::AnswerTimes;

/// Whose spans they are.
const TRACER: &str = "lookahead";

/// The trace of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestTrace {
    /// With the request's span in it.
    context: Context,
}

impl RequestTrace {
    /// Begins the span of a request to `route`, beneath the client's own if it names one.
    pub(crate) fn begin(request: &Request, route: &str) -> Self {
        let method = request.method().as_str();
        let parent = global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), &Headers(request.headers()))
        });
        let span = global::tracer(TRACER)
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method.to_owned()),
                KeyValue::new("http.route", route.to_owned()),
            ])
            .start_with_context(&global::tracer(TRACER), &parent);
        Self { context: parent.with_span(span) }
    }

    /// Adds the spans of an answer that ends now.
    pub(crate) fn answered(&self, answer: &AnswerTimes<'_>) {
        let (end, stats) = (Instant::now(), answer.stats);
        let reason = match answer.finish_reason {
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Stop => "stop",
        };
        let attributes = vec![
            KeyValue::new("gen_ai.usage.input_tokens", stats.prompt_tokens as i64),
            KeyValue::new("gen_ai.usage.output_tokens", stats.completion_tokens as i64),
            KeyValue::new("gen_ai.response.finish_reasons", reason),
            KeyValue::new("lookahead.cached_tokens", stats.cached_tokens as i64),
            KeyValue::new("lookahead.steps", stats.steps() as i64),
            KeyValue::new("lookahead.drafted", stats.draft_tokens() as i64),
            KeyValue::new("lookahead.accepted", stats.accepted_tokens() as i64),
        ];
        let whole = span(&self.context, "answer", attributes, answer.received);
        let beneath = self.context.with_span(whole);
        let admitted = answer.admitted.unwrap_or(end);
        let first = answer.first_token.unwrap_or(end);
        for (name, from, to) in
            [("queue", answer.received, admitted), ("prefill", admitted, first), ("decode", first, end)]
        {
            if from < end {
                span(&beneath, name, Vec::new(), from).end_with_timestamp(at(to));
            }
        }
        beneath.span().end_with_timestamp(at(end));
    }

    /// Ends the span of the request.
    pub(crate) fn end(&self, status: u16, id: &str) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        span.set_attribute(KeyValue::new("lookahead.request_id", id.to_owned()));
        if status >= 500 {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

fn span(
    parent: &Context,
    name: &'static str,
    attributes: Vec<KeyValue>,
    start: Instant,
) -> global::BoxedSpan {
    let tracer = global::tracer(TRACER);
    let builder = tracer.span_builder(name).with_attributes(attributes).with_start_time(at(start));
    builder.start_with_context(&tracer, parent)
}

/// The time of day at `instant`, which is not in the future.
fn at(instant: Instant) -> SystemTime {
    SystemTime::now() - instant.elapsed()
}

/// Headers, as propagators read them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
