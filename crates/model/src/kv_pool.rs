//! The pages of all KV caches of a model, and the bound of what they and the states of recurrent layers take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lookahead_kernels::{KvLayout, PAGE_ROWS};

use crate::architecture::RecurrentShape;
use crate::cache_budget::CacheBudget;
use crate::kv_pages::KvPages;
use crate::language_model::{CacheMemory, OutOfCacheMemory};
use crate::recurrent_states::StatePool;

/// Free pages that a pool without a bound keeps, in bytes. A conversation's next cache finds its pages ready, and yet
/// little is held that nobody uses. A pool with a bound keeps all: that memory was given to it.
const KEPT_BYTES: usize = 64 << 20;

/// Hands out pages as far as the budget goes, and keeps those that caches gave back for the next.
#[derive(Debug)]
pub(crate) struct KvPool<P: KvPages = KvLayout> {
    pages: P,
    /// Of the states of recurrent layers.
    states: Arc<StatePool>,
    /// Counts the pages and states that caches hold; what they share counts once.
    budget: Arc<CacheBudget>,
    /// Pages that were given back, with what they held: rows are written before they are read.
    free: Mutex<Vec<P::Page>>,
}

impl<P: KvPages> KvPool<P> {
    /// Pages and states, the latter of the given shapes, of up to `max_bytes` together, none of them made yet.
    pub(crate) fn new(
        pages: P,
        states: impl Iterator<Item = RecurrentShape>,
        max_bytes: Option<usize>,
    ) -> Self {
        Self::with_budget(pages, states, Arc::new(CacheBudget::new(max_bytes)))
    }

    /// The same within a budget that others take of as well.
    pub(crate) fn with_budget(
        pages: P,
        states: impl Iterator<Item = RecurrentShape>,
        budget: Arc<CacheBudget>,
    ) -> Self {
        let states = Arc::new(StatePool::new(states, Arc::clone(&budget)));
        Self { pages, states, budget, free: Mutex::default() }
    }

    /// What makes the pages.
    pub(crate) fn pages(&self) -> &P {
        &self.pages
    }

    pub(crate) fn states(&self) -> &Arc<StatePool> {
        &self.states
    }

    pub(crate) fn max_bytes(&self) -> Option<usize> {
        self.budget.max_bytes()
    }

    /// What caches take and may take.
    pub(crate) fn memory(&self) -> CacheMemory {
        CacheMemory {
            total_bytes: self.max_bytes().unwrap_or(usize::MAX),
            used_bytes: self.budget.used_bytes(),
            token_bytes: self.pages.page_bytes() / PAGE_ROWS,
            page_tokens: PAGE_ROWS,
            state_bytes: self.states.bytes(),
            node_bytes: self.states.fed_bytes(),
        }
    }

    /// A page with anything in it, to be given back by [`KvPool::give_back`].
    pub(crate) fn take(&self) -> Result<P::Page, OutOfCacheMemory> {
        self.budget.take(self.pages.page_bytes())?;
        let free = self.free().pop();
        let page = free.map_or_else(|| self.pages.new_page(), Ok);
        page.inspect_err(|_| self.budget.give_back(self.pages.page_bytes()))
    }

    /// Takes a page of a cache back, unless another still has it.
    pub(crate) fn give_back(&self, page: Arc<P::Page>) {
        // Of all that let go of a page at the same time, exactly one gets it.
        let Some(page) = Arc::into_inner(page) else { return };
        let mut free = self.free();
        if free.len() < self.kept_pages() {
            free.push(page);
        }
        drop(free);
        // Only now, so that whoever may take a page by it finds this one.
        self.budget.give_back(self.pages.page_bytes());
    }

    fn kept_pages(&self) -> usize {
        self.max_bytes().map_or(KEPT_BYTES / self.pages.page_bytes().max(1), |_| usize::MAX)
    }

    fn free(&self) -> MutexGuard<'_, Vec<P::Page>> {
        // Nothing in here panics half-way.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lookahead_kernels::{KvPage, KvShape, KvType};

    use super::*;

    /// A pool of small pages.
    fn pool(max_pages: Option<usize>) -> KvPool {
        let shapes = [1, 2].map(|heads| KvShape { heads, key_dim: 16, value_dim: 16 });
        let layout = KvLayout::new(KvType::F16, shapes);
        let max_bytes = max_pages.map(|pages| pages * layout.page_bytes());
        KvPool::new(layout, std::iter::empty(), max_bytes)
    }

    fn take(pool: &KvPool, pages: usize) -> Vec<Arc<KvPage>> {
        (0..pages).map(|_| Arc::new(pool.take().unwrap())).collect()
    }

    /// Pages in use, and free ones that are kept.
    fn counts(pool: &KvPool) -> (usize, usize) {
        (pool.budget.used_bytes() / pool.pages.page_bytes(), pool.free().len())
    }

    fn give_back(pool: &KvPool, pages: Vec<Arc<KvPage>>) {
        for page in pages {
            pool.give_back(page);
        }
    }

    #[test]
    fn pages_that_came_back_are_taken_before_new_ones() {
        let pool = pool(Some(3));
        let pages = take(&pool, 3);
        assert!(pool.take().is_err());
        give_back(&pool, pages);
        assert_eq!(counts(&pool), (0, 3));
        let pages = take(&pool, 2);
        assert_eq!(counts(&pool), (2, 1));
        drop(pages);
    }

    #[test]
    fn a_shared_page_comes_back_with_the_last_cache() {
        let pool = pool(Some(1));
        let page = take(&pool, 1).remove(0);
        pool.give_back(Arc::clone(&page));
        assert!(pool.take().is_err());
        pool.give_back(page);
        assert!(pool.take().is_ok());
    }

    #[test]
    fn without_a_bound_what_is_too_much_goes_back_to_the_system() {
        let pool = pool(None);
        let kept = KEPT_BYTES / pool.pages.page_bytes();
        give_back(&pool, take(&pool, kept + 5));
        assert_eq!(counts(&pool), (0, kept));
    }

    #[test]
    fn of_caches_that_end_at_the_same_time_one_gives_the_page_back() {
        let pool = pool(Some(1));
        for _ in 0..200 {
            let page = take(&pool, 1).remove(0);
            std::thread::scope(|scope| {
                let pages: Vec<_> = (0..3).map(|_| Arc::clone(&page)).collect();
                for page in pages {
                    scope.spawn(|| pool.give_back(page));
                }
                pool.give_back(page);
            });
            assert_eq!(counts(&pool), (0, 1));
        }
    }
}
