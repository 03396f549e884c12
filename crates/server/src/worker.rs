//! The thread that owns the engine: jobs in, events out.
//!
//! Events go through channels without a bound, which a job's `max_tokens` bounds all the same; so a client that does not
//! read makes nobody wait. A client that is gone is noticed by its closed channel, or by its cancel flag.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use lookahead_engine::{
    AnswerText, DraftOrigin, EngineError, FinishReason, GeneratedToken, GenerationStats, RequestId,
    Scheduler, Submission, TokenLogprobs,
};
use lookahead_model::{LanguageModel, TokenId};
use tokio::sync::mpsc::UnboundedSender;

use crate::admission::Ticket;
use crate::metrics::Metrics;
use crate::traces::{AnswerTimes, RequestTrace};

/// One answer to make.
pub(crate) struct Job {
    pub(crate) submission: Submission,
    /// Turns its tokens into text.
    pub(crate) text: AnswerText,
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
    End(Result<Box<Ending>, EngineError>),
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
    pub(crate) finish_reason: FinishReason,
    pub(crate) stats: GenerationStats,
}

/// The engine's thread, as handlers see it.
pub(crate) struct Worker {
    jobs: Mutex<Option<Sender<Vec<Job>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    load: Arc<Load>,
}

/// How busy the engine is.
#[derive(Default)]
pub(crate) struct Load {
    /// Jobs that wait.
    pub(crate) waiting: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) kv_used_tokens: AtomicUsize,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start<M>(scheduler: Scheduler<M>, metrics: Arc<Metrics>) -> std::io::Result<Self>
    where
        M: LanguageModel + Send + 'static,
        M::Cache: Send,
    {
        let (jobs, inbox) = channel();
        let load = Arc::new(Load::default());
        let desk = Desk { scheduler, inbox, active: HashMap::new(), load: Arc::clone(&load), metrics };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(move || desk.run())?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), load })
    }

    /// Hands over the jobs of a request, which were admitted.
    pub(crate) fn submit(&self, jobs: Vec<Job>) {
        self.load.waiting.fetch_add(jobs.len(), Ordering::Relaxed);
        let sender = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a thread the jobs are dropped, and their channels with them: whoever waits for them learns of it.
        if let Some(sender) = sender.as_ref() {
            let _ = sender.send(jobs);
        }
    }

    /// How busy it is.
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Whether it can still answer.
    pub(crate) fn is_alive(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the thread when it has done what it has.
    pub(crate) fn stop(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the engine's thread has panicked");
        }
    }
}

/// The thread's side.
struct Desk<M: LanguageModel> {
    scheduler: Scheduler<M>,
    inbox: Receiver<Vec<Job>>,
    active: HashMap<RequestId, Active>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
}

/// A job in the scheduler's hands.
struct Active {
    text: AnswerText,
    choice: usize,
    events: UnboundedSender<(usize, Event)>,
    cancel: Arc<AtomicBool>,
    received: Received,
    ticket: JobTicket,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    tokens: usize,
    step: Step,
    /// Drafted tokens that were told.
    drafted: u64,
}

impl<M: LanguageModel> Desk<M> {
    fn run(mut self) {
        loop {
            if self.scheduler.is_idle() {
                match self.inbox.recv() {
                    Ok(jobs) => self.take(jobs),
                    Err(_) => return,
                }
            }
            while let Ok(jobs) = self.inbox.try_recv() {
                self.take(jobs);
            }
            self.step();
        }
    }

    fn take(&mut self, jobs: Vec<Job>) {
        for Job { mut submission, text, choice, events, received, ticket } in jobs {
            let cancel = Arc::clone(submission.request.cancel.get_or_insert_default());
            let active = Active {
                text,
                choice,
                events,
                cancel,
                received,
                ticket,
                admitted: None,
                first_token: None,
                tokens: 0,
                step: Step::default(),
                drafted: 0,
            };
            match self.scheduler.submit(submission) {
                Ok(id) => drop(self.active.insert(id, active)),
                Err(full) => tracing::error!("the scheduler's queue has a bound: {full}"),
            }
        }
    }

    fn step(&mut self) {
        let (scheduler, active) = (&mut self.scheduler, &mut self.active);
        let (mut produced, began) = (0, Instant::now());
        let report = scheduler.step(|id, token| {
            produced += 1;
            active
                .get_mut(&id)
                .map_or(ControlFlow::Break(FinishReason::Cancelled), |active| active.push(token))
        });
        for id in &report.admitted {
            if let Some(active) = self.active.get_mut(id) {
                active.admitted = Some(began);
                active.ticket.prompt = None;
                self.load.waiting.fetch_sub(1, Ordering::Relaxed);
                self.metrics.queue_seconds.observe((began - active.received.at).as_secs_f64());
            }
        }
        for (&id, active) in &mut self.active {
            if let Some(stats) = self.scheduler.stats(id) {
                active.tell_step(stats, &self.metrics);
            }
        }
        for (id, generation) in report.finished {
            let Some(mut active) = self.active.remove(&id) else { continue };
            if active.admitted.is_none() {
                self.load.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            let ending = generation.map(|generation| {
                active.tell_step(&generation.stats, &self.metrics);
                self.metrics.finished(&generation.stats);
                Box::new(active.end(generation.finish_reason, generation.stats, &self.metrics))
            });
            let _ = active.events.send((active.choice, Event::End(ending)));
        }
        self.metrics.pass(&report.pass);
        self.metrics.generated_tokens.inc_by(produced);
        self.metrics.preemptions.inc_by(report.preempted as u64);
        let running = self.scheduler.running();
        let kv_used_tokens = self.scheduler.cache_memory().used_tokens;
        self.load.running.store(running, Ordering::Relaxed);
        self.load.kv_used_tokens.store(kv_used_tokens, Ordering::Relaxed);
    }
}

impl Active {
    fn push(&mut self, token: GeneratedToken) -> ControlFlow<FinishReason> {
        let check = self.text.push(token.id);
        let GeneratedToken { id, origin, logprobs, .. } = token;
        self.step.tokens.push(AnswerToken { id, text: check.text, origin, logprobs });
        if check.stopped { ControlFlow::Break(FinishReason::Stop) } else { ControlFlow::Continue(()) }
    }

    /// Sends what the last pass produced.
    fn tell_step(&mut self, stats: &GenerationStats, metrics: &Metrics) {
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
        let step = std::mem::take(&mut self.step);
        if self.events.send((self.choice, Event::Step(step))).is_err() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn end(&mut self, finish_reason: FinishReason, stats: GenerationStats, metrics: &Metrics) -> Ending {
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
        Ending { rest: self.text.finish(), finish_reason, stats }
    }
}
