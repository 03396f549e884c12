//! The shared cells of the pool of threads; under `--cfg loom` (`.ci/loom`), those of the model checker, which runs every
//! order in which threads may see each other's writes.

use std::sync::PoisonError;
use std::time::Duration;

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::thread;

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread;

/// `std::cell::UnsafeCell` with the methods of the model checker's, which sees when an access begins and ends.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Locks, also where a thread panicked with the lock: no lock of this crate guards a state that a panic can leave half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins until `is_over`; `false` if that takes longer than `time`.
#[cfg(not(loom))]
pub(crate) fn spin(time: Duration, is_over: impl Fn() -> bool) -> bool {
    /// Looks between two readings of the clock, which cost as much as many looks.
    const LOOKS: usize = 128;
    let start = std::time::Instant::now();
    loop {
        for _ in 0..LOOKS {
            if is_over() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > time {
            return false;
        }
    }
}

/// The model checker knows no time: one look stands for all, as every order of events is tried anyway.
#[cfg(loom)]
pub(crate) fn spin(_: Duration, is_over: impl Fn() -> bool) -> bool {
    is_over()
}
