//! Where threads of the pool sleep until there is something for them.

use std::sync::PoisonError;

use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence, lock};

/// Threads that sleep until a condition holds. Waking them costs nothing but a fence where nobody sleeps.
pub(super) struct WaitQueue {
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    woken: Condvar,
}

impl WaitQueue {
    pub(super) fn new() -> Self {
        Self { sleepers: AtomicUsize::new(0), sleep: Mutex::new(()), woken: Condvar::new() }
    }

    /// Sleeps until `is_over`, which another thread makes true before it calls [`WaitQueue::wake`].
    ///
    /// Both sides write first and read then, with a fence in between: this one says that it sleeps and looks whether it is
    /// over; the other makes it so and looks for sleepers. One of the two therefore sees what the other wrote.
    pub(super) fn wait(&self, is_over: impl Fn() -> bool) {
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !is_over() {
            guard = self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes all sleepers.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            // A sleeper that was counted holds the lock until it really sleeps.
            drop(lock(&self.sleep));
            self.woken.notify_all();
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::SeqCst) > 0
    }
}
