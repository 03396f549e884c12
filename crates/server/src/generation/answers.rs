//! What comes of a request: answers that grow, as events without a wire format.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lookahead_engine::FinishReason;
use lookahead_grammar::CallCheck;
use lookahead_model::{AnswerParser, ReasoningFormat, ReasoningParser, TokenId, ToolCallParser, ToolDelta};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::usage::Usage;
use crate::admission::Ticket;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::state::blocking;
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
    /// The end of an answer, what was held back until then, and the stop string that has ended it, if one has.
    End { answer: usize, deltas: Vec<Delta>, reason: EndReason, stop_string: Option<String> },
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
    /// Finds calls of functions, where there may be any; each answer has a copy.
    pub(super) parser: Option<ToolCallParser>,
    /// How the model marks what it thinks, and whether a prompt has ended inside that; where that is told from the answers.
    pub(super) reasoning: Option<(ReasoningFormat, bool)>,
    /// Checks calls that are complete.
    pub(super) check: CallCheck,
    pub(super) metrics: Arc<Metrics>,
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
    /// What calls do not satisfy.
    unmet: Vec<String>,
    /// What is kept of the request.
    _kept: Ticket,
}

/// What is known of one answer.
struct Answer {
    /// Tokens of the prompt that come before its own.
    dictated: usize,
    parser: AnswerParser,
    /// Whether only channels tell what the model thinks.
    has_channels: bool,
    reasoning_tokens: usize,
    has_calls: bool,
    /// Names and arguments of calls that are checked.
    calls: Vec<(String, String)>,
}

impl Answers {
    pub(super) fn new(
        events: UnboundedReceiver<(usize, Event)>,
        phase: watch::Receiver<Phase>,
        cancel: Arc<AtomicBool>,
        asked: Asked,
        received: Instant,
        timeout: Duration,
        kept: Ticket,
    ) -> Self {
        let answer = |index: usize| Answer {
            dictated: if asked.prompt_logprobs { asked.prompts[index / asked.choices].len() - 1 } else { 0 },
            parser: AnswerParser::new(
                asked.reasoning.map(|(format, is_open)| ReasoningParser::new(format, is_open)),
                asked.parser.clone(),
            ),
            has_channels: asked.reasoning.is_none(),
            reasoning_tokens: 0,
            has_calls: false,
            calls: Vec::new(),
        };
        let growing: Vec<Answer> = (0..asked.prompts.len() * asked.choices).map(answer).collect();
        let (left, usage) = (growing.len(), Usage::default());
        let unmet = Vec::new();
        Self { events, phase, cancel, received, timeout, asked, growing, left, usage, unmet, _kept: kept }
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

    /// Tokens of the prompt that come before those of an answer.
    pub(crate) fn dictated(&self, answer: usize) -> usize {
        self.growing[answer].dictated
    }

    /// What the calls so far do not satisfy of their functions' schemas, as far as that can only be checked when they are
    /// complete.
    pub(crate) fn unmet(&self) -> &[String] {
        &self.unmet
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
            Ok(Some((answer, Event::End(Ok(ending))))) => Ok(self.end(answer, &ending).await),
            Ok(Some((_, Event::End(Err(error))))) => Err(error.into()),
            Ok(None) => Err(ApiError::unavailable("the engine has stopped")),
            Err(_) => Err(ApiError::timeout(self.timeout.as_secs())),
        }
    }

    fn step(&mut self, answer: usize, Step { tokens, drafted }: Step) -> AnswerEvent {
        let growing = &mut self.growing[answer];
        let mut deltas = Vec::new();
        for token in &tokens {
            if let Some(left) = growing.dictated.checked_sub(1) {
                growing.dictated = left;
                continue;
            }
            let was_thinking = growing.parser.is_thinking();
            let found = growing.parser.push(&token.text);
            growing.take(found, &mut deltas);
            let is_thought = was_thinking || growing.parser.is_thinking() || growing.tells_thoughts(&deltas);
            growing.reasoning_tokens += usize::from(is_thought);
        }
        growing.keep_calls(&deltas, &self.asked.check);
        AnswerEvent::Step { answer, deltas, tokens, drafted }
    }

    async fn end(&mut self, index: usize, ending: &Ending) -> AnswerEvent {
        self.left -= 1;
        let is_first = index.is_multiple_of(self.asked.choices);
        let prompt = &self.asked.prompts[index / self.asked.choices];
        let dictated = if self.asked.prompt_logprobs { prompt.len() - 1 } else { 0 };
        self.usage.add(&ending.stats, is_first, self.asked.prediction_tokens, dictated);
        let answer = &mut self.growing[index];
        let mut deltas = Vec::new();
        for found in [answer.parser.push(&ending.rest), answer.parser.finish()] {
            answer.take(found, &mut deltas);
        }
        answer.keep_calls(&deltas, &self.asked.check);
        let calls = std::mem::take(&mut answer.calls);
        self.usage.reasoning_tokens += answer.reasoning_tokens;
        let reason = match ending.finish_reason {
            FinishReason::Length => EndReason::Length,
            _ if answer.has_calls => EndReason::ToolCalls,
            _ => EndReason::Stop,
        };
        self.check(calls).await;
        AnswerEvent::End { answer: index, deltas, reason, stop_string: ending.stop_string.clone() }
    }

    /// Checks the calls of an answer, which may take some time. What their schemas and arguments say is the client's text, which is
    /// not for the log.
    async fn check(&mut self, calls: Vec<(String, String)>) {
        if calls.is_empty() {
            return;
        }
        let check = self.asked.check.clone();
        let checked = blocking(move || {
            let calls = calls.iter().map(|(name, arguments)| (name.as_str(), arguments.as_str()));
            Ok(check.findings(calls))
        });
        let findings = checked.await.unwrap_or_else(|error| {
            tracing::error!("a call is not checked: {}", error.message());
            Vec::new()
        });
        for finding in findings {
            let keyword = finding.assertion.as_ref().map_or("", |(keyword, _)| keyword);
            let is_certain = finding.is_certain;
            tracing::info!(
                keyword,
                is_certain,
                "a call does not satisfy its function's schema, as far as is known"
            );
            tracing::debug!(%finding, "checked a call");
            self.asked.metrics.unmet_assertions.inc();
            self.unmet.push(finding.to_string());
        }
    }
}

impl Answer {
    /// Keeps what is to be checked.
    fn keep_calls(&mut self, deltas: &[Delta], check: &CallCheck) {
        for delta in deltas.iter().filter(|_| !check.is_empty()) {
            match (delta, self.calls.last_mut()) {
                (Delta::Call { name }, _) => self.calls.push((name.clone(), String::new())),
                (Delta::Arguments(text), Some((_, arguments))) => arguments.push_str(text),
                _ => {}
            }
        }
    }

    /// Whether the last of these pieces is what the model thinks, where only the parser of calls knows: it stands in a channel.
    fn tells_thoughts(&self, deltas: &[Delta]) -> bool {
        self.has_channels && matches!(deltas.last(), Some(Delta::Reasoning(_)))
    }

    /// Takes what was found.
    fn take(&mut self, found: Vec<ToolDelta>, deltas: &mut Vec<Delta>) {
        for delta in found {
            match delta {
                ToolDelta::Content(text) => add(deltas, Delta::Text(text)),
                ToolDelta::Reasoning(text) => add(deltas, Delta::Reasoning(text)),
                ToolDelta::Call { name } => {
                    self.has_calls = true;
                    deltas.push(Delta::Call { name });
                }
                ToolDelta::Arguments(text) => add(deltas, Delta::Arguments(text)),
            }
        }
    }
}

/// Adds a piece, to the last one if both are of a kind.
fn add(deltas: &mut Vec<Delta>, delta: Delta) {
    match (deltas.last_mut(), delta) {
        (Some(Delta::Reasoning(last)), Delta::Reasoning(text))
        | (Some(Delta::Text(last)), Delta::Text(text))
        | (Some(Delta::Arguments(last)), Delta::Arguments(text)) => last.push_str(&text),
        (_, delta) => deltas.push(delta),
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}
