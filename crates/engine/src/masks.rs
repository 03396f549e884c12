//! Masks of constraints that are computed beside the forward pass.
//!
//! A constraint goes to a thread together with the completion that it will be asked about next, and comes back when its
//! mask is needed. What is quick and no thread has begun by then is taken back, so that it does not wait behind others.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lookahead_model::TokenId;

use crate::Constraint;

/// Time of one wait where there is no end; then it waits again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A constraint and the completion that it is asked about next.
pub(crate) struct Question {
    pub(crate) constraint: Box<dyn Constraint>,
    pub(crate) completion: Vec<TokenId>,
    /// The time that the answer took, once a thread has found it.
    pub(crate) took: Option<Duration>,
}

impl Question {
    /// Has the constraint compute what it remembers for the next who asks the same.
    fn answer(&mut self) {
        let began = Instant::now();
        // A failure is remembered as well. A panic happens again to the one who asks.
        let _ = catch_unwind(AssertUnwindSafe(|| self.constraint.allowed(&self.completion).is_ok()));
        self.took = Some(began.elapsed());
    }
}

/// A question in the hands of [`MaskThreads`].
pub(crate) struct Begun(Arc<Slot>);

struct Slot {
    stage: Mutex<Stage>,
    is_answered: Condvar,
}

enum Stage {
    Waiting(Question),
    Running,
    Answered(Question),
    Taken,
}

impl Slot {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut stage = self.stage();
        match mem::replace(&mut *stage, Stage::Running) {
            Stage::Waiting(mut question) => {
                drop(stage);
                question.answer();
                *self.stage() = Stage::Answered(question);
                self.is_answered.notify_one();
            }
            other => *stage = other,
        }
    }
}

impl Begun {
    /// Whether [`Self::take`] gives an answered question at once.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(*self.0.stage(), Stage::Answered(_))
    }

    /// Takes the question back: answered, or as it is if no thread has begun it and `unanswered` will do. Gives up at
    /// `until`, if it is given.
    pub(crate) fn take(self, unanswered: bool, until: Option<Instant>) -> Result<Question, Self> {
        let mut stage = self.0.stage();
        loop {
            match mem::replace(&mut *stage, Stage::Taken) {
                Stage::Answered(question) => return Ok(question),
                Stage::Waiting(question) if unanswered => return Ok(question),
                other => *stage = other,
            }
            let left = until.map_or(LONGEST_WAIT, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                drop(stage);
                return Err(self);
            }
            let waited = self.0.is_answered.wait_timeout(stage, left);
            stage = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Threads that compute masks: a quarter of the cores, as a forward pass runs on all of them. They start with the first
/// question.
#[derive(Default)]
pub(crate) struct MaskThreads {
    questions: Option<Sender<Arc<Slot>>>,
    threads: Vec<JoinHandle<()>>,
}

impl MaskThreads {
    /// Hands a question to the threads, or back if none could be started.
    pub(crate) fn begin(&mut self, question: Question) -> Result<Begun, Question> {
        let questions = self.questions.get_or_insert_with(|| start(&mut self.threads));
        if self.threads.is_empty() {
            return Err(question);
        }
        let slot =
            Arc::new(Slot { stage: Mutex::new(Stage::Waiting(question)), is_answered: Condvar::new() });
        let _ = questions.send(Arc::clone(&slot)); // the threads end after the sender
        Ok(Begun(slot))
    }
}

impl Drop for MaskThreads {
    fn drop(&mut self) {
        self.questions = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // no thread panics
        }
    }
}

fn start(threads: &mut Vec<JoinHandle<()>>) -> Sender<Arc<Slot>> {
    let (questions, inbox) = channel();
    let inbox = Arc::new(Mutex::new(inbox));
    let cores = thread::available_parallelism().map_or(1, Into::into);
    for _ in 0..(cores / 4).max(1) {
        let inbox = Arc::clone(&inbox);
        match thread::Builder::new().name("masks".to_owned()).spawn(move || work(&inbox)) {
            Ok(thread) => threads.push(thread),
            Err(error) => tracing::warn!("masks are computed between passes: no thread for them: {error}"),
        }
    }
    questions
}

fn work(inbox: &Mutex<Receiver<Arc<Slot>>>) {
    loop {
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            // The sequence of a slot that nobody else holds has ended.
            Ok(slot) if Arc::strong_count(&slot) > 1 => slot.run(),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{ConstraintError, Scout};

    /// Waits for its turn, and counts how often it was asked.
    struct Slow {
        gate: Arc<Mutex<()>>,
        asked: Arc<AtomicUsize>,
    }

    impl Constraint for Slow {
        fn allowed(&mut self, _: &[TokenId]) -> Result<&[u32], ConstraintError> {
            drop(self.gate.lock().unwrap());
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(&[1])
        }

        fn scout(&mut self) -> Box<dyn Scout> {
            unimplemented!("nothing is drafted here")
        }
    }

    #[test]
    fn a_question_that_no_thread_has_begun_is_taken_back_unanswered() {
        let (gate, asked) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let question = || Question {
            constraint: Box::new(Slow { gate: Arc::clone(&gate), asked: Arc::clone(&asked) }),
            completion: vec![1, 2],
            took: None,
        };
        let mut threads = MaskThreads::default();
        let closed = gate.lock().unwrap();
        // As many as there are threads are begun and wait for the gate; those behind them are not.
        let begun: Vec<_> = (0..100).filter_map(|_| threads.begin(question()).ok()).collect();
        let (first, last): (Vec<_>, Vec<_>) =
            begun.into_iter().enumerate().partition(|&(at, _)| at < threads.threads.len());
        assert!(
            last.into_iter()
                .all(|(_, begun)| begun.take(true, None).is_ok_and(|question| question.took.is_none()))
        );
        // Those that were begun are waited for as long as is said, and stay begun.
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        let begun = first.into_iter().filter_map(|(_, begun)| begun.take(true, soon()).err());
        let begun: Vec<_> = begun.collect();
        drop(closed);
        for begun in begun {
            assert_eq!(begun.take(false, None).map(|question| question.completion).ok(), Some(vec![1, 2]));
        }
        assert!(asked.load(Ordering::Relaxed) <= threads.threads.len());
    }

    #[test]
    fn what_nobody_waits_for_is_not_computed() {
        let (gate, asked) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let constraint = Box::new(Slow { gate, asked: Arc::clone(&asked) });
        let (questions, inbox) = channel();
        let stage = Mutex::new(Stage::Waiting(Question { constraint, completion: Vec::new(), took: None }));
        questions.send(Arc::new(Slot { stage, is_answered: Condvar::new() })).unwrap();
        drop(questions);
        work(&Mutex::new(inbox));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}
