//! A model on a GPU: the transformer of the CPU with the operators of a GPU.

use std::sync::{Arc, Mutex, PoisonError};

use lookahead_gpu::{Exactness, Gpu, GpuError, KvMemory};
use lookahead_kernels::{Keep, Kernels, KvType, Matrix, PAGE_ROWS, RopeTable};

use crate::architecture::Architecture;
use crate::batch;
use crate::cpu_model::CpuModel;
use crate::gpu_pages::GpuPages;
use crate::kv_cache::KvCache;
use crate::kv_pages::KvPages as _;
use crate::kv_pool::KvPool;
use crate::language_model::{Accepted, CacheMemory, ForwardError, LanguageModel, LogitsOf, SequenceStep};
use crate::logits::Logits;
use crate::token_tree::TokenTree;
use crate::transformer::gpu::{GpuBackend, GpuInput, GpuRows, OnGpu, missing_operator};
use crate::transformer::{Buffers, Transformer};

/// Why a model does not run on a GPU.
#[derive(Debug, thiserror::Error)]
pub enum GpuModelError {
    /// There are no operators for something.
    #[error("models with {missing} run on the CPU only so far ({family}): use --device cpu")]
    Unsupported {
        /// The family of the model.
        family: &'static str,
        /// What there are no operators for.
        missing: &'static str,
    },
    /// It does not fit.
    #[error(
        "the model does not fit: its weights take {weight_bytes} bytes, and {name} has {memory_bytes}; a smaller quantization does, \
         or --device cpu"
    )]
    TooLarge {
        /// Bytes of the weights on the GPU.
        weight_bytes: u64,
        /// Bytes of the GPU's memory.
        memory_bytes: u64,
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

/// Nodes of a pass, however large its buffers may be.
const MOST_NODES: usize = 32_768;
/// Bytes for KV caches where the user names none, at most.
const DEFAULT_KV_BYTES: usize = 2 << 30;
/// Whole contexts for which there is room then, at most.
const DEFAULT_CONTEXTS: usize = 4;

/// A model on a GPU.
#[derive(Debug)]
pub struct GpuModel {
    /// The same model on the CPU, whose weights are copied; embeddings are computed of them.
    cpu: CpuModel,
    kv_pool: Arc<KvPool<GpuPages>>,
    ropes: Vec<RopeTable>,
    buffers: Buffers<GpuRows, GpuInput>,
    on_gpu: Arc<Mutex<OnGpu>>,
    gpu: Arc<Gpu>,
    /// Nodes that a pass may have: their values are one buffer.
    pass_nodes: usize,
}

impl GpuModel {
    /// Uploads a model. `kv_bytes` bounds its KV caches; by default there is room for a few contexts.
    ///
    /// # Errors
    /// If the model has something that there are no operators for, or does not fit.
    pub fn new(cpu: CpuModel, gpu: Arc<Gpu>, kv_bytes: Option<usize>) -> Result<Self, GpuModelError> {
        let architecture = cpu.architecture();
        if let Some(missing) = missing_operator(architecture) {
            return Err(GpuModelError::Unsupported { family: architecture.family, missing });
        }
        let weight_bytes = cpu.weights().all_matrices().map(Matrix::bytes).sum::<usize>() as u64;
        if let Some(memory_bytes) = gpu.memory_bytes().filter(|&memory| weight_bytes > memory) {
            return Err(GpuModelError::TooLarge { weight_bytes, memory_bytes, name: gpu.name().to_owned() });
        }
        let kv_pool = Arc::new(kv_pool(architecture, &gpu, cpu.kv_type(), kv_bytes)?);
        let on_gpu = Arc::new(Mutex::new(OnGpu::new(Arc::clone(&gpu))?));
        let ropes = cpu.weights().rope_tables(architecture);
        let pass_nodes = usize::MAX;
        let mut model = Self { cpu, kv_pool, ropes, buffers: Buffers::default(), on_gpu, gpu, pass_nodes };
        model.upload()?;
        Ok(model)
    }

    /// Uploads experts, and runs a token, so that all weights are there and all operators are compiled before somebody waits for them,
    /// and it is known what a token takes.
    fn upload(&mut self) -> Result<(), GpuModelError> {
        let mut on_gpu = self.on_gpu.lock().unwrap_or_else(PoisonError::into_inner);
        self.cpu.weights().experts().try_for_each(|linear| on_gpu.upload(linear))?;
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
        let architecture = self.cpu.architecture();
        let pool = |bytes| kv_pool(architecture, &self.gpu, self.cpu.kv_type(), Some(bytes)).map(Arc::new);
        // The memory that there was is given back first.
        self.kv_pool = pool(self.kv_pool.pages().page_bytes())?;
        self.kv_pool = pool(bytes)?;
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
            kv_pool: Arc::clone(&self.kv_pool),
            ropes: self.ropes.clone(),
            buffers: Buffers::default(),
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

    /// Whether logits have the CPU's bits.
    pub fn has_cpu_bits(&self) -> bool {
        *self.gpu.exactness() == Exactness::Bits
    }
}

/// Memory for KV caches on a GPU, of up to `bytes` bytes.
fn kv_pool(
    architecture: &Architecture,
    gpu: &Arc<Gpu>,
    kv_type: KvType,
    bytes: Option<usize>,
) -> Result<KvPool<GpuPages>, GpuModelError> {
    let page_bytes = KvMemory::slot_bytes(kv_type, architecture.kv_shapes()) as usize;
    // A layer's rows are one buffer.
    let largest =
        architecture.kv_shapes().map(|shape| KvMemory::slot_bytes(kv_type, [shape])).max().unwrap_or(1);
    let most = (gpu.largest_binding() / largest.max(1)) as usize;
    let wanted = bytes.map_or_else(
        || {
            let contexts = DEFAULT_CONTEXTS * architecture.context_length.div_ceil(PAGE_ROWS);
            contexts.min((DEFAULT_KV_BYTES / page_bytes.max(1)).max(1))
        },
        |bytes| bytes / page_bytes.max(1),
    );
    let slots = wanted.min(most);
    if slots == 0 {
        return Err(GpuModelError::NoPage { bytes: bytes.unwrap_or(0), page_bytes });
    }
    let memory = KvMemory::new(gpu, kv_type, architecture.kv_shapes(), slots)?;
    let pages = GpuPages::new(Arc::clone(gpu), memory, slots, page_bytes)?;
    Ok(KvPool::new(pages, std::iter::empty(), Some(slots * page_bytes)))
}

impl LanguageModel for GpuModel {
    type Cache = KvCache<GpuPages>;

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
        self.gpu.name().to_owned()
    }

    fn new_cache(&self, capacity: usize) -> Self::Cache {
        KvCache::new(Arc::clone(&self.kv_pool), capacity)
    }

    fn cache_memory(&self) -> CacheMemory {
        self.kv_pool.memory()
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, Self::Cache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        let Self { cpu, kv_pool, ropes, buffers, on_gpu, .. } = self;
        let (architecture, weights) = (cpu.architecture(), cpu.weights());
        batch::begin(batch, cpu.vocabulary_size(), weights.positions(architecture))?;
        if let Some(error) = kv_pool.pages().error() {
            return Err(ForwardError::Device(error));
        }
        // A pass that panicked has left nothing that the next one needs.
        let mut on_gpu = on_gpu.lock().unwrap_or_else(PoisonError::into_inner);
        let backend = &mut GpuBackend { on_gpu: &mut on_gpu, pages: kv_pool.pages(), kernels: cpu.kernels() };
        Transformer { backend, architecture, weights, ropes }.forward(batch, buffers, logits);
        on_gpu.finish().map_err(|error| ForwardError::Device(error.to_string()))
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, Self::Cache>]) {
        batch::commit(batch);
        self.kv_pool.pages().move_rows();
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
        assert!(weights.matrices(model.cpu.architecture()).count() < weights.all_matrices().count());
        assert_eq!(on_gpu.matrices(), weights.all_matrices().count());
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
