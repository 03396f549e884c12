//! Why the server could not start or go on.

use crate::drafts::error::DraftStoreError;

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
    /// There is nothing to serve.
    #[error("no model to serve")]
    NoModel,
    /// The thread of the engine could not be started.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}
