//! Panics of the engine's thread in the last minute.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a panic counts.
const WINDOW: Duration = Duration::from_mins(1);

/// As many in the window are more than bad luck with a request: the server is better started again.
const MANY: usize = 3;

/// What recent panics say of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// There were none.
    Well,
    /// There were some.
    Degraded,
    /// There were many.
    Failing,
}

/// When the engine's thread has panicked: the latest times that count.
#[derive(Default)]
pub(crate) struct Panics(Mutex<VecDeque<Instant>>);

impl Panics {
    /// Notes a panic.
    pub(crate) fn note(&self, now: Instant) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push_back(now);
        if times.len() > MANY {
            times.pop_front();
        }
    }

    pub(crate) fn condition(&self, now: Instant) -> Condition {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match times.iter().filter(|&&time| now.saturating_duration_since(time) < WINDOW).count() {
            0 => Condition::Well,
            MANY.. => Condition::Failing,
            _ => Condition::Degraded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_counts_for_a_minute_and_many_are_a_failing_engine() {
        let (panics, began) = (Panics::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(panics.condition(began), Condition::Well);
        for seconds in [0, 10, 20, 30] {
            panics.note(after(seconds));
        }
        for (seconds, condition) in [
            (30, Condition::Failing),
            (69, Condition::Failing),
            (70, Condition::Degraded),
            (90, Condition::Well),
        ] {
            assert_eq!(panics.condition(after(seconds)), condition, "{seconds}");
        }
    }
}
