//! The shared cells of this crate; under `--cfg loom` (`.ci/loom`), those of the model checker, which runs every order in
//! which threads may see each other's writes.
//!
//! `std::sync::OnceLock`, in which the chunks of a list appear, stays as it is. The checker does not see that it orders
//! memory: what is read through it must be ordered by something else, or a test fails.

#[cfg(not(loom))]
pub(crate) use arc_swap::{ArcSwap, Guard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use model::{ArcSwap, Guard};

#[cfg(loom)]
mod model {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::{AtomicU32, Ordering};

    pub(crate) type Guard<T> = T;

    /// In place of `arc_swap::ArcSwap`: what it promises of memory (release where it is stored, acquire where it is loaded),
    /// and nothing more.
    pub(crate) struct ArcSwap<T> {
        current: AtomicU32,
        all: Mutex<Vec<Arc<T>>>,
    }

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self { current: AtomicU32::new(0), all: Mutex::new(vec![Arc::new(value)]) }
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            // Not under the lock: the checker may turn to another thread here.
            let current = self.current.load(Ordering::Acquire);
            Arc::clone(&self.all.lock().unwrap_or_else(PoisonError::into_inner)[current as usize])
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.load_full()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(value);
            let current = all.len() as u32 - 1;
            drop(all);
            self.current.store(current, Ordering::Release);
        }
    }

    impl<T: Default> Default for ArcSwap<T> {
        fn default() -> Self {
            Self::from_pointee(T::default())
        }
    }
}
