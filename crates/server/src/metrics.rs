//! What operators watch, in the format of Prometheus.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use lookahead_engine::{DraftOrigin, GenerationStats, OriginCounts, PassReport};
use lookahead_trie::NamespaceStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::admission::Resource;

/// Seconds of a whole request.
const REQUEST_BUCKETS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

/// Seconds to the first token, or in the queue.
const WAIT_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Seconds for a token, or of a forward pass.
const TOKEN_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.4, 1.0, 4.0];

/// Sequences or tokens of a pass.
const COUNT_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    endpoint: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    QueueFull,
    TooLarge,
    Unauthorized,
    Invalid,
}

impl Rejection {
    fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::Unauthorized => "unauthorized",
            Self::Invalid => "invalid",
        }
    }
}

/// What an origin is called in metrics and in answers.
pub(crate) fn source_name(origin: DraftOrigin) -> &'static str {
    match origin {
        DraftOrigin::Prompt => "prompt",
        DraftOrigin::Reference => "prediction",
        DraftOrigin::Output => "output",
        DraftOrigin::Corpus => "corpus",
        DraftOrigin::RunnersUp => "runners_up",
        DraftOrigin::Constraint => "grammar",
        DraftOrigin::Other => "other",
    }
}

/// What the server has in hand at a moment.
pub(crate) struct InHand {
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) kv_used_tokens: usize,
    /// Of each [`Resource`], in their order.
    pub(crate) admitted: [usize; Resource::ALL.len()],
    pub(crate) preparations: usize,
}

/// All metrics.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<EndpointLabel, Histogram, fn() -> Histogram>,
    rejected: Family<ReasonLabel, Counter>,
    pub(crate) first_token_seconds: Histogram,
    pub(crate) token_seconds: Histogram,
    pub(crate) queue_seconds: Histogram,
    queue_depth: Gauge,
    running: Gauge,
    /// Of each [`Resource`].
    answers_in_hand: Gauge,
    body_bytes: Gauge,
    queued_tokens: Gauge,
    preparations: Gauge,
    pass_sequences: Histogram,
    pass_tokens: Histogram,
    pass_seconds: Histogram,
    prefill_tokens: Counter,
    prefix_cache_tokens: Counter,
    pub(crate) generated_tokens: Counter,
    decode_tokens: Counter,
    decode_steps: Counter,
    draft_tokens: Family<SourceLabel, Counter>,
    accepted_tokens: Family<SourceLabel, Counter>,
    pub(crate) preemptions: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) engine_panics: Counter,
    pub(crate) unmet_assertions: Counter,
    kv_used_tokens: Gauge,
    trie_bytes: Gauge,
    trie_tokens: Gauge,
    namespaces: Gauge,
    pub(crate) namespace_failures: Counter,
    pub(crate) namespace_fallbacks: Counter,
    pub(crate) corpus_failures: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) snapshot_failures: Counter,
    pub(crate) snapshot_timestamp: Gauge<f64, AtomicU64>,
    resident_bytes: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(crate) fn new(model: &str, device: &str, queue_limit: usize, kv_total_tokens: usize) -> Self {
        let mut registry = Registry::with_prefix("lookahead");
        let histogram = |buckets: &[f64]| Histogram::new(buckets.iter().copied());
        let metrics = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            rejected: Family::default(),
            first_token_seconds: histogram(&WAIT_BUCKETS),
            token_seconds: histogram(&TOKEN_BUCKETS),
            queue_seconds: histogram(&WAIT_BUCKETS),
            queue_depth: Gauge::default(),
            running: Gauge::default(),
            answers_in_hand: Gauge::default(),
            body_bytes: Gauge::default(),
            queued_tokens: Gauge::default(),
            preparations: Gauge::default(),
            pass_sequences: histogram(&COUNT_BUCKETS),
            pass_tokens: histogram(&COUNT_BUCKETS),
            pass_seconds: histogram(&TOKEN_BUCKETS),
            prefill_tokens: Counter::default(),
            prefix_cache_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            decode_tokens: Counter::default(),
            decode_steps: Counter::default(),
            draft_tokens: Family::default(),
            accepted_tokens: Family::default(),
            preemptions: Counter::default(),
            cancelled: Counter::default(),
            engine_panics: Counter::default(),
            unmet_assertions: Counter::default(),
            kv_used_tokens: Gauge::default(),
            trie_bytes: Gauge::default(),
            trie_tokens: Gauge::default(),
            namespaces: Gauge::default(),
            namespace_failures: Counter::default(),
            namespace_fallbacks: Counter::default(),
            corpus_failures: Counter::default(),
            snapshots: Counter::default(),
            snapshot_failures: Counter::default(),
            snapshot_timestamp: Gauge::default(),
            resident_bytes: Gauge::default(),
            registry: Registry::default(),
        };
        let labels = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("model", model.to_owned()),
            ("device", device.to_owned()),
        ];
        registry.register("build", "Program, model, and what computes", Info::new(labels));
        let limit = Gauge::<i64, AtomicI64>::default();
        limit.set(queue_limit.min(i64::MAX as usize) as i64);
        registry.register("queue_limit", "Requests that may wait", limit);
        let kv_total = Gauge::<i64, AtomicI64>::default();
        kv_total.set(kv_total_tokens.min(i64::MAX as usize) as i64);
        registry.register("kv_total_tokens", "Tokens that KV caches have room for", kv_total);
        metrics.register(&mut registry);
        Self { registry, ..metrics }
    }

    fn register(&self, to: &mut Registry) {
        to.register("requests", "Requests by endpoint and status", self.requests.clone());
        let help = "Time from a request's arrival to the end of its answer";
        to.register_with_unit("request_duration", help, Unit::Seconds, self.request_seconds.clone());
        to.register("rejected", "Requests turned away", self.rejected.clone());
        let help = "Time from a request's arrival to its first token";
        to.register_with_unit("time_to_first_token", help, Unit::Seconds, self.first_token_seconds.clone());
        let help = "Time for each token after the first";
        to.register_with_unit("time_per_output_token", help, Unit::Seconds, self.token_seconds.clone());
        to.register_with_unit("queue_wait", "Time in the queue", Unit::Seconds, self.queue_seconds.clone());
        to.register("queue_depth", "Requests that wait", self.queue_depth.clone());
        to.register("running_sequences", "Sequences that are being answered", self.running.clone());
        let help = "Answers that wait or run, and requests that are read or prepared";
        to.register("answers_in_hand", help, self.answers_in_hand.clone());
        let help = "Bytes of requests that are read or wait to be prepared";
        to.register("body_bytes", help, self.body_bytes.clone());
        let help = "Tokens of prompts and predictions that wait";
        to.register("queued_tokens", help, self.queued_tokens.clone());
        to.register("preparations", "Requests that are being prepared", self.preparations.clone());
        to.register("pass_sequences", "Sequences of a forward pass", self.pass_sequences.clone());
        to.register("pass_tokens", "Tokens of a forward pass", self.pass_tokens.clone());
        to.register_with_unit("pass", "Time of a forward pass", Unit::Seconds, self.pass_seconds.clone());
        to.register("prefill_tokens", "Tokens of prompts that were run", self.prefill_tokens.clone());
        let help = "Tokens of prompts that were in a KV cache already";
        to.register("prefix_cache_tokens", help, self.prefix_cache_tokens.clone());
        to.register("generated_tokens", "Tokens produced", self.generated_tokens.clone());
        let help = "Tokens produced by decode steps of finished answers; over decode_steps: EDL";
        to.register("decode_tokens", help, self.decode_tokens.clone());
        to.register("decode_steps", "Decode steps of finished answers", self.decode_steps.clone());
        let help = "Drafted tokens of finished answers, by source";
        to.register("draft_tokens", help, self.draft_tokens.clone());
        let help = "Drafted tokens of finished answers that the model accepted, by source";
        to.register("accepted_tokens", help, self.accepted_tokens.clone());
        to.register("preemptions", "Sequences put back for want of memory", self.preemptions.clone());
        to.register("cancelled", "Answers that nobody waited for", self.cancelled.clone());
        let help = "Panics of the engine; each cost the answers that were being made";
        to.register("engine_panics", help, self.engine_panics.clone());
        let help = "Assertions of functions' schemas that complete calls do not satisfy, or that could not be checked";
        to.register("unmet_assertions", help, self.unmet_assertions.clone());
        to.register("kv_used_tokens", "Tokens that KV caches hold room for", self.kv_used_tokens.clone());
        to.register("trie_bytes", "Memory of what drafts are made from", self.trie_bytes.clone());
        to.register("trie_tokens", "Tokens that drafts are made from", self.trie_tokens.clone());
        to.register("namespaces", "Open namespaces", self.namespaces.clone());
        let help = "Requests that drafted from nothing, as the files of their namespace could not be used";
        to.register("namespace_failures", help, self.namespace_failures.clone());
        let help =
            "Requests that drafted from nothing, as all namespaces that their key may have were in use";
        to.register("namespace_fallbacks", help, self.namespace_fallbacks.clone());
        let help = "Corpora that were passed over when a namespace was opened, as their files cannot be used";
        to.register("corpus_failures", help, self.corpus_failures.clone());
        to.register("snapshots", "Snapshots of what was learned", self.snapshots.clone());
        to.register("snapshot_failures", "Snapshots that failed", self.snapshot_failures.clone());
        let help = "When the last snapshot succeeded, in seconds since 1970";
        to.register("snapshot_timestamp_seconds", help, self.snapshot_timestamp.clone());
        to.register("resident_memory_bytes", "Memory of the process", self.resident_bytes.clone());
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, endpoint: &str, status: u16, took: Duration) {
        let endpoint = endpoint.to_owned();
        self.request_seconds
            .get_or_create(&EndpointLabel { endpoint: endpoint.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { endpoint, status }).inc();
    }

    /// Counts a request that was turned away.
    pub(crate) fn rejected(&self, why: Rejection) {
        self.rejected.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    /// Counts a forward pass.
    pub(crate) fn pass(&self, pass: &PassReport) {
        if pass.tokens > 0 {
            self.pass_sequences.observe(pass.sequences as f64);
            self.pass_tokens.observe(pass.tokens as f64);
            self.pass_seconds.observe(pass.forward.as_secs_f64());
            self.prefill_tokens.inc_by(pass.prefill_tokens as u64);
        }
    }

    /// Counts a finished answer.
    pub(crate) fn finished(&self, stats: &GenerationStats) {
        self.prefix_cache_tokens.inc_by(stats.cached_tokens as u64);
        self.decode_tokens.inc_by(stats.decode_tokens as u64);
        self.decode_steps.inc_by(stats.steps());
        let count = |family: &Family<SourceLabel, Counter>, counts: &OriginCounts| {
            for origin in DraftOrigin::ALL {
                if counts.of(origin) > 0 {
                    family
                        .get_or_create(&SourceLabel { source: source_name(origin) })
                        .inc_by(counts.of(origin));
                }
            }
        };
        count(&self.draft_tokens, &stats.drafted_by_origin);
        count(&self.accepted_tokens, &stats.accepted_by_origin);
    }

    /// All of it as text. `namespaces` are those that are open.
    pub(crate) fn encode(&self, namespaces: &[NamespaceStats], in_hand: &InHand) -> String {
        self.queue_depth.set(in_hand.waiting as i64);
        self.running.set(in_hand.running as i64);
        self.kv_used_tokens.set(in_hand.kv_used_tokens as i64);
        for resource in Resource::ALL {
            let gauge = match resource {
                Resource::Answers => &self.answers_in_hand,
                Resource::BodyBytes => &self.body_bytes,
                Resource::QueuedTokens => &self.queued_tokens,
            };
            gauge.set(in_hand.admitted[resource as usize] as i64);
        }
        self.preparations.set(in_hand.preparations as i64);
        self.namespaces.set(namespaces.len() as i64);
        self.trie_tokens.set(namespaces.iter().map(|stats| stats.tokens as i64).sum());
        self.trie_bytes.set(namespaces.iter().map(|stats| stats.bytes as i64).sum());
        if let Some(bytes) = resident_bytes() {
            self.resident_bytes.set(bytes);
        }
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics cannot be written"); // into a string, they can
        }
        text
    }
}

/// Memory of this process that is in RAM, where the system says.
fn resident_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096) // pages of Linux on the machines that this runs on
}
