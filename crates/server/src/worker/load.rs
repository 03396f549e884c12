//! How busy the engine is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// How busy the engine is, for handlers and metrics. Several engines add up in the metrics.
pub(crate) struct Load {
    /// Jobs that wait.
    pub(crate) waiting: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) kv_used_tokens: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// A job's place among those that wait. It is free again when this is dropped, whatever has become of the job.
pub(crate) struct QueuePlace {
    load: Arc<Load>,
}

impl Load {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            kv_used_tokens: AtomicUsize::new(0),
            metrics,
        })
    }

    /// Places for `count` jobs, all or none, if no more than `max` wait then. How many wait if not.
    pub(crate) fn take_places(self: &Arc<Self>, count: usize, max: usize) -> Result<Vec<QueuePlace>, usize> {
        self.waiting.try_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            // A request of many answers is not refused for ever: it may come where nobody waits.
            (waiting == 0 || waiting + count <= max).then_some(waiting + count)
        })?;
        self.metrics.queue_depth.inc_by(count as i64);
        Ok((0..count).map(|_| QueuePlace { load: Arc::clone(self) }).collect())
    }

    /// Notes what the engine does now.
    pub(crate) fn set(&self, running: usize, kv_used_tokens: usize) {
        let was_running = self.running.swap(running, Ordering::Relaxed);
        self.metrics.running.inc_by(running as i64 - was_running as i64);
        let was_used = self.kv_used_tokens.swap(kv_used_tokens, Ordering::Relaxed);
        self.metrics.kv_used_tokens.inc_by(kv_used_tokens as i64 - was_used as i64);
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        self.load.metrics.queue_depth.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_however_its_job_ends() {
        let load = Load::new(Arc::new(Metrics::new("m", 3, 0)));
        let places = load.take_places(2, 3).unwrap_or_default();
        assert_eq!(load.take_places(2, 3).err(), Some(2));
        let thread = std::thread::spawn(move || {
            let _places = places;
            panic!("as the engine may");
        });
        assert!(thread.join().is_err());
        assert_eq!((load.waiting.load(Ordering::Relaxed), load.metrics.queue_depth.get()), (0, 0));
        assert!(load.take_places(5, 3).is_ok(), "where nobody waits");
        assert_eq!(load.metrics.queue_depth.get(), 0);
    }
}
