//! How busy the engine is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How busy the engine is, for handlers and metrics.
#[derive(Default)]
pub(crate) struct Load {
    /// Jobs that wait.
    pub(crate) waiting: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) kv_used_tokens: AtomicUsize,
}

/// A job's place among those that wait. It is free again when this is dropped, whatever has become of the job.
pub(crate) struct QueuePlace(Arc<Load>);

impl Load {
    /// Places for `count` jobs.
    pub(crate) fn take_places(self: &Arc<Self>, count: usize) -> Vec<QueuePlace> {
        self.waiting.fetch_add(count, Ordering::Relaxed);
        (0..count).map(|_| QueuePlace(Arc::clone(self))).collect()
    }

    /// Notes what the engine does now.
    pub(crate) fn set(&self, running: usize, kv_used_tokens: usize) {
        self.running.store(running, Ordering::Relaxed);
        self.kv_used_tokens.store(kv_used_tokens, Ordering::Relaxed);
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_however_its_job_ends() {
        let load = Arc::new(Load::default());
        let places = load.take_places(2);
        assert_eq!(load.waiting.load(Ordering::Relaxed), 2);
        let thread = std::thread::spawn(move || {
            let _places = places;
            panic!("as the engine may");
        });
        assert!(thread.join().is_err());
        assert_eq!(load.waiting.load(Ordering::Relaxed), 0);
    }
}
