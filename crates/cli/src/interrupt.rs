//! What Ctrl-C does at the moment.
//!
//! Contract: Ctrl-C (and SIGTERM, SIGHUP) runs the actions that are registered, latest first, until one of
//! them says that the program goes on; if none does, the program ends with exit code 130. So a download can
//! clean up, and a chat can stop its answer without stopping itself.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::progress;

/// The exit code of a program that Ctrl-C ended, by the shells' convention (128 + SIGINT).
pub(crate) const EXIT_CODE: u8 = 130;

/// What an action wants to happen after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next action runs; after the last one the program ends.
    End,
    /// The program goes on.
    GoOn,
}

type Action = Arc<dyn Fn() -> After + Send + Sync>;

static ACTIONS: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(0);
/// Held while the handler runs, for good where it ends the program.
static HANDLER: Mutex<()> = Mutex::new(());

/// Starts to listen for Ctrl-C. Called once, at the start.
pub(crate) fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        let _running = lock(&HANDLER);
        // Cloned out of the lock: an action may drop its own guard.
        let actions: Vec<Action> = lock(&ACTIONS).iter().rev().map(|(_, action)| action.clone()).collect();
        for action in actions {
            if action() == After::GoOn {
                return;
            }
        }
        // On a line of its own, below a progress bar or half a sentence.
        progress::note("\nInterrupted");
        process::exit(EXIT_CODE.into());
    })
}

/// Runs `action` on Ctrl-C for as long as the returned guard lives. It runs on a thread of its own.
pub(crate) fn on_interrupt(action: impl Fn() -> After + Send + Sync + 'static) -> Guard {
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    lock(&ACTIONS).push((id, Arc::new(action)));
    Guard { id }
}

/// A flag that the first Ctrl-C raises instead of ending the program; a second one ends it.
pub(crate) fn raise_on_interrupt() -> (Arc<AtomicBool>, Guard) {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let raise = move || if raised.swap(true, Ordering::Relaxed) { After::End } else { After::GoOn };
    (flag, on_interrupt(raise))
}

/// Returns when no handler runs; never, where the handler is ending the program.
pub(crate) fn wait_for_handler() {
    drop(lock(&HANDLER));
}

/// Keeps an action registered.
#[must_use]
pub(crate) struct Guard {
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&ACTIONS).retain(|(id, _)| *id != self.id);
    }
}

/// Locks `mutex`; what these locks guard is valid after a panic, too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
