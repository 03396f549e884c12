//! What all caches of a model may take of memory, and have taken: counted apart from the memory itself, so that states of any
//! kind are bounded together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::language_model::OutOfCacheMemory;

/// Counts bytes up to a bound.
#[derive(Debug)]
pub(crate) struct CacheBudget {
    /// Unbounded if `None`.
    max_bytes: Option<usize>,
    used_bytes: AtomicUsize,
}

impl CacheBudget {
    pub(crate) fn new(max_bytes: Option<usize>) -> Self {
        Self { max_bytes, used_bytes: AtomicUsize::new(0) }
    }

    pub(crate) fn max_bytes(&self) -> Option<usize> {
        self.max_bytes
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Counts `bytes` more as taken, if they are left.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), OutOfCacheMemory> {
        let max = self.max_bytes.unwrap_or(usize::MAX);
        let more = |used: usize| used.checked_add(bytes).filter(|&used| used <= max);
        let taken = self.used_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.map(|_| ()).map_err(|_| OutOfCacheMemory)
    }

    /// Counts `bytes` as free again.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Bytes that were taken of a budget, given back with it.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<CacheBudget>,
    bytes: usize,
}

impl Taken {
    /// Nothing so far.
    pub(crate) fn nothing(budget: &Arc<CacheBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes what is missing to `bytes`; gives nothing back where more was taken.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), OutOfCacheMemory> {
        let bytes = bytes.max(self.bytes);
        self.budget.take(bytes - self.bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back what is more than `bytes`; whether it was.
    pub(crate) fn shrink_to(&mut self, bytes: usize) -> bool {
        let spare = self.bytes.saturating_sub(bytes);
        self.budget.give_back(spare);
        self.bytes -= spare;
        spare > 0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let budget = CacheBudget::new(Some(100));
        assert_eq!(budget.take(60), Ok(()));
        assert_eq!(budget.take(41), Err(OutOfCacheMemory));
        assert_eq!(budget.take(40), Ok(()));
        budget.give_back(60);
        assert_eq!((budget.used_bytes(), budget.take(usize::MAX)), (40, Err(OutOfCacheMemory)));
        assert_eq!(CacheBudget::new(None).take(usize::MAX), Ok(()));
    }

    #[test]
    fn what_is_taken_grows_and_comes_back() {
        let budget = Arc::new(CacheBudget::new(Some(100)));
        let mut taken = Taken::nothing(&budget);
        assert_eq!((taken.grow_to(60), taken.grow_to(40), budget.used_bytes()), (Ok(()), Ok(()), 60));
        assert_eq!((taken.grow_to(101), budget.used_bytes()), (Err(OutOfCacheMemory), 60));
        assert_eq!((taken.shrink_to(70), taken.shrink_to(50), budget.used_bytes()), (false, true, 50));
        drop(taken);
        assert_eq!(budget.used_bytes(), 0);
    }
}
