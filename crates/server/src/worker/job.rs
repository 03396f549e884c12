//! What handlers and the engine's thread tell each other: jobs one way, events the other.

use std::sync::Arc;
use std::time::Instant;

use lookahead_engine::{
    AnswerText, DraftOrigin, EngineError, FinishReason, GenerationStats, Submission, TokenLogprobs,
};
use lookahead_model::TokenId;
use tokio::sync::mpsc::UnboundedSender;

use crate::admission::Ticket;
use crate::error::ApiError;
use crate::traces::RequestTrace;

/// One answer to make.
pub(crate) struct Job {
    pub(crate) submission: Submission,
    /// Turns its tokens into text.
    pub(crate) text: AnswerText,
    /// How many of its first tokens are the prompt's, which is dictated: they are no text of the answer.
    pub(crate) dictated: usize,
    /// Tokens that end the answer, where the engine does not look for them.
    pub(crate) ends: Vec<TokenId>,
    /// Which answer of its request it is.
    pub(crate) choice: usize,
    pub(crate) events: UnboundedSender<(usize, Event)>,
    pub(crate) received: Received,
    pub(crate) ticket: JobTicket,
}

/// What a job has in hand until it ends.
pub(crate) struct JobTicket {
    _answer: Ticket,
    /// What its prompt takes while it waits, with those of other answers to it.
    prompt: Option<Arc<Ticket>>,
}

impl JobTicket {
    /// Of one answer, to a prompt that takes what `prompt` counts.
    pub(crate) fn new(answer: Ticket, prompt: &Arc<Ticket>) -> Self {
        Self { _answer: answer, prompt: Some(Arc::clone(prompt)) }
    }

    /// Gives back what is held only while the job waits.
    pub(super) fn begin(&mut self) {
        self.prompt = None;
    }
}

/// The arrival of a request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) trace: RequestTrace,
}

/// What a job comes to.
pub(crate) enum Event {
    /// What one forward pass produced.
    Step(Step),
    /// The end; nothing comes after it.
    End(Result<Box<Ending>, Failure>),
}

/// The tokens of one forward pass.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) tokens: Vec<AnswerToken>,
    /// How many were drafted.
    pub(crate) drafted: u64,
}

/// A token of an answer.
pub(crate) struct AnswerToken {
    pub(crate) id: TokenId,
    /// The text that is certain with it; often empty, as no part of a character or of a stop string is shown.
    pub(crate) text: String,
    pub(crate) origin: Option<DraftOrigin>,
    pub(crate) logprobs: Option<TokenLogprobs>,
}

/// The end of an answer.
pub(crate) struct Ending {
    /// Text that was held back.
    pub(crate) rest: String,
    /// The stop string that has ended it.
    pub(crate) stop_string: Option<String>,
    pub(crate) finish_reason: FinishReason,
    pub(crate) stats: GenerationStats,
}

/// Why an answer was not made, or not to its end.
pub(crate) enum Failure {
    /// The engine has refused it.
    Engine(EngineError),
    /// The engine has panicked while it was being made.
    Panicked,
    /// The server is stopping.
    Stopping,
}

/// Why jobs were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The server is stopping.
    Stopping,
    /// The engine's thread has ended by itself.
    EngineGone,
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Engine(error) => error.into(),
            Failure::Panicked => Self::internal(
                "the engine made a mistake while it made this answer, or another beside it; the server's log says more"
                    .to_owned(),
            ),
            Failure::Stopping => Self::stopping(),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stopping => Self::stopping(),
            Refused::EngineGone => {
                Self::unavailable("the engine has stopped; the server must be started again")
            }
        }
    }
}
