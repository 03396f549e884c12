//! The pages of all KV caches of a model, and the bound of what they and the states of recurrent layers take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lookahead_kernels::{KvLayout, KvPage, KvType, PAGE_ROWS};

use crate::architecture::{Architecture, State};
use crate::cache_budget::CacheBudget;
use crate::language_model::{CacheMemory, OutOfCacheMemory};
use crate::recurrent_states::StateLayout;

/// Free pages that a pool without a bound keeps, in bytes. A conversation's next cache finds its pages ready, and yet
/// little is held that nobody uses. A pool with a bound keeps all: that memory was given to it.
const KEPT_BYTES: usize = 64 << 20;

/// Hands out pages as far as the budget goes, and keeps those that caches gave back for the next.
#[derive(Debug)]
pub(crate) struct KvPool {
    kv_type: KvType,
    layout: KvLayout,
    /// Of the states of recurrent layers.
    states: StateLayout,
    /// Counts the pages and states that caches hold; what they share counts once.
    budget: Arc<CacheBudget>,
    /// Pages that were given back, with what they held: rows are written before they are read.
    free: Mutex<Vec<KvPage>>,
}

impl KvPool {
    /// Pages of up to `max_bytes` together, none of them taken from the system yet.
    pub(crate) fn new(architecture: &Architecture, kv_type: KvType, max_bytes: Option<usize>) -> Self {
        let shapes = architecture.states().filter_map(|state| match state {
            State::Nothing | State::Recurrent(_) => None,
            State::Rows(shape) => Some(shape),
        });
        let states = StateLayout::new(architecture.recurrent_states());
        Self::of_layout(kv_type, KvLayout::new(kv_type, shapes), states, max_bytes)
    }

    fn of_layout(kv_type: KvType, layout: KvLayout, states: StateLayout, max_bytes: Option<usize>) -> Self {
        let budget = Arc::new(CacheBudget::new(max_bytes));
        Self { kv_type, layout, states, budget, free: Mutex::default() }
    }

    pub(crate) fn kv_type(&self) -> KvType {
        self.kv_type
    }

    pub(crate) fn layout(&self) -> &KvLayout {
        &self.layout
    }

    pub(crate) fn states(&self) -> &StateLayout {
        &self.states
    }

    pub(crate) fn budget(&self) -> &Arc<CacheBudget> {
        &self.budget
    }

    pub(crate) fn max_bytes(&self) -> Option<usize> {
        self.budget.max_bytes()
    }

    /// What caches take and may take.
    pub(crate) fn memory(&self) -> CacheMemory {
        CacheMemory {
            total_bytes: self.max_bytes().unwrap_or(usize::MAX),
            used_bytes: self.budget.used_bytes(),
            token_bytes: self.layout.page_bytes() / PAGE_ROWS,
            page_tokens: PAGE_ROWS,
            state_bytes: self.states.bytes(),
            node_bytes: self.states.fed_bytes(),
        }
    }

    /// A page with anything in it, to be given back by [`KvPool::give_back`].
    pub(crate) fn take(&self) -> Result<KvPage, OutOfCacheMemory> {
        self.budget.take(self.layout.page_bytes())?;
        let free = self.free().pop();
        free.map_or_else(|| KvPage::new(&self.layout), Ok).map_err(|_| {
            self.budget.give_back(self.layout.page_bytes());
            OutOfCacheMemory
        })
    }

    /// Takes a page of a cache back, unless another still has it.
    pub(crate) fn give_back(&self, page: Arc<KvPage>) {
        // Of all that let go of a page at the same time, exactly one gets it.
        let Some(page) = Arc::into_inner(page) else { return };
        let mut free = self.free();
        if free.len() < self.kept_pages() {
            free.push(page);
        }
        drop(free);
        // Only now, so that whoever may take a page by it finds this one.
        self.budget.give_back(self.layout.page_bytes());
    }

    fn kept_pages(&self) -> usize {
        self.max_bytes().map_or(KEPT_BYTES / self.layout.page_bytes().max(1), |_| usize::MAX)
    }

    fn free(&self) -> MutexGuard<'_, Vec<KvPage>> {
        // Nothing in here panics half-way.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lookahead_kernels::{KvShape, KvType};

    use super::*;

    /// A pool of small pages.
    fn pool(max_pages: Option<usize>) -> KvPool {
        let shapes = [1, 2].map(|heads| KvShape { heads, key_dim: 16, value_dim: 16 });
        let layout = KvLayout::new(KvType::F16, shapes);
        let max_bytes = max_pages.map(|pages| pages * layout.page_bytes());
        KvPool::of_layout(KvType::F16, layout, StateLayout::new(std::iter::empty()), max_bytes)
    }

    fn take(pool: &KvPool, pages: usize) -> Vec<Arc<KvPage>> {
        (0..pages).map(|_| Arc::new(pool.take().unwrap())).collect()
    }

    /// Pages in use, and free ones that are kept.
    fn counts(pool: &KvPool) -> (usize, usize) {
        (pool.budget.used_bytes() / pool.layout.page_bytes(), pool.free().len())
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
        let kept = KEPT_BYTES / pool.layout.page_bytes();
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
