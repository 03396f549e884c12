//! The cache of one sequence of a model on a GPU, in two parts: the rows of layers that the GPU computes lie there; those of the others, and
//! the states of recurrent layers, on the CPU. Both have the same rows, in as many pages.

use super::pages::GpuPages;
use crate::kv_cache::KvCache;
use crate::language_model::{Cache, OutOfCacheMemory, SequenceStep};
use crate::pass_cache::PassCache;
use crate::recurrent_states::RecurrentStates;

/// Keys and values of one sequence on a GPU, and what the CPU keeps of it.
#[derive(Debug)]
pub struct GpuCache {
    gpu: KvCache<GpuPages>,
    cpu: KvCache,
    /// Whether a pass has failed that had begun to change its states.
    is_lost: bool,
}

impl GpuCache {
    /// Two empty parts of the same capacity, which are counted in the same budget.
    pub(crate) fn new(gpu: KvCache<GpuPages>, cpu: KvCache) -> Self {
        Self { gpu, cpu, is_lost: false }
    }

    /// Notes that a pass has failed on the way: states are changed in place, so those of the sequence are lost.
    pub(crate) fn lose_states(&mut self) {
        self.is_lost |= !self.states().is_empty();
    }

    /// Whether its states are lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Reserves in both parts, or in neither.
    fn reserve_both(&mut self, certain: usize, nodes: usize) -> Result<(), OutOfCacheMemory> {
        let pages = self.page_count();
        self.cpu.reserve(certain, nodes)?;
        self.gpu.reserve(certain, nodes).inspect_err(|_| self.cpu.keep_pages(pages))
    }

    /// What lies on the GPU.
    pub(crate) fn gpu(&self) -> &KvCache<GpuPages> {
        &self.gpu
    }
}

/// The steps of a batch, for what the CPU computes of them.
pub(crate) fn cpu_steps<'a>(batch: &'a mut [SequenceStep<'_, GpuCache>]) -> Vec<SequenceStep<'a, KvCache>> {
    let step = |step: &'a mut SequenceStep<'_, GpuCache>| {
        let SequenceStep { tree, cache, logits_of, keep } = step;
        SequenceStep { tree, cache: &mut cache.cpu, logits_of: *logits_of, keep: *keep }
    };
    batch.iter_mut().map(step).collect()
}

impl Cache for GpuCache {
    fn len(&self) -> usize {
        self.gpu.len()
    }

    fn capacity(&self) -> usize {
        self.gpu.capacity()
    }

    fn reserve(&mut self, certain: usize, nodes: usize) -> Result<(), OutOfCacheMemory> {
        match self.reserve_both(certain, nodes) {
            Err(_) if self.states().give_back_spare() => self.reserve_both(certain, nodes),
            reserved => reserved,
        }
    }

    fn forkable(&self, len: usize) -> usize {
        self.cpu.forkable(self.gpu.forkable(len))
    }

    fn fork(&self, len: usize, capacity: usize) -> Self {
        let mut len = len;
        // Where there is no memory for the last page of one, both begin with less.
        loop {
            let cpu = self.cpu.fork(len, capacity);
            let gpu = self.gpu.fork(cpu.len(), capacity);
            if gpu.len() == cpu.len() {
                return Self { gpu, cpu, is_lost: self.is_lost };
            }
            len = gpu.len();
        }
    }
}

impl PassCache for GpuCache {
    fn page_count(&self) -> usize {
        self.gpu.page_count()
    }

    fn keep_pages(&mut self, pages: usize) {
        self.gpu.keep_pages(pages);
        self.cpu.keep_pages(pages);
    }

    fn begin(&mut self, nodes: usize, certain: usize, is_last: bool) {
        self.gpu.begin(nodes, certain, is_last);
        self.cpu.begin(nodes, certain, is_last);
    }

    fn states(&mut self) -> &mut RecurrentStates {
        self.cpu.states()
    }

    fn commit(&mut self, path: &[u32]) {
        self.gpu.commit(path);
        self.cpu.commit(path);
    }
}
