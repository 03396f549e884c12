//! What all handlers share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use lookahead_engine::Engine;
use lookahead_model::LanguageModel;

use crate::admission::Admission;
use crate::error::ApiError;
use crate::ids;
use crate::metrics::Metrics;
use crate::options::{ServedModel, ServerOptions};
use crate::preparations::Preparations;
use crate::serve_error::ServeError;
use crate::served::{Models, Served};
use crate::stored_responses::StoredResponses;

/// How long the end of the server waits for the end of a forward pass.
const LAST_PASS: Duration = Duration::from_millis(500);

/// What all handlers share.
pub(crate) struct State {
    pub(crate) models: Models,
    pub(crate) options: ServerOptions,
    pub(crate) admission: Arc<Admission>,
    pub(crate) preparations: Arc<Preparations>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) responses: Arc<StoredResponses>,
    /// When the server started, in seconds since 1970.
    pub(crate) created: u64,
    is_stopping: AtomicBool,
}

impl State {
    pub(crate) fn new<M>(
        models: Vec<(Engine<M>, ServedModel)>,
        options: ServerOptions,
    ) -> Result<Arc<Self>, ServeError>
    where
        M: LanguageModel + Send + 'static,
        M::Cache: Send,
    {
        let names: Vec<&str> =
            models.iter().filter_map(|(_, model)| model.names.first()).map(String::as_str).collect();
        let kv_total_tokens = models
            .iter()
            .map(|(engine, _)| engine.model().cache_memory().total_tokens())
            .fold(0, usize::saturating_add);
        let mut devices: Vec<String> = models.iter().map(|(engine, _)| engine.model().device()).collect();
        devices.dedup();
        let metrics = Metrics::new(&names.join(","), &devices.join(","), options.max_queue, kv_total_tokens);
        let metrics = Arc::new(metrics);
        let admission = Admission::new(&options, models.len());
        let most_of_one = options.preparations * options.tenant_percent() / 100;
        let preparations = Preparations::new(options.preparations, most_of_one);
        let start = |(engine, model)| Served::start(engine, model, &options, &metrics);
        let models = models.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            models: Models::new(models)?,
            options,
            admission,
            preparations,
            metrics,
            responses: Arc::default(),
            created: ids::unix_seconds(),
            is_stopping: AtomicBool::new(false),
        }))
    }

    /// Does for a request of `tenant` what takes a core for a while, once there is a place for that. What is not done by `deadline`,
    /// or is asked for by a client that goes away, is not waited for: it is told so, and keeps its place until it ends.
    pub(crate) async fn prepare<T: Send + 'static>(
        &self,
        tenant: &Arc<str>,
        deadline: Instant,
        work: impl FnOnce(&Awaited) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let waits = Arc::new(());
        let awaited = Awaited(Arc::downgrade(&waits));
        let prepared = async {
            let place = self.preparations.place(tenant).await;
            blocking(move || {
                let result = awaited.check().and_then(|()| work(&awaited));
                drop(place);
                result
            })
            .await
        };
        let timeout = self.options.request_timeout.as_secs();
        tokio::time::timeout_at(deadline.into(), prepared)
            .await
            .unwrap_or_else(|_| Err(ApiError::timeout(timeout)))
    }

    /// Takes no more requests from now on, and refuses those that wait. Those that have begun go on.
    pub(crate) fn begin_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for model in self.models.iter() {
            model.worker.close();
        }
    }

    /// Gives up the answers that are being made. Their clients are told.
    pub(crate) fn give_up(&self) {
        for model in self.models.iter() {
            model.worker.end();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Saves what was learned; what fails is logged and counted, and the server goes on.
    pub(crate) fn save(&self) {
        let began = Instant::now();
        let failed: Vec<_> = self.models.iter().flat_map(|model| model.drafts.save()).collect();
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

    /// Ends the engines and saves what was learned: from whole answers, and from what there was of those that were given up.
    /// An engine that takes long for a pass is not waited for.
    pub(crate) async fn shut_down(self: Arc<Self>) {
        let ended = tokio::task::spawn_blocking(move || {
            self.give_up();
            let deadline = Instant::now() + LAST_PASS;
            let has_ended = |model: &Arc<Served>| {
                model.worker.has_ended_within(deadline.saturating_duration_since(Instant::now()))
            };
            if !self.models.iter().all(has_ended) {
                tracing::warn!("what is learned is saved without the answers of a pass that goes on");
            }
            self.save();
        });
        if ended.await.is_err() {
            tracing::error!("the end has panicked");
        }
    }
}

/// Whether what is prepared is still waited for. What takes long asks between its pieces: tokenizing one text and compiling one
/// grammar, whose sizes are bounded, go on to their ends.
pub(crate) struct Awaited(Weak<()>);

impl Awaited {
    /// Fails if nobody waits any more; then nobody is told, either.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        match self.0.strong_count() {
            0 => Err(ApiError::unavailable("the request was given up")),
            _ => Ok(()),
        }
    }
}

/// Runs what may take a while beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::internal(format!("the server made a mistake: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_knows_whether_it_is_waited_for() {
        let waits = Arc::new(());
        let awaited = Awaited(Arc::downgrade(&waits));
        assert!(awaited.check().is_ok());
        drop(waits);
        assert!(awaited.check().is_err());
    }
}
