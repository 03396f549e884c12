//! What comes of a request: answers that grow, as events without a wire format.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lookahead_engine::FinishReason;
use lookahead_model::{TokenId, ToolCallParser, ToolDelta, ToolFormat};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::usage::Usage;
use crate::error::ApiError;
use crate::worker::{AnswerToken, Ending, Event, Failure, Phase, Step};

/// A piece of an answer.
#[derive(Debug)]
pub(crate) enum Delta {
    /// What the model thinks before it answers, never empty.
    Reasoning(String),
    /// Text for the user, never empty.
    Text(String),
    /// A call of a function begins.
    Call { name: String },
    /// More of the JSON text of the object that the last call is given.
    Arguments(String),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// It was complete.
    Stop,
    /// It has as many tokens as it may.
    Length,
    /// It calls functions.
    ToolCalls,
}

/// What comes next. Answers are numbered by prompt, then by choice.
pub(crate) enum AnswerEvent {
    /// What one forward pass added to an answer. Tokens may come before their text, as no part of a character, of a stop
    /// string or of a call is shown.
    Step {
        answer: usize,
        deltas: Vec<Delta>,
        tokens: Vec<AnswerToken>,
        /// Tokens that were drafted for the pass.
        drafted: u64,
    },
    /// The end of an answer, and what was held back until then.
    End { answer: usize, deltas: Vec<Delta>, reason: EndReason },
    /// The end of all.
    Done(Usage),
}

/// What was asked, as far as answers need it.
pub(super) struct Asked {
    pub(super) prompts: Vec<Arc<[TokenId]>>,
    /// Answers to each prompt.
    pub(super) choices: usize,
    pub(super) prediction_tokens: usize,
    /// Whether answers begin with their prompts, all but the first token of each.
    pub(super) prompt_logprobs: bool,
    /// How the model calls functions, where it may.
    pub(super) tool_format: Option<ToolFormat>,
}

/// The answers to a request that are being made. Dropping it stops them.
pub(crate) struct Answers {
    events: UnboundedReceiver<(usize, Event)>,
    phase: watch::Receiver<Phase>,
    cancel: Arc<AtomicBool>,
    received: Instant,
    timeout: Duration,
    asked: Asked,
    /// By their numbers.
    growing: Vec<Answer>,
    /// Answers that have not ended.
    left: usize,
    usage: Usage,
}

/// What is known of one answer.
struct Answer {
    /// Finds calls of functions, where there may be any.
    parser: Option<ToolCallParser>,
    has_calls: bool,
}

impl Answers {
    pub(super) fn new(
        events: UnboundedReceiver<(usize, Event)>,
        phase: watch::Receiver<Phase>,
        cancel: Arc<AtomicBool>,
        asked: Asked,
        received: Instant,
        timeout: Duration,
    ) -> Self {
        let answer = |_| Answer { parser: asked.tool_format.map(ToolCallParser::new), has_calls: false };
        let growing: Vec<Answer> = (0..asked.prompts.len() * asked.choices).map(answer).collect();
        let (left, usage) = (growing.len(), Usage::default());
        Self { events, phase, cancel, received, timeout, asked, growing, left, usage }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.growing.len()
    }

    /// When the request came.
    pub(crate) fn received(&self) -> Instant {
        self.received
    }

    /// The prompts that are answered.
    pub(crate) fn prompts(&self) -> &[Arc<[TokenId]>] {
        &self.asked.prompts
    }

    /// What comes next, of any answer. Nothing comes after the end of all, nor after an error.
    ///
    /// # Errors
    /// If the engine failed, the server stops, or the time of the request is over.
    pub(crate) async fn next(&mut self) -> Result<AnswerEvent, ApiError> {
        if self.left == 0 {
            return Ok(AnswerEvent::Done(std::mem::take(&mut self.usage)));
        }
        let deadline = self.received + self.timeout;
        let next = async {
            tokio::select! {
                biased;
                event = self.events.recv() => event,
                _ = self.phase.wait_for(|phase| *phase == Phase::Ended) => {
                    Some((0, Event::End(Err(Failure::Stopping))))
                }
            }
        };
        match tokio::time::timeout_at(deadline.into(), next).await {
            Ok(Some((answer, Event::Step(step)))) => Ok(self.step(answer, step)),
            Ok(Some((_, Event::End(Ok(ending))))) if ending.finish_reason == FinishReason::Cancelled => {
                Err(ApiError::unavailable("the answer was given up"))
            }
            Ok(Some((answer, Event::End(Ok(ending))))) => Ok(self.end(answer, &ending)),
            Ok(Some((_, Event::End(Err(error))))) => Err(error.into()),
            Ok(None) => Err(ApiError::unavailable("the engine has stopped")),
            Err(_) => Err(ApiError::timeout(self.timeout.as_secs())),
        }
    }

    fn step(&mut self, answer: usize, Step { tokens, drafted }: Step) -> AnswerEvent {
        let text = tokens.iter().map(|token| token.text.as_str()).collect();
        let deltas = self.growing[answer].push(text);
        AnswerEvent::Step { answer, deltas, tokens, drafted }
    }

    fn end(&mut self, index: usize, ending: &Ending) -> AnswerEvent {
        self.left -= 1;
        let is_first = index.is_multiple_of(self.asked.choices);
        let prompt = &self.asked.prompts[index / self.asked.choices];
        let dictated = if self.asked.prompt_logprobs { prompt.len() - 1 } else { 0 };
        self.usage.add(&ending.stats, is_first, self.asked.prediction_tokens, dictated);
        let answer = &mut self.growing[index];
        let mut deltas = answer.push(ending.rest.clone());
        deltas.extend(answer.finish());
        let reason = match ending.finish_reason {
            FinishReason::Length => EndReason::Length,
            _ if answer.has_calls => EndReason::ToolCalls,
            _ => EndReason::Stop,
        };
        AnswerEvent::End { answer: index, deltas, reason }
    }
}

impl Answer {
    /// The pieces that a text makes.
    fn push(&mut self, text: String) -> Vec<Delta> {
        let found = match &mut self.parser {
            Some(parser) => parser.push(&text),
            None if text.is_empty() => return Vec::new(),
            None => return vec![Delta::Text(text)],
        };
        self.take(found)
    }

    /// What the parser has held back.
    fn finish(&mut self) -> Vec<Delta> {
        let found = self.parser.as_mut().map(ToolCallParser::finish).unwrap_or_default();
        self.take(found)
    }

    fn take(&mut self, found: Vec<ToolDelta>) -> Vec<Delta> {
        let mut deltas = Vec::with_capacity(found.len());
        for delta in found {
            match delta {
                ToolDelta::Content(text) => deltas.push(Delta::Text(text)),
                ToolDelta::Call { name, arguments } => {
                    self.has_calls = true;
                    deltas.extend([Delta::Call { name }, Delta::Arguments(arguments)]);
                }
            }
        }
        deltas
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}
