//! The cache of one sequence: keys and values of its tokens, in pages, and the states of recurrent layers.
//!
//! Rows lie in the order in which they were computed: committed tokens first, then the nodes of the tree of the last
//! forward pass. Committing a path moves its rows up. Only rows behind the committed ones are ever written; so caches
//! share the pages that are full of committed tokens, and a fork has a copy of the page that is not.

use std::sync::Arc;

use lookahead_kernels::{KvLayer, KvPage, PAGE_ROWS};

use crate::kv_pool::KvPool;
use crate::language_model::{Cache, OutOfCacheMemory};
use crate::recurrent_states::RecurrentStates;

/// Keys and values of one sequence, and its states.
#[derive(Debug)]
pub struct KvCache {
    pool: Arc<KvPool>,
    /// Those of all rows that are committed, pending or reserved.
    pages: Vec<Arc<KvPage>>,
    capacity: usize,
    committed: usize,
    pending: usize,
    states: RecurrentStates,
}

impl KvCache {
    /// An empty cache for up to `capacity` tokens. It takes pages as it fills.
    pub(crate) fn new(pool: Arc<KvPool>, capacity: usize) -> Self {
        let states = RecurrentStates::new(Arc::clone(&pool));
        Self { pool, pages: Vec::new(), capacity, committed: 0, pending: 0, states }
    }

    /// Drops what is pending and makes `nodes` reserved rows pending instead, for [`KvCache::write`] to fill. The first `certain`
    /// of them are a part of a prompt; `is_last` says whether it ends with them.
    pub(crate) fn begin(&mut self, nodes: usize, certain: usize, is_last: bool) {
        debug_assert!(self.committed + nodes <= self.pages.len() * PAGE_ROWS, "reserved before");
        self.pending = nodes;
        self.states.begin(certain, is_last);
    }

    /// The states of recurrent layers.
    pub(crate) fn states(&mut self) -> &mut RecurrentStates {
        &mut self.states
    }

    /// Writes the key and value of pending node `node`, all heads side by side.
    pub(crate) fn write(&mut self, layer: usize, node: usize, key: &[f32], value: &[f32]) {
        debug_assert!(node < self.pending, "begun before");
        self.pool.layout().write(&mut self.pages, layer, self.committed + node, key, value);
    }

    /// A layer's rows, for attention.
    pub(crate) fn layer(&self, layer: usize) -> KvLayer<'_> {
        self.pool.layout().layer(layer, &self.pages)
    }

    /// How many pages the cache has.
    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Gives back all but the first `pages` pages.
    pub(crate) fn keep_pages(&mut self, pages: usize) {
        for page in self.pages.drain(pages.min(self.pages.len())..) {
            self.pool.give_back(page);
        }
    }

    /// Commits the pending rows `path`, moved together, and drops the others.
    ///
    /// # Panics
    /// If `path` names a node that is not pending, or does not ascend.
    pub(crate) fn commit(&mut self, path: &[u32]) {
        assert!(path.is_sorted_by(|a, b| a < b), "a path's nodes ascend");
        assert!(path.last().is_none_or(|&last| (last as usize) < self.pending), "a path's nodes are pending");
        for (to, from) in path.iter().map(|&node| node as usize).enumerate().filter(|(to, from)| to != from) {
            self.pool.layout().copy_row(&mut self.pages, self.committed + from, self.committed + to);
        }
        self.states.commit(path);
        self.committed += path.len();
        self.pending = 0;
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

/// A page with the rows of `page`.
fn copy(pool: &KvPool, page: &KvPage) -> Result<Arc<KvPage>, OutOfCacheMemory> {
    let mut copy = pool.take()?;
    copy.copy_from(page);
    Ok(Arc::new(copy))
}

impl Drop for KvCache {
    fn drop(&mut self) {
        self.keep_pages(0);
    }
}

impl Cache for KvCache {
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
