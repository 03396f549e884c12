//! The memory of KV caches of a model on a GPU: what lies there, and on the CPU, in one budget.

use std::iter;
use std::sync::Arc;

use lookahead_gpu::{Gpu, KvMemory};
use lookahead_kernels::{KvLayout, PAGE_ROWS};

use super::cache::GpuCache;
use super::error::GpuModelError;
use super::pages::GpuPages;
use super::split::{Split, usable_bytes};
use crate::architecture::Architecture;
use crate::cache_budget::CacheBudget;
use crate::cpu_model::CpuModel;
use crate::kv_cache::KvCache;
use crate::kv_pages::KvPages as _;
use crate::kv_pool::KvPool;
use crate::language_model::CacheMemory;

/// Bytes for KV caches where the user names none, at most.
const DEFAULT_KV_BYTES: usize = 2 << 30;
/// Whole contexts for which there is room then, at most.
const DEFAULT_CONTEXTS: usize = 4;

/// The memory of KV caches: what lies on the GPU, and on the CPU, in one budget.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    gpu: Arc<KvPool<GpuPages>>,
    cpu: Arc<KvPool>,
}

impl Pools {
    /// Memory of up to `bytes` bytes, by default for a few contexts.
    ///
    /// # Errors
    /// If that is less than a page, or the GPU has not so much.
    pub(super) fn new(
        cpu: &CpuModel,
        split: Split,
        gpu: &Arc<Gpu>,
        bytes: Option<usize>,
    ) -> Result<Self, GpuModelError> {
        let (architecture, kv_type) = (cpu.architecture(), cpu.kv_type());
        let [gpu_shapes, cpu_shapes] = split.kv_shapes(architecture);
        let layout = KvLayout::new(kv_type, cpu_shapes);
        let gpu_page_bytes = KvMemory::slot_bytes(kv_type, gpu_shapes.iter().copied()) as usize;
        let page_bytes = gpu_page_bytes + layout.page_bytes();
        let weight_bytes = split.weight_bytes(architecture, cpu.weights());
        let left =
            gpu.memory_bytes().map_or(u64::MAX, |bytes| usable_bytes(bytes).saturating_sub(weight_bytes));
        // A layer's rows are one buffer.
        let largest = gpu_shapes.iter().map(|&shape| KvMemory::slot_bytes(kv_type, [shape])).max();
        let most = (gpu.largest_binding() / largest.unwrap_or(0).max(1))
            .min(left / (gpu_page_bytes as u64).max(1))
            .min(u64::from(KvMemory::MOST_SLOTS)) as usize;
        let most_bytes = if page_bytes == 0 { usize::MAX } else { most.saturating_mul(page_bytes) };
        let bytes = match bytes {
            None => default_bytes(architecture, page_bytes).min(most_bytes),
            Some(bytes) if bytes > most_bytes => {
                return Err(GpuModelError::NoRoom { bytes, most_bytes, name: gpu.name().to_owned() });
            }
            Some(bytes) => bytes,
        };
        let slots = (bytes / page_bytes.max(1)).min(most);
        if slots == 0 {
            return Err(GpuModelError::NoPage { bytes, page_bytes });
        }
        let memory = KvMemory::new(gpu, kv_type, gpu_shapes, slots)?;
        let pages = GpuPages::new(Arc::clone(gpu), memory, slots, gpu_page_bytes)?;
        // Where there are no states, all is for whole pages.
        let bytes = if architecture.state_bytes() == 0 { slots * page_bytes } else { bytes };
        let budget = Arc::new(CacheBudget::new(Some(bytes)));
        let states = architecture.recurrent_states();
        Ok(Self {
            gpu: Arc::new(KvPool::with_budget(pages, iter::empty(), Arc::clone(&budget))),
            cpu: Arc::new(KvPool::with_budget(layout, states, budget)),
        })
    }

    /// An empty cache for up to `capacity` tokens.
    pub(super) fn new_cache(&self, capacity: usize) -> GpuCache {
        let (gpu, cpu) = (Arc::clone(&self.gpu), Arc::clone(&self.cpu));
        GpuCache::new(KvCache::new(gpu, capacity), KvCache::new(cpu, capacity))
    }

    /// The pages on the GPU.
    pub(super) fn gpu_pages(&self) -> &GpuPages {
        self.gpu.pages()
    }

    /// Bytes of a page, on both.
    pub(super) fn page_bytes(&self) -> usize {
        self.gpu.pages().page_bytes() + self.cpu.pages().page_bytes()
    }

    /// What caches take and may take.
    pub(super) fn memory(&self) -> CacheMemory {
        CacheMemory { token_bytes: self.page_bytes() / PAGE_ROWS, ..self.cpu.memory() }
    }
}

/// Bytes for KV caches where the user names none.
fn default_bytes(architecture: &Architecture, page_bytes: usize) -> usize {
    let contexts = DEFAULT_CONTEXTS * architecture.context_length.div_ceil(PAGE_ROWS) * page_bytes;
    // States have snapshots, and drafts feed into them.
    let wanted =
        if architecture.state_bytes() > 0 { DEFAULT_KV_BYTES } else { contexts.min(DEFAULT_KV_BYTES) };
    wanted.max(2 * page_bytes)
}
