//! A model on a GPU: the transformer of the CPU with the operators of a GPU.

use std::sync::{Arc, Mutex, PoisonError};

use lookahead_gpu::{Exactness, Gpu};
use lookahead_kernels::{Keep, Kernels, RopeTable};

use super::cache::{GpuCache, cpu_steps};
use super::error::GpuModelError;
use super::pools::Pools;
use super::split::{GpuFit, Split};
use crate::batch;
use crate::cpu_model::{CpuModel, CpuParts};
use crate::language_model::{Accepted, CacheMemory, ForwardError, LanguageModel, LogitsOf, SequenceStep};
use crate::logits::Logits;
use crate::token_tree::TokenTree;
use crate::transformer::gpu::{GpuBackend, GpuInput, GpuRows, HostBuffers, OnGpu};
use crate::transformer::{Buffers, Placements, Transformer};

/// Why a sequence does not go on.
const LOST_STATES: &str =
    "the states of a sequence were lost with an earlier pass, which failed: begin it again";

/// Nodes of a pass, however large its buffers may be.
const MOST_NODES: usize = 32_768;

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
    /// If they are too few for a page, or more than there is room for on the GPU.
    pub fn with_kv_memory(mut self, bytes: usize) -> Result<Self, GpuModelError> {
        let page_bytes = self.pools.page_bytes();
        // The memory that there was is given back first.
        self.pools = Pools::new(&self.cpu, self.split, &self.gpu, Some(page_bytes.max(1)))?;
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
        self.pools.new_cache(capacity)
    }

    fn cache_memory(&self) -> CacheMemory {
        self.pools.memory()
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
        let pages = pools.gpu_pages();
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
        self.pools.gpu_pages().move_rows();
    }
}

#[cfg(test)]
mod tests {
    use lookahead_fixtures::Golden;
    use lookahead_gpu::{GpuError, choose};

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
