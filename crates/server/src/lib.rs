//! An OpenAI-compatible server around the lookahead engine.
//!
//! Data flows one way. `admission` is asked whether a request may be taken in hand; a handler in `api` reads it from its wire
//! format; `generation` makes jobs of it, on one of the places of `preparations`; the `worker`, a thread that owns the engine,
//! batches the jobs of all requests; what it produces comes back as events, which the handler writes in the wire format. Nothing
//! that a client does or does not do makes the engine wait.
//!
//! [`serve`] runs until it is told to stop: then it takes no more requests, finishes those that it has begun, within the time
//! that it is given for that, and saves what was learned.

mod admission;
mod api;
mod auth;
mod drafts;
mod error;
mod excerpt;
mod generation;
mod ids;
mod listen;
mod metrics;
mod options;
mod pages;
mod preparations;
mod serve_error;
mod served;
mod state;
mod stored_responses;
mod traces;
mod worker;

use std::future::Future;
use std::sync::Arc;

pub use auth::{ApiKey, InvalidKey};
pub use drafts::error::{CorpusLimit, DraftStoreError};
pub use listen::Listener;
use lookahead_engine::Engine;
use lookahead_model::LanguageModel;
pub use options::{DraftOptions, ReasoningMode, ServedModel, ServerOptions};
pub use serve_error::ServeError;

use crate::state::State;

/// Answers requests on `listener` with `models`, each on its own engine, until `stop` is ready. A request that names no model is
/// answered by the first. Then it finishes the answers that it has begun, for as
/// long as the options allow or until `hurry` is ready, and refuses all others; gives up what is left; and saves what was
/// learned. Tasks of the runtime may be left, which nobody has to wait for.
///
/// # Errors
/// If it cannot start. What goes wrong later is told to the client, logged and counted.
pub async fn serve<M: LanguageModel + Send + 'static>(
    listener: Listener,
    models: Vec<(Engine<M>, ServedModel)>,
    options: ServerOptions,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    M::Cache: Send,
{
    let state = State::new(models, options)?;
    let router = api::router(Arc::clone(&state), listener.host());
    listen::run(listener, router, &state, stop, hurry).await;
    state.shut_down().await;
    Ok(())
}
