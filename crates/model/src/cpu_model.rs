//! A model on the CPU: loading, settings, and its forward pass as a [`LanguageModel`].

use std::sync::Arc;

use lookahead_kernels::{Activations, Kernels, KvLayout, KvType, Matrix, RopeTable, WeightType};

use crate::architecture::Architecture;
use crate::batch;
use crate::kv_cache::KvCache;
use crate::kv_pool::KvPool;
use crate::language_model::{Accepted, CacheMemory, ForwardError, LanguageModel, SequenceStep};
use crate::load_error::LoadError;
use crate::logits::Logits;
use crate::model_files::ModelFiles;
use crate::transformer::{Buffers, Cpu, Placements, Transformer};
use crate::weights::{self, Weights};

/// A model on the CPU.
#[derive(Debug)]
pub struct CpuModel {
    architecture: Arc<Architecture>,
    weights: Arc<Weights>,
    cpu: Cpu,
    kv_pool: Arc<KvPool>,
    ropes: Vec<RopeTable>,
    placements: Placements,
    buffers: Buffers<Vec<f32>, Activations>,
}

/// What the CPU computes with, and what it computes.
#[cfg(feature = "gpu")]
pub(crate) struct CpuParts<'a> {
    pub(crate) architecture: &'a Architecture,
    pub(crate) weights: &'a Weights,
    pub(crate) cpu: &'a mut Cpu,
    pub(crate) buffers: &'a mut Buffers<Vec<f32>, Activations>,
}

impl CpuModel {
    /// Loads the model of `files`, a GGUF file or a checkpoint, to run on `kernels`.
    ///
    /// # Errors
    /// If the files are no complete model of a known architecture.
    pub fn load<'a>(files: impl Into<ModelFiles<'a>>, kernels: Kernels) -> Result<Self, LoadError> {
        Self::load_quantized(files, kernels, None)
    }

    /// The same with dense matrices made into `quantize`, one of [`WeightType::WRITABLE`]: the embedding and the output head
    /// into `Q8_0` at least, as are rows that are no whole blocks of it; what chooses experts stays as it is.
    ///
    /// # Errors
    /// As [`CpuModel::load`].
    ///
    /// # Panics
    /// If `quantize` is none of those.
    pub fn load_quantized<'a>(
        files: impl Into<ModelFiles<'a>>,
        kernels: Kernels,
        quantize: Option<WeightType>,
    ) -> Result<Self, LoadError> {
        assert!(quantize.is_none_or(|to| WeightType::WRITABLE.contains(&to)), "a type that is written");
        let files = files.into();
        let (architecture, layout) = Architecture::describe(files)?;
        let weights = weights::load(files, &layout, &architecture, &kernels, quantize)?;
        let kv_pool = kv_pool(&architecture, KvType::default(), None);
        Ok(Self::assemble(Arc::new(architecture), Arc::new(weights), kernels, kv_pool))
    }

    /// The same model on other kernels; the weights and the memory for KV caches are shared.
    #[must_use]
    pub fn with_kernels(&self, kernels: Kernels) -> Self {
        let kv_pool = Arc::clone(&self.kv_pool);
        Self::assemble(Arc::clone(&self.architecture), Arc::clone(&self.weights), kernels, kv_pool)
    }

    /// The same model with KV caches of another type. Logits are a pure function of the tokens for each type.
    #[must_use]
    pub fn with_kv_type(self, kv_type: KvType) -> Self {
        let kv_pool = kv_pool(&self.architecture, kv_type, self.kv_pool.max_bytes());
        Self { kv_pool, ..self }
    }

    /// The same model with at most `bytes` bytes for all KV caches together, in whole pages of
    /// [`PAGE_ROWS`](lookahead_kernels::PAGE_ROWS) tokens. Without a bound, they take what the system gives.
    #[must_use]
    pub fn with_kv_memory(self, bytes: usize) -> Self {
        let kv_pool = kv_pool(&self.architecture, self.kv_type(), Some(bytes));
        Self { kv_pool, ..self }
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_pool.pages().kv_type()
    }

    fn assemble(
        architecture: Arc<Architecture>,
        weights: Arc<Weights>,
        kernels: Kernels,
        kv_pool: Arc<KvPool>,
    ) -> Self {
        let ropes = weights.rope_tables(&architecture);
        let (cpu, placements, buffers) = (Cpu::new(kernels), Placements::default(), Buffers::default());
        Self { architecture, weights, cpu, kv_pool, ropes, placements, buffers }
    }

    /// What the model consists of.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Its weights, for another device.
    #[cfg(feature = "gpu")]
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What another device needs for the part that the CPU computes.
    #[cfg(feature = "gpu")]
    pub(crate) fn parts(&mut self) -> CpuParts<'_> {
        let Self { architecture, weights, cpu, buffers, .. } = self;
        CpuParts { architecture, weights, cpu, buffers }
    }

    /// What the model runs on.
    pub fn kernels(&self) -> &Kernels {
        self.cpu.kernels()
    }

    /// Bytes of the weight matrices that a forward pass over one token reads: all but an embedding that is not the output
    /// head as well, of which a pass reads a row a token, and experts that the token does not take.
    pub fn weight_bytes(&self) -> usize {
        self.weights.matrices(&self.architecture).map(Matrix::bytes).sum()
    }

    /// Multiply-adds of one token with the weight matrices, logits included: in integers, and in floats.
    pub fn macs_per_token(&self) -> [usize; 2] {
        let mut macs = [0; 2];
        for matrix in self.weights.matrices(&self.architecture) {
            macs[usize::from(!matrix.weight_type().is_quantized())] += matrix.rows() * matrix.columns();
        }
        macs
    }

    /// Bytes of the KV cache for one token.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.architecture.kv_bytes_per_token(self.kv_type())
    }
}

impl LanguageModel for CpuModel {
    type Cache = KvCache;

    fn vocabulary_size(&self) -> usize {
        self.weights.head().rows()
    }

    fn context_length(&self) -> usize {
        self.architecture.context_length.min(self.weights.positions(&self.architecture))
    }

    fn new_cache(&self, capacity: usize) -> KvCache {
        KvCache::new(Arc::clone(&self.kv_pool), capacity)
    }

    fn cache_memory(&self) -> CacheMemory {
        self.kv_pool.memory()
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, KvCache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        let positions = self.weights.positions(&self.architecture);
        batch::begin(batch, self.vocabulary_size(), positions)?;
        let Self { architecture, weights, cpu: backend, ropes, placements, buffers, .. } = self;
        placements.place(batch, ropes);
        let transformer = Transformer { backend, architecture, weights, ropes, placements };
        transformer.forward(0, batch, buffers, logits);
        Ok(())
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, KvCache>]) {
        batch::commit(batch);
    }
}

/// An empty pool for the caches of a model on the CPU.
fn kv_pool(architecture: &Architecture, kv_type: KvType, max_bytes: Option<usize>) -> Arc<KvPool> {
    let layout = KvLayout::new(kv_type, architecture.kv_shapes());
    Arc::new(KvPool::new(layout, architecture.recurrent_states(), max_bytes))
}
