//! A model on the device that the user has chosen.

use lookahead_kernels::{Kernels, KvType};

use crate::architecture::Architecture;
use crate::cpu_model::CpuModel;
#[cfg(feature = "gpu")]
use crate::gpu::{GpuCache, GpuModel, GpuModelError};
use crate::kv_cache::KvCache;
use crate::language_model::{
    Accepted, Cache, CacheMemory, ForwardError, LanguageModel, OutOfCacheMemory, SequenceStep,
};
use crate::logits::Logits;

/// A model on the CPU, or on a GPU.
#[derive(Debug)]
pub enum DeviceModel {
    /// On the CPU.
    Cpu(Box<CpuModel>),
    /// On a GPU.
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuModel>),
}

/// The cache of one of its sequences.
#[derive(Debug)]
pub enum DeviceCache {
    /// On the CPU.
    Cpu(KvCache),
    /// On a GPU.
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuCache>),
}

/// Evaluates `$body` for the model or the cache of either device.
macro_rules! on_either {
    ($kind:ident, $device:expr, $inner:ident => $body:expr) => {
        match $device {
            $kind::Cpu($inner) => $body,
            #[cfg(feature = "gpu")]
            $kind::Gpu($inner) => $body,
        }
    };
}

impl DeviceModel {
    /// The model on the CPU, whose weights that on a GPU has copied.
    pub fn cpu(&self) -> &CpuModel {
        match self {
            Self::Cpu(model) => model,
            #[cfg(feature = "gpu")]
            Self::Gpu(model) => model.cpu(),
        }
    }

    /// What it consists of.
    pub fn architecture(&self) -> &Architecture {
        self.cpu().architecture()
    }

    /// What computes on the CPU.
    pub fn kernels(&self) -> &Kernels {
        self.cpu().kernels()
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.cpu().kv_type()
    }

    /// The name of the GPU, which layers it computes if not all, and its driver; `None` on the CPU.
    pub fn gpu(&self) -> Option<String> {
        match self {
            Self::Cpu(_) => None,
            #[cfg(feature = "gpu")]
            Self::Gpu(model) => Some(format!("{}, {}", model.device(), model.gpu().driver())),
        }
    }

    /// What this model's tokens and logits are to be compared with, on these kernels: the model on the CPU, but for a GPU with bits of its
    /// own.
    #[must_use]
    pub fn reference(&self, kernels: Kernels) -> Self {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(model) if !model.has_cpu_bits() => self.with_kernels(kernels),
            _ => Self::Cpu(Box::new(self.cpu().with_kernels(kernels))),
        }
    }

    /// The same model on other kernels; the weights and the memory for KV caches are shared.
    #[must_use]
    pub fn with_kernels(&self, kernels: Kernels) -> Self {
        match self {
            Self::Cpu(model) => Self::Cpu(Box::new(model.with_kernels(kernels))),
            #[cfg(feature = "gpu")]
            Self::Gpu(model) => Self::Gpu(Box::new(model.with_kernels(kernels))),
        }
    }

    /// The same model with at most `bytes` bytes for all KV caches together.
    ///
    /// # Errors
    /// If a GPU has no memory for them.
    pub fn with_kv_memory(self, bytes: usize) -> Result<Self, DeviceError> {
        match self {
            Self::Cpu(model) => Ok(Self::Cpu(Box::new(model.with_kv_memory(bytes)))),
            #[cfg(feature = "gpu")]
            Self::Gpu(model) => Ok(Self::Gpu(Box::new(model.with_kv_memory(bytes)?))),
        }
    }
}

/// Why a device does not take a model; the CPU takes all.
#[cfg(feature = "gpu")]
pub type DeviceError = GpuModelError;
/// Why a device does not take a model; the CPU takes all.
#[cfg(not(feature = "gpu"))]
pub type DeviceError = std::convert::Infallible;

impl LanguageModel for DeviceModel {
    type Cache = DeviceCache;

    fn vocabulary_size(&self) -> usize {
        self.cpu().vocabulary_size()
    }

    fn context_length(&self) -> usize {
        self.cpu().context_length()
    }

    fn pass_nodes(&self) -> usize {
        on_either!(Self, self, model => model.pass_nodes())
    }

    fn device(&self) -> String {
        on_either!(Self, self, model => model.device())
    }

    fn new_cache(&self, capacity: usize) -> DeviceCache {
        match self {
            Self::Cpu(model) => DeviceCache::Cpu(model.new_cache(capacity)),
            #[cfg(feature = "gpu")]
            Self::Gpu(model) => DeviceCache::Gpu(Box::new(model.new_cache(capacity))),
        }
    }

    fn cache_memory(&self) -> CacheMemory {
        on_either!(Self, self, model => model.cache_memory())
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, DeviceCache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        match self {
            Self::Cpu(model) => model.forward(&mut steps(batch, DeviceCache::cpu), logits),
            #[cfg(feature = "gpu")]
            Self::Gpu(model) => model.forward(&mut steps(batch, DeviceCache::gpu), logits),
        }
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, DeviceCache>]) {
        match self {
            Self::Cpu(model) => model.commit(&mut accepted(batch, DeviceCache::cpu)),
            #[cfg(feature = "gpu")]
            Self::Gpu(model) => model.commit(&mut accepted(batch, DeviceCache::gpu)),
        }
    }
}

fn steps<'a, C>(
    batch: &'a mut [SequenceStep<'_, DeviceCache>],
    of_device: impl Fn(&mut DeviceCache) -> &mut C,
) -> Vec<SequenceStep<'a, C>> {
    let step = |step: &'a mut SequenceStep<'_, DeviceCache>| {
        let SequenceStep { tree, cache, logits_of, keep } = step;
        SequenceStep { tree, cache: of_device(cache), logits_of: *logits_of, keep: *keep }
    };
    batch.iter_mut().map(step).collect()
}

fn accepted<'a, C>(
    batch: &'a mut [Accepted<'_, DeviceCache>],
    of_device: impl Fn(&mut DeviceCache) -> &mut C,
) -> Vec<Accepted<'a, C>> {
    batch.iter_mut().map(|Accepted { cache, path }| Accepted { cache: of_device(cache), path }).collect()
}

#[cfg(feature = "gpu")]
/// Where a cache that is given to a model was made by that of another device.
const OTHER_DEVICE: &str = "a model is given its own caches";

impl DeviceCache {
    fn cpu(&mut self) -> &mut KvCache {
        match self {
            Self::Cpu(cache) => cache,
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => panic!("{OTHER_DEVICE}"),
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu(&mut self) -> &mut GpuCache {
        match self {
            Self::Cpu(_) => panic!("{OTHER_DEVICE}"),
            Self::Gpu(cache) => cache,
        }
    }
}

impl Cache for DeviceCache {
    fn len(&self) -> usize {
        on_either!(Self, self, cache => cache.len())
    }

    fn capacity(&self) -> usize {
        on_either!(Self, self, cache => cache.capacity())
    }

    fn reserve(&mut self, certain: usize, nodes: usize) -> Result<(), OutOfCacheMemory> {
        on_either!(Self, self, cache => cache.reserve(certain, nodes))
    }

    fn forkable(&self, len: usize) -> usize {
        on_either!(Self, self, cache => cache.forkable(len))
    }

    fn fork(&self, len: usize, capacity: usize) -> Self {
        match self {
            Self::Cpu(cache) => Self::Cpu(cache.fork(len, capacity)),
            #[cfg(feature = "gpu")]
            Self::Gpu(cache) => Self::Gpu(Box::new(cache.fork(len, capacity))),
        }
    }
}
