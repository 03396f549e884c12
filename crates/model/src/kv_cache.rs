//! The cache of one sequence: keys and values of its tokens, in pages, and the states of recurrent layers.
//!
//! Rows lie in the order in which they were computed: committed tokens first, then the nodes of the tree of the last
//! forward pass. Committing a path moves its rows up. Only rows behind the committed ones are ever written; so caches
//! share the pages that are full of committed tokens, and a fork has a copy of the page that is not.

use std::sync::Arc;

use lookahead_kernels::{KvLayer, KvLayout, PAGE_ROWS};

use crate::kv_pages::KvPages;
use crate::kv_pool::KvPool;
use crate::language_model::{Cache, OutOfCacheMemory};
use crate::pass_cache::PassCache;
use crate::recurrent_states::RecurrentStates;

/// Keys and values of one sequence, and its states; `P` says where they lie, on the CPU as a rule.
#[derive(Debug)]
pub struct KvCache<P: KvPages = KvLayout> {
    pool: Arc<KvPool<P>>,
    /// Those of all rows that are committed, pending or reserved.
    pages: Vec<Arc<P::Page>>,
    capacity: usize,
    committed: usize,
    pending: usize,
    states: RecurrentStates,
}

impl<P: KvPages> KvCache<P> {
    /// An empty cache for up to `capacity` tokens. It takes pages as it fills.
    pub(crate) fn new(pool: Arc<KvPool<P>>, capacity: usize) -> Self {
        let states = RecurrentStates::new(Arc::clone(pool.states()));
        Self { pool, pages: Vec::new(), capacity, committed: 0, pending: 0, states }
    }

    /// The pages that the cache has: row `r` lies in page `r / PAGE_ROWS`.
    #[cfg(any(feature = "gpu", test))]
    pub(crate) fn pages(&self) -> &[Arc<P::Page>] {
        &self.pages
    }

    /// Takes pages for the rows before `end`, or none of them, and what the states need for `nodes` nodes of a draft.
    fn take(&mut self, end: usize, nodes: usize) -> Result<(), OutOfCacheMemory> {
        let before = self.pages.len();
        self.states.reserve(nodes)?;
        self.take_pages(end).inspect_err(|_| self.keep_pages(before))
    }

    /// Appends pages until the rows before `end` have one.
    fn take_pages(&mut self, end: usize) -> Result<(), OutOfCacheMemory> {
        while self.pages.len() < end.div_ceil(PAGE_ROWS) {
            self.pages.push(Arc::new(self.pool.take()?));
        }
        Ok(())
    }
}

impl KvCache {
    /// Writes the key and value of pending node `node`, all heads side by side.
    pub(crate) fn write(&mut self, layer: usize, node: usize, key: &[f32], value: &[f32]) {
        debug_assert!(node < self.pending, "begun before");
        self.pool.pages().write(&mut self.pages, layer, self.committed + node, key, value);
    }

    /// A layer's rows, for attention.
    pub(crate) fn layer(&self, layer: usize) -> KvLayer<'_> {
        self.pool.pages().layer(layer, &self.pages)
    }
}

/// A page with the rows of `page`.
fn copy<P: KvPages>(pool: &KvPool<P>, page: &P::Page) -> Result<Arc<P::Page>, OutOfCacheMemory> {
    let mut copy = pool.take()?;
    pool.pages().copy_page(page, &mut copy);
    Ok(Arc::new(copy))
}

impl<P: KvPages> PassCache for KvCache<P> {
    fn page_count(&self) -> usize {
        self.pages.len()
    }

    fn keep_pages(&mut self, pages: usize) {
        for page in self.pages.drain(pages.min(self.pages.len())..) {
            self.pool.give_back(page);
        }
    }

    fn begin(&mut self, nodes: usize, certain: usize, is_last: bool) {
        debug_assert!(self.committed + nodes <= self.pages.len() * PAGE_ROWS, "reserved before");
        self.pending = nodes;
        self.states.begin(certain, is_last);
    }

    fn states(&mut self) -> &mut RecurrentStates {
        &mut self.states
    }

    fn commit(&mut self, path: &[u32]) {
        assert!(path.is_sorted_by(|a, b| a < b), "a path's nodes ascend");
        assert!(path.last().is_none_or(|&last| (last as usize) < self.pending), "a path's nodes are pending");
        let moves = path.iter().map(|&node| node as usize).enumerate().filter(|(to, from)| to != from);
        let rows = moves.map(|(to, from)| [self.committed + from, self.committed + to]);
        self.pool.pages().copy_rows(&mut self.pages, rows);
        self.states.commit(path);
        self.committed += path.len();
        self.pending = 0;
    }
}

impl<P: KvPages> Drop for KvCache<P> {
    fn drop(&mut self) {
        self.keep_pages(0);
    }
}

impl<P: KvPages> Cache for KvCache<P> {
    fn len(&self) -> usize {
        self.committed
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn reserve(&mut self, certain: usize, nodes: usize) -> Result<(), OutOfCacheMemory> {
        let nodes = nodes.min(self.capacity - self.committed);
        let end = self.committed.saturating_add(certain).saturating_add(nodes).min(self.capacity);
        match self.take(end, nodes) {
            Err(_) if self.states.give_back_spare() => self.take(end, nodes),
            taken => taken,
        }
    }

    fn forkable(&self, len: usize) -> usize {
        self.states.forkable(len.min(self.committed))
    }

    fn fork(&self, len: usize, capacity: usize) -> Self {
        let mut fork = Self::new(Arc::clone(&self.pool), capacity);
        let mut len = self.forkable(len.min(capacity));
        while let (shared, rest @ 1..) = (len / PAGE_ROWS, len % PAGE_ROWS) {
            if let Ok(copy) = copy(&self.pool, &self.pages[shared]) {
                fork.pages.push(copy);
                break;
            }
            len = self.forkable(len - rest);
        }
        fork.pages.splice(0..0, self.pages[..len / PAGE_ROWS].iter().cloned());
        fork.states = self.states.fork(len);
        fork.committed = len;
        fork
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A device whose pages are places of an array of rows, as those of a GPU would be. It has room for `left` more pages.
    #[derive(Debug)]
    struct Device {
        left: AtomicUsize,
    }

    /// What stands in each row.
    type Page = Vec<usize>;

    impl KvPages for Device {
        type Page = Page;

        fn page_bytes(&self) -> usize {
            PAGE_ROWS
        }

        fn new_page(&self) -> Result<Page, OutOfCacheMemory> {
            let less = |left: usize| left.checked_sub(1);
            let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            left.map(|_| vec![usize::MAX; PAGE_ROWS]).map_err(|_| OutOfCacheMemory)
        }

        fn copy_page(&self, from: &Page, to: &mut Page) {
            to.copy_from_slice(from);
        }

        fn copy_rows(&self, pages: &mut [Arc<Page>], rows: impl Iterator<Item = [usize; 2]>) {
            for [from, to] in rows {
                let row = pages[from / PAGE_ROWS][from % PAGE_ROWS];
                Arc::get_mut(&mut pages[to / PAGE_ROWS]).expect("its own")[to % PAGE_ROWS] = row;
            }
        }
    }

    fn pool(device_pages: usize, max_pages: usize) -> Arc<KvPool<Device>> {
        let device = Device { left: device_pages.into() };
        Arc::new(KvPool::new(device, iter::empty(), Some(max_pages * PAGE_ROWS)))
    }

    fn used_pages(pool: &KvPool<Device>) -> usize {
        pool.memory().used_bytes / PAGE_ROWS
    }

    /// A pass over `nodes` nodes, the first of which writes `first`, the second the number behind it, then a commit of `path`.
    fn pass(cache: &mut KvCache<Device>, nodes: usize, first: usize, path: &[u32]) {
        cache.reserve(0, nodes).unwrap();
        cache.begin(nodes, 0, false);
        for (row, number) in (cache.len()..).zip(first..first + nodes) {
            Arc::get_mut(&mut cache.pages[row / PAGE_ROWS]).unwrap()[row % PAGE_ROWS] = number;
        }
        cache.commit(path);
    }

    fn committed(cache: &KvCache<Device>) -> Vec<usize> {
        cache.pages().iter().flat_map(|page| page.iter().copied()).take(cache.len()).collect()
    }

    #[test]
    fn a_path_that_is_committed_moves_together_over_the_border_of_pages_on_any_device() {
        let mut cache = KvCache::new(pool(3, 3), 3 * PAGE_ROWS);
        let chain: Vec<u32> = (0..PAGE_ROWS as u32 - 2).collect();
        pass(&mut cache, chain.len(), 0, &chain);
        pass(&mut cache, 8, 100, &[0, 2, 3, 7]);
        let expected: Vec<usize> = (0..PAGE_ROWS - 2).chain([100, 102, 103, 107]).collect();
        assert_eq!(committed(&cache), expected);
    }

    #[test]
    fn a_fork_shares_full_pages_and_has_its_own_copy_of_the_last_one_on_any_device() {
        let pool = pool(4, 4);
        let mut cache = KvCache::new(Arc::clone(&pool), 2 * PAGE_ROWS);
        let chain: Vec<u32> = (0..PAGE_ROWS as u32 + 5).collect();
        pass(&mut cache, chain.len(), 0, &chain);
        let mut fork = cache.fork(PAGE_ROWS + 3, 2 * PAGE_ROWS);
        assert_eq!(used_pages(&pool), 3, "of two pages each, one is shared");
        pass(&mut fork, 1, 200, &[0]);
        pass(&mut cache, 1, 300, &[0]);
        let expected = |len: usize, last: usize| (0..len).chain([last]).collect::<Vec<_>>();
        assert_eq!(committed(&fork), expected(PAGE_ROWS + 3, 200));
        assert_eq!(committed(&cache), expected(PAGE_ROWS + 5, 300));
        drop((cache, fork));
        assert_eq!(used_pages(&pool), 0);
    }

    #[test]
    fn what_a_device_has_no_memory_for_is_not_counted() {
        let pool = pool(2, 9);
        let mut cache = KvCache::new(Arc::clone(&pool), 9 * PAGE_ROWS);
        assert_eq!(cache.reserve(0, 3 * PAGE_ROWS), Err(OutOfCacheMemory));
        assert_eq!((used_pages(&pool), cache.pages().len()), (0, 0));
        cache.reserve(0, 2 * PAGE_ROWS).unwrap();
        assert_eq!(used_pages(&pool), 2, "those that it could make were kept");
    }
}
