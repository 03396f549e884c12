//! What a finished answer teaches is learned by a thread of its tenant's own: neither a slow disk nor a snapshot makes the engine
//! wait, nor another tenant.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use lookahead_engine::{CostCurve, Draft, DraftLimits, Drafter, NamespaceDrafter};
use lookahead_model::{Candidate, TokenId};

/// The way to a thread that learns. The thread ends with the last of its clones.
#[derive(Clone)]
pub(super) struct Lessons(Sender<Lesson>);

enum Lesson {
    /// A request has ended; dropping its drafter is what teaches the namespace.
    End(Box<NamespaceDrafter>),
    /// All lessons before this one have been learned.
    Barrier(SyncSender<()>),
}

impl Lessons {
    /// Starts the thread. Where the system has none to give, lessons are learned where requests end.
    pub(super) fn start() -> Self {
        let (sender, lessons) = channel();
        if let Err(error) = thread::Builder::new().name("drafts".to_owned()).spawn(move || learn(&lessons)) {
            tracing::warn!("no thread to learn with, so the engine waits for what is learned: {error}");
        }
        Self(sender)
    }

    /// A drafter whose lessons are learned there.
    pub(super) fn defer(&self, drafter: NamespaceDrafter) -> Box<dyn Drafter> {
        Box::new(Deferred { drafter: Some(Box::new(drafter)), lessons: self.clone() })
    }

    /// Returns when all requests that have ended until now have taught their namespaces.
    pub(super) fn wait(&self) {
        let (done, wait) = sync_channel(1);
        if self.0.send(Lesson::Barrier(done)).is_ok() {
            let _ = wait.recv();
        }
    }
}

fn learn(lessons: &Receiver<Lesson>) {
    for lesson in lessons {
        match lesson {
            Lesson::End(drafter) => drop(drafter),
            Lesson::Barrier(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// A drafter that ends on the learner's thread.
struct Deferred {
    drafter: Option<Box<NamespaceDrafter>>,
    lessons: Lessons,
}

impl Deferred {
    fn inner(&mut self) -> &mut NamespaceDrafter {
        self.drafter.as_mut().expect("taken when it is dropped")
    }
}

impl Drafter for Deferred {
    fn begin(&mut self, prompt: &[TokenId]) {
        self.inner().begin(prompt);
    }

    fn draft(&mut self, context: &[TokenId], limits: DraftLimits) -> Draft {
        self.inner().draft(context, limits)
    }

    fn cost(&self) -> Option<&CostCurve> {
        self.drafter.as_ref().and_then(|drafter| drafter.cost())
    }

    fn runners_up(&self) -> usize {
        self.drafter.as_ref().map_or(0, |drafter| drafter.runners_up())
    }

    fn observe(&mut self, context: &[TokenId], likeliest: &[Candidate]) {
        self.inner().observe(context, likeliest);
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        self.inner().accept(tokens);
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(drafter) = self.drafter.take() {
            // Without the learner's thread it is dropped here.
            let _ = self.lessons.0.send(Lesson::End(drafter));
        }
    }
}
