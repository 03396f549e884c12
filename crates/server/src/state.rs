//! What all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lookahead_engine::{Engine, Scheduler, SchedulerOptions};
use lookahead_grammar::Grammars;
use lookahead_model::LanguageModel;

use crate::ServeError;
use crate::drafts::DraftStore;
use crate::ids;
use crate::metrics::Metrics;
use crate::options::{ServedModel, ServerOptions};
use crate::worker::Worker;

/// What all handlers share.
pub(crate) struct State {
    pub(crate) model: ServedModel,
    pub(crate) options: ServerOptions,
    pub(crate) drafts: DraftStore,
    pub(crate) grammars: Arc<Grammars>,
    pub(crate) worker: Worker,
    pub(crate) metrics: Arc<Metrics>,
    /// The most tokens of prompt and answer together.
    pub(crate) context_length: usize,
    pub(crate) kv_total_tokens: usize,
    /// When the server started, in seconds since 1970.
    pub(crate) created: u64,
    is_stopping: AtomicBool,
}

impl State {
    pub(crate) fn new<M>(
        engine: Engine<M>,
        model: ServedModel,
        options: ServerOptions,
    ) -> Result<Arc<Self>, ServeError>
    where
        M: LanguageModel + Send + 'static,
        M::Cache: Send,
    {
        let tokenizer = model.prompts.tokenizer();
        let grammars = Arc::new(Grammars::new(tokenizer, engine.model().vocabulary_size())?);
        let fingerprint = tokenizer.fingerprint();
        let context_length = engine.context_length();
        let kv_total_tokens = engine.model().cache_memory().total_tokens;
        let name = model.names.first().map_or("", String::as_str);
        let metrics = Arc::new(Metrics::new(name, options.max_queue, kv_total_tokens));
        let drafts = DraftStore::new(options.drafts.clone(), fingerprint, Arc::clone(&metrics))?;
        let scheduler_options = SchedulerOptions {
            max_sequences: options.parallel,
            max_queue: usize::MAX, // the worker's handle turns requests away
            prefix_cache: kv_total_tokens < usize::MAX,
        };
        let scheduler = Scheduler::new(engine, scheduler_options);
        let worker =
            Worker::start(scheduler, options.max_queue, Arc::clone(&metrics)).map_err(ServeError::Thread)?;
        Ok(Arc::new(Self {
            model,
            options,
            drafts,
            grammars,
            worker,
            metrics,
            context_length,
            kv_total_tokens,
            created: ids::unix_seconds(),
            is_stopping: AtomicBool::new(false),
        }))
    }

    /// The name of the model.
    pub(crate) fn model_name(&self) -> &str {
        self.model.names.first().map_or("", String::as_str)
    }

    /// Takes no more requests from now on.
    pub(crate) fn begin_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Saves what was learned; what fails is logged and counted, and the server goes on.
    pub(crate) fn save(&self) {
        let began = Instant::now();
        let failed = self.drafts.save();
        for (namespace, error) in &failed {
            tracing::error!(namespace, "what was learned is not saved: {error}");
        }
        if failed.is_empty() {
            self.metrics.snapshots.inc();
            self.metrics.snapshot_timestamp.set(ids::unix_seconds() as f64);
            tracing::debug!(ms = began.elapsed().as_millis() as u64, "saved what was learned");
        } else {
            self.metrics.snapshot_failures.inc();
        }
    }

    /// Ends the engine and saves what was learned.
    pub(crate) async fn shut_down(self: Arc<Self>) {
        let ended = tokio::task::spawn_blocking(move || {
            self.worker.stop();
            self.save();
        });
        if ended.await.is_err() {
            tracing::error!("the end has panicked");
        }
    }
}
