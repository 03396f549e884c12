//! A model on a GPU: the transformer of the CPU with the operators of a GPU.

use std::sync::{Arc, Mutex, PoisonError};

use lookahead_gpu::{Exactness, Gpu, GpuError, KvMemory};
use lookahead_kernels::{Keep, Kernels, KvLayout, PAGE_ROWS, RopeTable};

use crate::batch;
use crate::cache_budget::CacheBudget;
use crate::cpu_model::{CpuModel, CpuParts};
use crate::gpu_cache::{GpuCache, cpu_steps};
use crate::gpu_pages::GpuPages;
use crate::gpu_split::{GpuFit, Split, usable_bytes};
use crate::kv_cache::KvCache;
use crate::kv_pages::KvPages as _;
use crate::kv_pool::KvPool;
use crate::language_model::{Accepted, CacheMemory, ForwardError, LanguageModel, LogitsOf, SequenceStep};
use crate::logits::Logits;
use crate::token_tree::TokenTree;
use crate::transformer::gpu::{GpuBackend, GpuInput, GpuRows, HostBuffers, OnGpu};
use crate::transformer::{Buffers, Placements, Transformer};

/// Why a model does not run on a GPU.
#[derive(Debug, thiserror::Error)]
pub enum GpuModelError {
    /// Its layers cannot be parted so.
    #[error(
        "{layers} layers are too few for the GPU: of {family} it needs {fewest} at least, as later layers take what earlier ones have; \
         --gpu-layers {fewest} does"
    )]
    NotParted {
        /// The family of the model.
        family: &'static str,
        /// Layers that the GPU was to compute.
        layers: usize,
        /// How many it must compute then, at least.
        fewest: usize,
    },
    /// It does not fit.
    #[error(
        "the model does not fit: its weights take {} bytes there and keys and values {} a token, and {name} has {memory_bytes} bytes; \
         {}, a smaller quantization may fit",
        .whole.weight_bytes,
        .whole.token_bytes,
        advice(.fit)
    )]
    TooLarge {
        /// The layers that were to be there.
        whole: GpuFit,
        /// What fits.
        fit: GpuFit,
        /// Bytes of the GPU's memory.
        memory_bytes: u64,
        /// The GPU.
        name: String,
    },
    /// Beside the weights there is no room for KV caches of the size asked for.
    #[error(
        "{bytes} bytes for KV caches do not fit: beside the weights, {name} has {left} left; a smaller --kv-memory does, or fewer \
         --gpu-layers"
    )]
    NoRoom {
        /// What was asked for.
        bytes: u64,
        /// Bytes that are left.
        left: u64,
        /// The GPU.
        name: String,
    },
    /// KV caches of the size asked for do not fit.
    #[error("{bytes} bytes are too few for KV caches: a page of {PAGE_ROWS} tokens takes {page_bytes}")]
    NoPage {
        /// What was asked for.
        bytes: usize,
        /// Bytes of a page.
        page_bytes: usize,
    },
    /// The GPU fails.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// It fails in the first pass.
    #[error(transparent)]
    FirstPass(#[from] ForwardError),
}

/// What to do where a model does not fit.
fn advice(fit: &GpuFit) -> String {
    match fit.fitting {
        0 => "--device cpu computes all of it on the CPU".to_owned(),
        layers => format!("--gpu-layers {layers} leaves the other {} layers to the CPU", fit.layers - layers),
    }
}

/// Why a sequence does not go on.
const LOST_STATES: &str =
    "the states of a sequence were lost with an earlier pass, which failed: begin it again";

/// Nodes of a pass, however large its buffers may be.
const MOST_NODES: usize = 32_768;
/// Bytes for KV caches where the user names none, at most.
const DEFAULT_KV_BYTES: usize = 2 << 30;
/// Whole contexts for which there is room then, at most.
const DEFAULT_CONTEXTS: usize = 4;

/// A model on a GPU, or a part of it: the CPU computes the layers before, and blocks that the GPU has no operators for.
#[derive(Debug)]
pub struct GpuModel {
    /// The same model on the CPU, whose weights are copied; embeddings are computed of them.
    cpu: CpuModel,
    split: Split,
    pools: Pools,
    ropes: Vec<RopeTable>,
    placements: Placements,
    buffers: Buffers<GpuRows, GpuInput>,
    /// Of blocks that the CPU computes among the GPU's.
    host: HostBuffers,
    on_gpu: Arc<Mutex<OnGpu>>,
    gpu: Arc<Gpu>,
    /// Nodes that a pass may have: their values are one buffer.
    pass_nodes: usize,
}

/// The memory of KV caches: what lies on the GPU, and on the CPU, in one budget.
#[derive(Clone, Debug)]
struct Pools {
    gpu: Arc<KvPool<GpuPages>>,
    cpu: Arc<KvPool>,
}

impl GpuModel {
    /// Uploads the last `gpu_layers` layers of a model, all by default. For KV caches there is room for a few contexts.
    ///
    /// # Errors
    /// If its layers cannot be parted so, or they do not fit.
    pub fn new(cpu: CpuModel, gpu: Arc<Gpu>, gpu_layers: Option<usize>) -> Result<Self, GpuModelError> {
        let architecture = cpu.architecture();
        let split = Split::new(architecture, gpu_layers)?;
        if let Some(memory_bytes) = gpu.memory_bytes() {
            let fit = gpu_fit(&cpu, Some(memory_bytes));
            let layers = architecture.layers.len() - split.first();
            if fit.fitting < layers {
                let whole = split.fit(architecture, cpu.weights(), cpu.kv_type());
                let name = gpu.name().to_owned();
                return Err(GpuModelError::TooLarge { whole, fit, memory_bytes, name });
            }
        }
        let pools = Pools::new(&cpu, split, &gpu, None)?;
        let on_gpu = Arc::new(Mutex::new(OnGpu::new(Arc::clone(&gpu))?));
        let ropes = cpu.weights().rope_tables(architecture);
        let (placements, buffers, host) = (Placements::default(), Buffers::default(), HostBuffers::default());
        let pass_nodes = usize::MAX;
        let mut model = Self { cpu, split, pools, ropes, placements, buffers, host, on_gpu, gpu, pass_nodes };
        model.upload()?;
        Ok(model)
    }

    /// Uploads experts, and runs a token, so that all weights are there and all operators are compiled before somebody waits for them,
    /// and it is known what a token takes.
    fn upload(&mut self) -> Result<(), GpuModelError> {
        let mut on_gpu = self.on_gpu.lock().unwrap_or_else(PoisonError::into_inner);
        self.cpu.weights().experts(self.split.first()).try_for_each(|linear| on_gpu.upload(linear))?;
        drop(on_gpu);
        let tree = TokenTree::chain(&[0]).expect("a token");
        let mut cache = self.new_cache(1);
        let mut logits = Logits::default();
        let step =
            SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Last, keep: Keep::Best(1) };
        self.forward(&mut [step], &mut logits)?;
        let on_gpu = self.on_gpu.lock().unwrap_or_else(PoisonError::into_inner);
        let token_floats = on_gpu.pass_floats().saturating_sub(self.vocabulary_size()).max(1);
        drop(on_gpu);
        // The rest is for logits and for chunks of attention.
        let floats = self.gpu.largest_binding() as usize / 4 * 3 / 8;
        self.pass_nodes = (floats / token_floats).clamp(1, MOST_NODES);
        Ok(())
    }

    /// The same model with at most `bytes` bytes for all KV caches together.
    ///
    /// # Errors
    /// If they are too few for a page, or the GPU has not so many.
    pub fn with_kv_memory(mut self, bytes: usize) -> Result<Self, GpuModelError> {
        let page_bytes = self.pools.page_bytes();
        // The memory that there was is given back first.
        self.pools = Pools::new(&self.cpu, self.split, &self.gpu, Some(page_bytes))?;
        self.pools = Pools::new(&self.cpu, self.split, &self.gpu, Some(bytes))?;
        Ok(self)
    }

    /// The same model with room for so many floats of logits at once: for tests of what happens when they are more.
    #[doc(hidden)]
    #[must_use]
    pub fn with_logit_room(self, floats: usize) -> Self {
        self.on_gpu.lock().unwrap_or_else(PoisonError::into_inner).set_logit_floats(floats);
        self
    }

    /// The same model with other kernels for what the CPU does; weights and the memory for KV caches are shared.
    #[must_use]
    pub fn with_kernels(&self, kernels: Kernels) -> Self {
        Self {
            cpu: self.cpu.with_kernels(kernels),
            split: self.split,
            pools: self.pools.clone(),
            ropes: self.ropes.clone(),
            placements: Placements::default(),
            buffers: Buffers::default(),
            host: HostBuffers::default(),
            on_gpu: Arc::clone(&self.on_gpu),
            gpu: Arc::clone(&self.gpu),
            pass_nodes: self.pass_nodes,
        }
    }

    /// The same model on the CPU; weights are shared.
    pub fn cpu(&self) -> &CpuModel {
        &self.cpu
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// How many of the model's layers the GPU computes, the last ones.
    pub fn gpu_layers(&self) -> usize {
        self.cpu.architecture().layers.len() - self.split.first()
    }

    /// Whether logits have the CPU's bits.
    pub fn has_cpu_bits(&self) -> bool {
        *self.gpu.exactness() == Exactness::Bits
    }
}

/// What of a model fits a GPU with so many bytes of memory; all if that is not known.
pub fn gpu_fit(cpu: &CpuModel, memory_bytes: Option<u64>) -> GpuFit {
    GpuFit::most(cpu.architecture(), cpu.weights(), cpu.kv_type(), memory_bytes)
}

impl Pools {
    /// Memory of up to `bytes` bytes, by default for a few contexts.
    fn new(
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
        let most = (gpu.largest_binding() / largest.unwrap_or(0).max(1)).min(u64::from(KvMemory::MOST_SLOTS));
        let by_default = || {
            let context =
                architecture.context_length.div_ceil(PAGE_ROWS) * page_bytes + architecture.state_bytes();
            let bytes = (DEFAULT_CONTEXTS * context).min(DEFAULT_KV_BYTES).max(page_bytes);
            bytes.min(usize::try_from(left).unwrap_or(usize::MAX))
        };
        let bytes = bytes.unwrap_or_else(by_default);
        let slots = ((bytes / page_bytes.max(1)) as u64).min(most) as usize;
        if slots == 0 {
            return Err(GpuModelError::NoPage { bytes, page_bytes });
        }
        let kept = (slots * gpu_page_bytes) as u64;
        if kept > left {
            return Err(GpuModelError::NoRoom { bytes: kept, left, name: gpu.name().to_owned() });
        }
        let memory = KvMemory::new(gpu, kv_type, gpu_shapes, slots)?;
        let pages = GpuPages::new(Arc::clone(gpu), memory, slots, gpu_page_bytes)?;
        let budget = Arc::new(CacheBudget::new(Some(bytes.min(slots.saturating_mul(page_bytes.max(1))))));
        let states = architecture.recurrent_states();
        Ok(Self {
            gpu: Arc::new(KvPool::with_budget(pages, std::iter::empty(), Arc::clone(&budget))),
            cpu: Arc::new(KvPool::with_budget(layout, states, budget)),
        })
    }

    /// Bytes of a page, on both.
    fn page_bytes(&self) -> usize {
        self.gpu.pages().page_bytes() + self.cpu.pages().page_bytes()
    }
}

impl LanguageModel for GpuModel {
    type Cache = GpuCache;

    fn vocabulary_size(&self) -> usize {
        self.cpu.vocabulary_size()
    }

    fn context_length(&self) -> usize {
        self.cpu.context_length()
    }

    fn pass_nodes(&self) -> usize {
        self.pass_nodes
    }

    fn device(&self) -> String {
        let (name, layers) = (self.gpu.name(), self.cpu.architecture().layers.len());
        match self.gpu_layers() {
            all if all == layers => name.to_owned(),
            some => format!("{name}, {some} of {layers} layers"),
        }
    }

    fn new_cache(&self, capacity: usize) -> GpuCache {
        let Pools { gpu, cpu } = &self.pools;
        GpuCache::new(KvCache::new(Arc::clone(gpu), capacity), KvCache::new(Arc::clone(cpu), capacity))
    }

    fn cache_memory(&self) -> CacheMemory {
        let memory = self.pools.cpu.memory();
        CacheMemory { token_bytes: self.pools.page_bytes() / PAGE_ROWS, ..memory }
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, GpuCache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        let Self { cpu, split, pools, ropes, placements, buffers, host, on_gpu, .. } = self;
        let vocabulary_size = cpu.vocabulary_size();
        let CpuParts { architecture, weights, cpu, buffers: cpu_buffers } = cpu.parts();
        batch::begin(batch, vocabulary_size, weights.positions(architecture))?;
        let pages = pools.gpu.pages();
        if let Some(error) = pages.error() {
            return Err(ForwardError::Device(error));
        }
        if batch.iter().any(|step| step.cache.is_lost()) {
            return Err(ForwardError::Device(LOST_STATES.to_owned()));
        }
        placements.place(batch, ropes);
        let (placements, ropes) = (&*placements, &ropes[..]);
        let entering = if split.first() > 0 {
            let before = Transformer { backend: &mut *cpu, architecture, weights, ropes, placements };
            Some(&before.enter(split.first(), &mut cpu_steps(batch), cpu_buffers)[..])
        } else {
            None
        };
        // A pass that panicked has left nothing that the next one needs.
        let mut on_gpu = on_gpu.lock().unwrap_or_else(PoisonError::into_inner);
        let backend = &mut GpuBackend { on_gpu: &mut on_gpu, pages, cpu, host, entering };
        let transformer = Transformer { backend, architecture, weights, ropes, placements };
        transformer.forward(split.first(), batch, buffers, logits);
        on_gpu.finish().map_err(|error| {
            for step in &mut *batch {
                step.cache.lose_states();
            }
            ForwardError::Device(error.to_string())
        })
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, GpuCache>]) {
        batch::commit(batch);
        self.pools.gpu.pages().move_rows();
    }
}

#[cfg(test)]
mod tests {
    use lookahead_fixtures::Golden;
    use lookahead_gpu::choose;

    use super::*;
    use crate::checkpoint::Checkpoint;

    /// A model of experts, of which a token takes some; `None`, and a word, where there is no GPU.
    fn mixture() -> Option<GpuModel> {
        let gpu = match choose(None) {
            Ok(listing) => Arc::new(Gpu::open(&listing).unwrap()),
            Err(error @ GpuError::NoAdapter) => {
                eprintln!("nothing is tested: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let checkpoint = Checkpoint::open(Golden::load("mixtral").folder).unwrap();
        let cpu = CpuModel::load(&checkpoint, Kernels::new(1)).unwrap();
        Some(GpuModel::new(cpu, gpu, None).unwrap())
    }

    #[test]
    fn all_experts_are_there_when_a_model_is_loaded() {
        let Some(model) = mixture() else { return };
        let (weights, on_gpu) = (model.cpu.weights(), model.on_gpu.lock().unwrap());
        let architecture = model.cpu.architecture();
        let all = model.split.matrices(architecture, weights).count();
        assert!(weights.matrices(architecture).count() < all);
        assert_eq!(on_gpu.matrices(), all);
    }

    #[test]
    fn a_token_takes_no_more_where_others_take_other_experts() {
        const TOKENS: usize = 100;
        let Some(mut model) = mixture() else { return };
        let floats = |model: &GpuModel| model.on_gpu.lock().unwrap().pass_floats();
        let of_one = floats(&model);
        let tree = TokenTree::chain(&(0..TOKENS as u32).collect::<Vec<_>>()).unwrap();
        let mut cache = model.new_cache(TOKENS);
        let (logits_of, keep) = (LogitsOf::Last, Keep::Best(1));
        let step = SequenceStep { tree: &tree, cache: &mut cache, logits_of, keep };
        model.forward(&mut [step], &mut Logits::default()).unwrap();
        assert!(floats(&model) <= TOKENS * of_one, "{} floats, and {of_one} of one token", floats(&model));
    }
}
