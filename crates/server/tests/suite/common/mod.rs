//! A server with a tiny model on a free port, and requests to it.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lookahead_engine::{CostCurve, CostPoint, DraftPolicy, Engine, EngineOptions};
use lookahead_fixtures::{TinyModel, tiny_model};
use lookahead_kernels::Kernels;
use lookahead_model::chat_template::ChatTemplate;
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::Tokenizer;
use lookahead_model::{CpuModel, PromptEncoder};
use lookahead_server::{DraftOptions, Listener, ServedModel, ServerOptions, serve};
use serde_json::Value;
use tokio::sync::Notify;

/// A running server; dropping it stops it.
pub(crate) struct TestServer {
    base: String,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
    agent: ureq::Agent,
}

/// An answer: status, headers and body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// Drafts by a curve of which a pass over some tokens is cheap.
pub(crate) fn policy() -> DraftPolicy {
    let points = [(1, 1.0), (8, 1.2), (32, 2.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
    DraftPolicy::adaptive(Arc::new(CostCurve::new(points.to_vec()).unwrap()))
}

pub(crate) fn options() -> ServerOptions {
    ServerOptions {
        keys: Vec::new(),
        cors_origins: Vec::new(),
        allowed_hosts: Vec::new(),
        parallel: 8,
        max_queue: 1000,
        max_prompt_tokens: usize::MAX,
        max_completion_tokens: usize::MAX,
        max_body_bytes: 1 << 20,
        max_corpus_bytes: 1 << 20,
        request_timeout: Duration::from_mins(2),
        client_timeout: Duration::from_secs(10),
        shutdown_timeout: Duration::from_secs(10),
        snapshot_interval: Duration::from_hours(1),
        log_prompts: false,
        drafts: DraftOptions {
            policy: Some(policy()),
            directory: None,
            namespace_bytes: 16 << 20,
            max_namespaces: 8,
            max_kept_namespaces: 16,
            max_corpora: 8,
            corpora_bytes: 64 << 20,
            corpora: Vec::new(),
        },
    }
}

impl TestServer {
    pub(crate) fn start(options: ServerOptions) -> Self {
        Self::with_kv_tokens(options, 8192)
    }

    /// With memory for about so many tokens in all KV caches.
    pub(crate) fn with_kv_tokens(options: ServerOptions, kv_tokens: usize) -> Self {
        let bytes = tiny_model(&TinyModel { context_length: 512, ..TinyModel::default() });
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let gguf = GgufFile::open(file.path()).unwrap();
        let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
        let template = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap();
        let model = CpuModel::load(&gguf, Kernels::new(2)).unwrap();
        let kv_bytes = kv_tokens * model.kv_bytes_per_token();
        let model = model.with_kv_memory(kv_bytes);
        let served = ServedModel {
            names: vec!["tiny".to_owned(), "other-name".to_owned()],
            prompts: Arc::new(PromptEncoder::new(Arc::new(tokenizer), template)),
        };
        let stop = Arc::new(Notify::new());
        let (tell, address) = channel();
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = Listener::bind("127.0.0.1", 0).await.unwrap();
                tell.send(listener.address().unwrap()).unwrap();
                let engine = Engine::new(model, EngineOptions { prefill_chunk: 64 });
                serve(listener, engine, served, options, told.notified()).await.unwrap();
            });
        });
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let base = format!("http://{}", address.recv().unwrap());
        Self { base, stop, thread: Some(thread), agent }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.get_as(path, None)
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.delete_as(path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_as(path, None, &body.to_string())
    }

    /// Posts `body` with an API key.
    pub(crate) fn post_as(&self, path: &str, key: Option<&str>, body: &str) -> Reply {
        let authorization = key.map(|key| format!("Bearer {key}"));
        let authorization = authorization.as_deref().map(|value| ("Authorization", value));
        let headers: Vec<_> =
            authorization.into_iter().chain([("Content-Type", "application/json")]).collect();
        self.post_with(path, &headers, body)
    }

    /// Posts `body` with these headers, and a type of text where they name none.
    pub(crate) fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let request = self.agent.post(format!("{}{path}", self.base));
        read(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send(body))
    }

    pub(crate) fn get_as(&self, path: &str, key: Option<&str>) -> Reply {
        let authorization = key.map(|key| format!("Bearer {key}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", &**value)).collect();
        self.get_with(path, &headers)
    }

    pub(crate) fn delete_as(&self, path: &str, key: Option<&str>) -> Reply {
        let mut request = self.agent.delete(format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        read(request.call())
    }

    /// Asks whether a page of `origin` may post to `path`.
    pub(crate) fn preflight(&self, path: &str, origin: &str) -> Reply {
        let request = self.agent.options(format!("{}{path}", self.base));
        let request = request.header("Origin", origin).header("Access-Control-Request-Method", "POST");
        read(request.header("Access-Control-Request-Headers", "content-type").call())
    }

    /// Gets `path` with these headers.
    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = self.agent.get(format!("{}{path}", self.base));
        read(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).call())
    }

    /// The value of a metric, or the sum over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Tells the server to stop and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Tells the server to stop, and goes on.
    pub(crate) fn begin_stopping(&self) {
        self.stop.notify_one();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let mut response = response.unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    Reply { status: response.status().as_u16(), headers: response.headers().clone(), text }
}

/// Waits until `is_so`, for a while at most.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
