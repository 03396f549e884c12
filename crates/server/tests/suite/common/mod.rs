//! A server with a tiny model on a free port, and requests to it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lookahead_engine::{CostCurve, CostPoint, DraftPolicy, Engine, EngineOptions};
use lookahead_fixtures::{TinyModel, tiny_model};
use lookahead_kernels::Kernels;
use lookahead_model::chat_template::ChatTemplate;
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::Tokenizer;
use lookahead_model::{
    Accepted, CacheMemory, CpuModel, ForwardError, LanguageModel, Logits, PromptEncoder, SequenceStep,
    TokenId,
};
use lookahead_server::{DraftOptions, Listener, ReasoningMode, ServedModel, ServerOptions, serve};
use serde_json::Value;
use tokio::sync::Notify;

/// A running server; dropping it stops it.
pub struct TestServer {
    /// Of its threads.
    name: String,
    base: String,
    stop: Arc<Notify>,
    hurry: Arc<Notify>,
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
        max_body_memory: 64 << 20,
        max_queued_tokens: 1 << 20,
        tenant_share: 50,
        preparations: 2,
        max_prediction_bytes: 1 << 16,
        max_prediction_tokens: usize::MAX,
        max_prompt_tokens: usize::MAX,
        max_completion_tokens: usize::MAX,
        max_body_bytes: 1 << 20,
        max_corpus_bytes: 1 << 20,
        request_timeout: Duration::from_mins(2),
        client_timeout: Duration::from_secs(10),
        shutdown_timeout: Duration::from_secs(10),
        snapshot_interval: Duration::from_hours(1),
        reasoning: ReasoningMode::Auto,
        strict_fields: false,
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

/// A model with weights of its own, under these names, and memory for about so many tokens in its KV caches.
pub fn model(tiny: &TinyModel, names: &[&str], kv_tokens: usize) -> (Engine<CpuModel>, ServedModel) {
    let (model, served) = load(tiny, names, kv_tokens);
    (engine(model), served)
}

fn load(tiny: &TinyModel, names: &[&str], kv_tokens: usize) -> (CpuModel, ServedModel) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&tiny_model(tiny)).unwrap();
    let gguf = GgufFile::open(file.path()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let template = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap();
    let model = CpuModel::load(&gguf, Kernels::new(2)).unwrap();
    // And for a recurrent state for every 256 of them.
    let states = kv_tokens / 256 * model.architecture().state_bytes();
    let kv_bytes = kv_tokens * model.kv_bytes_per_token() + states;
    let served = ServedModel {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        prompts: Arc::new(PromptEncoder::new(Arc::new(tokenizer), template).unwrap()),
        drafts: None,
    };
    (model.with_kv_memory(kv_bytes), served)
}

fn engine<M: LanguageModel>(model: M) -> Engine<M> {
    Engine::new(model, EngineOptions { prefill_chunk: 64 })
}

impl TestServer {
    pub(crate) fn start(options: ServerOptions) -> Self {
        Self::with_kv_tokens(options, 8192)
    }

    /// With memory for about so many tokens in all KV caches.
    pub fn with_kv_tokens(options: ServerOptions, kv_tokens: usize) -> Self {
        Self::with_model(options, kv_tokens, |model| model)
    }

    /// The same of another architecture.
    pub fn with_architecture(options: ServerOptions, architecture: &'static str, kv_tokens: usize) -> Self {
        let tiny = TinyModel { architecture, context_length: 512, ..TinyModel::default() };
        Self::with_models(options, vec![model(&tiny, &["tiny", "other-name"], kv_tokens)])
    }

    /// With what `wrap` makes of the model.
    pub fn with_model<M>(options: ServerOptions, kv_tokens: usize, wrap: impl FnOnce(CpuModel) -> M) -> Self
    where
        M: LanguageModel + Send + 'static,
        M::Cache: Send,
    {
        let tiny = TinyModel { context_length: 512, ..TinyModel::default() };
        let (model, served) = load(&tiny, &["tiny", "other-name"], kv_tokens);
        Self::with_models(options, vec![(engine(wrap(model)), served)])
    }

    /// With models as [`model`] makes them.
    pub fn with_models<M>(options: ServerOptions, models: Vec<(Engine<M>, ServedModel)>) -> Self
    where
        M: LanguageModel + Send + 'static,
        M::Cache: Send,
    {
        static SERVERS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("server-{}", SERVERS.fetch_add(1, Ordering::Relaxed));
        let thread_name = name.clone();
        let (stop, hurry) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, address) = channel();
        let (told, hurried) = (Arc::clone(&stop), Arc::clone(&hurry));
        let thread = thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).thread_name(thread_name).enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = Listener::bind("127.0.0.1", 0).await.unwrap();
                tell.send(listener.address().unwrap()).unwrap();
                serve(listener, models, options, told.notified(), hurried.notified()).await.unwrap();
            });
        });
        // A connection that is kept may end under the next request when the server stops.
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build().into();
        let base = format!("http://{}", address.recv().unwrap());
        Self { name, base, stop, hurry, thread: Some(thread), agent }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Threads of its runtime: for connections, and for what blocks.
    pub fn threads(&self) -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name =
            |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task?.path().join("comm"));
        tasks.filter_map(|task| name(task).ok()).filter(|name| name.trim_end() == self.name).count()
    }

    pub fn get(&self, path: &str) -> Reply {
        read(self.agent.get(format!("{}{path}", self.base)).call())
    }

    pub(crate) fn head(&self, path: &str) -> Reply {
        read(self.agent.head(format!("{}{path}", self.base)).call())
    }

    /// What `/health` says; nothing where the connection is closed just then, as by a server that begins to stop.
    pub(crate) fn health(&self) -> Option<String> {
        let mut response = self.agent.get(format!("{}/health", self.base)).call().ok()?;
        let health: Value = serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()?;
        health["status"].as_str().map(str::to_owned)
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

    /// Tells the server not to wait for answers when it stops.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Sends a request to `path` with an API key, and returns the connection.
    pub fn send(&self, path: &str, key: Option<&str>, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (body, key) = (body.to_string(), key.map(|key| format!("Authorization: Bearer {key}\r\n")));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n",
            body.len(),
            key.unwrap_or_default(),
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        stream
    }
}

/// The answer that comes over a connection, to the last byte.
pub fn rest_of(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A model that takes its time, and panics where it is told to.
pub struct Faulty {
    model: CpuModel,
    pass: Duration,
    is_broken: bool,
}

/// A prompt with these tokens makes [`Faulty`] panic in its forward pass.
pub const PANICS: [TokenId; 4] = [5, 5, 5, 5];

/// A prompt with these tokens makes it panic now and whenever it is asked something.
pub const BREAKS: [TokenId; 4] = [6, 6, 6, 6];

impl Faulty {
    /// Every pass of `model` takes `pass` longer.
    pub fn new(model: CpuModel, pass: Duration) -> Self {
        Self { model, pass, is_broken: false }
    }
}

impl LanguageModel for Faulty {
    type Cache = <CpuModel as LanguageModel>::Cache;

    fn vocabulary_size(&self) -> usize {
        self.model.vocabulary_size()
    }

    fn context_length(&self) -> usize {
        self.model.context_length()
    }

    fn new_cache(&self, capacity: usize) -> Self::Cache {
        self.model.new_cache(capacity)
    }

    fn cache_memory(&self) -> CacheMemory {
        assert!(!self.is_broken, "broken for good");
        self.model.cache_memory()
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, Self::Cache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        thread::sleep(self.pass);
        let has = |what: [TokenId; 4]| {
            batch.iter().any(|step| step.tree.tokens().windows(what.len()).any(|tokens| tokens == what))
        };
        self.is_broken |= has(BREAKS);
        let is_told_to = self.is_broken || has(PANICS);
        self.model.forward(batch, logits)?;
        assert!(!is_told_to, "a panic for the test");
        Ok(())
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, Self::Cache>]) {
        self.model.commit(batch);
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
