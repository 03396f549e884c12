//! An OpenAI-compatible server around the lookahead engine.
//!
//! Data flows one way: a handler in `api` turns a request into prompt tokens and jobs; the `worker`, a thread that owns
//! the engine, batches the jobs of all requests; what it produces comes back as events, which the handler turns into the
//! answer. Nothing that a client does or does not do makes the engine wait.
//!
//! [`serve`] runs until it is told to stop: then it takes no more requests, finishes those that it has, and saves what was
//! learned.

mod api;
mod auth;
mod drafts;
mod error;
mod ids;
mod listen;
mod metrics;
mod options;
mod pages;
mod state;
mod traces;
mod worker;

use std::future::Future;
use std::sync::Arc;

pub use auth::{ApiKey, InvalidKey};
pub use drafts::{CorpusLimit, DraftStoreError};
pub use listen::Listener;
use lookahead_engine::Engine;
use lookahead_model::LanguageModel;
pub use options::{DraftOptions, ServedModel, ServerOptions};

use crate::state::State;

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or is none of this machine.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where to listen.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Grammars cannot be made for the model's tokenizer.
    #[error("structured outputs: {0}")]
    Grammar(#[from] lookahead_grammar::GrammarError),
    /// What drafts are made from cannot be used.
    #[error(transparent)]
    Drafts(#[from] DraftStoreError),
    /// The thread of the engine could not be started.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

/// Answers requests on `listener` with `engine` until `stop` is ready; then finishes the requests that it has, for as long as
/// the options allow, and saves what was learned.
///
/// # Errors
/// If it cannot start. What goes wrong later is told to the client, logged and counted.
pub async fn serve<M: LanguageModel + Send + 'static>(
    listener: Listener,
    engine: Engine<M>,
    model: ServedModel,
    options: ServerOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    M::Cache: Send,
{
    let state = State::new(engine, model, options)?;
    let router = api::router(Arc::clone(&state), listener.host());
    listen::run(listener, router, &state, stop).await;
    state.shut_down().await;
    Ok(())
}
