//! Why a generation could not start or go on.

use lookahead_model::ForwardError;

use crate::{ConstraintError, SamplingError};

/// Why a generation could not start or go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// There is nothing to continue.
    #[error("the prompt is empty: a generation needs at least one token to continue")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt_tokens} tokens, but the model's context holds {context_length} and the answer needs \
         at least one of them"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens that the model's context holds.
        context_length: usize,
    },
    /// A sampling parameter is out of range.
    #[error("sampling: {0}")]
    Sampling(#[from] SamplingError),
    /// The constraint cannot tell what may follow: mostly a limit of a grammar, always at the same token.
    #[error("the answer's grammar: {0}")]
    Constraint(#[from] ConstraintError),
    /// The forward pass was refused.
    #[error("forward pass: {0}")]
    Forward(#[from] ForwardError),
}
