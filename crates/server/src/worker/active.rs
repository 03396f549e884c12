//! An answer in the scheduler's hands.

use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lookahead_engine::{AnswerText, FinishReason, GeneratedToken, Generation, GenerationStats, Submission};
use lookahead_model::TokenId;
use tokio::sync::mpsc::UnboundedSender;

use super::job::{AnswerToken, Ending, Event, Failure, Job, JobTicket, Received, Step};
use super::load::QueuePlace;
use crate::metrics::Metrics;
use crate::traces::AnswerTimes;

/// A job in the scheduler's hands.
pub(super) struct Active {
    text: AnswerText,
    /// Tokens of the prompt that are still to come.
    dictated: usize,
    ends: Vec<TokenId>,
    choice: usize,
    events: UnboundedSender<(usize, Event)>,
    cancel: Arc<AtomicBool>,
    received: Received,
    ticket: JobTicket,
    /// Until it is admitted.
    place: Option<QueuePlace>,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    tokens: usize,
    step: Step,
    /// Drafted tokens that were told.
    drafted: u64,
}

impl Active {
    /// The two halves of a job: what the scheduler gets, and what stays here.
    pub(super) fn new(job: Job, place: QueuePlace) -> (Submission, Self) {
        let Job { mut submission, text, dictated, ends, choice, events, received, ticket } = job;
        let active = Self {
            text,
            dictated,
            ends,
            choice,
            events,
            cancel: Arc::clone(submission.request.cancel.get_or_insert_default()),
            received,
            ticket,
            place: Some(place),
            admitted: None,
            first_token: None,
            tokens: 0,
            step: Step::default(),
            drafted: 0,
        };
        (submission, active)
    }

    /// Notes that it has got into the batch.
    pub(super) fn admit(&mut self, at: Instant, metrics: &Metrics) {
        self.admitted = Some(at);
        self.place = None;
        self.ticket.begin();
        metrics.queue_seconds.observe(at.saturating_duration_since(self.received.at).as_secs_f64());
    }

    /// Takes a token of the current step.
    pub(super) fn push(&mut self, token: GeneratedToken) -> ControlFlow<FinishReason> {
        let GeneratedToken { id, origin, logprobs, .. } = token;
        if let Some(left) = self.dictated.checked_sub(1) {
            self.dictated = left;
            self.step.tokens.push(AnswerToken { id, text: String::new(), origin, logprobs });
            return ControlFlow::Continue(());
        }
        let check = self.text.push(id);
        self.step.tokens.push(AnswerToken { id, text: check.text, origin, logprobs });
        let is_end = check.stopped || self.ends.contains(&id);
        if is_end { ControlFlow::Break(FinishReason::Stop) } else { ControlFlow::Continue(()) }
    }

    /// Sends what the last pass produced.
    pub(super) fn tell_step(&mut self, stats: &GenerationStats, metrics: &Metrics) {
        if self.step.tokens.is_empty() {
            return;
        }
        if self.first_token.is_none() {
            self.first_token = Some(Instant::now());
            metrics.first_token_seconds.observe(self.received.at.elapsed().as_secs_f64());
        }
        self.tokens += self.step.tokens.len();
        let drafted = stats.draft_tokens();
        self.step.drafted = drafted - self.drafted;
        self.drafted = drafted;
        let step = mem::take(&mut self.step);
        if self.events.send((self.choice, Event::Step(step))).is_err() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Sends the end of an answer that was made, or given up by its client.
    pub(super) fn finish(mut self, generation: Generation, metrics: &Metrics) {
        let Generation { finish_reason, stats, .. } = generation;
        self.tell_step(&stats, metrics);
        metrics.finished(&stats);
        if finish_reason == FinishReason::Cancelled {
            metrics.cancelled.inc();
        }
        if let Some(first) = self.first_token.filter(|_| self.tokens > 1) {
            metrics.token_seconds.observe(first.elapsed().as_secs_f64() / (self.tokens - 1) as f64);
        }
        self.received.trace.answered(&AnswerTimes {
            received: self.received.at,
            admitted: self.admitted,
            first_token: self.first_token,
            finish_reason,
            stats: &stats,
        });
        let rest = self.text.finish();
        let stop_string = self.text.stop_string().map(str::to_owned);
        let ending = Ending { rest, stop_string, finish_reason, stats };
        let _ = self.events.send((self.choice, Event::End(Ok(Box::new(ending)))));
    }

    /// Sends the end of an answer that is not made, or not to its end.
    pub(super) fn fail(self, failure: Failure) {
        let _ = self.events.send((self.choice, Event::End(Err(failure))));
    }
}
