//! What of a model a GPU computes: the blocks of its last layers that there are operators for, and the output head. The CPU computes the
//! others; results have the same bits wherever they are computed.

use lookahead_gpu::KvMemory;
use lookahead_kernels::{KvShape, KvType, Matrix, PAGE_ROWS};

use super::error::GpuModelError;
use crate::architecture::{Architecture, Attention, KeysAndValues, Mixer, State};
use crate::transformer::gpu::has_operators;
use crate::weights::Weights;

/// The part of a layer's rows on the device that does not compute it.
const NO_ROWS: KvShape = KvShape { heads: 0, key_dim: 0, value_dim: 0 };

/// Which layers a GPU computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// The first of them; all behind it are too.
    first: usize,
}

impl Split {
    /// The last `gpu_layers` layers on the GPU, all by default.
    ///
    /// # Errors
    /// If the model's layers cannot be parted there.
    pub(crate) fn new(architecture: &Architecture, gpu_layers: Option<usize>) -> Result<Self, GpuModelError> {
        let layers = architecture.layers.len();
        let split = Self { first: layers - gpu_layers.unwrap_or(layers).min(layers) };
        let fewest = split.fewest_layers(architecture);
        if layers - split.first < fewest {
            let family = architecture.family;
            return Err(GpuModelError::NotParted { family, layers: layers - split.first, fewest });
        }
        Ok(split)
    }

    /// The fewest layers, more than these perhaps, that the GPU can have, as later ones need what earlier ones have.
    fn fewest_layers(self, architecture: &Architecture) -> usize {
        let layers = architecture.layers.len();
        if self.first == 0 {
            return 0;
        }
        if architecture.altup.is_some() || architecture.embedding.per_layer.is_some() {
            return layers;
        }
        let (mut owners, mut fewest) = (Vec::new(), 1);
        for (index, layer) in architecture.layers.iter().enumerate() {
            for block in &layer.blocks {
                match block.mixer {
                    Mixer::Attention(Attention { keys_and_values: KeysAndValues::Of(earlier), .. })
                        if index >= self.first =>
                    {
                        fewest = fewest.max(layers - owners[earlier]);
                    }
                    _ if matches!(block.mixer.state(), State::Rows(_)) => owners.push(index),
                    _ => {}
                }
            }
        }
        fewest
    }

    /// The first layer that the GPU computes.
    pub(crate) fn first(self) -> usize {
        self.first
    }

    /// Whether the GPU computes a block of layer `layer`.
    fn is_on_gpu(self, layer: usize, mixer: &Mixer) -> bool {
        layer >= self.first && has_operators(mixer)
    }

    /// What of each of the caches' layers lies on the GPU, and what on the CPU.
    pub(crate) fn kv_shapes(self, architecture: &Architecture) -> [Vec<KvShape>; 2] {
        let (mut gpu, mut cpu) = (Vec::new(), Vec::new());
        for (index, layer) in architecture.layers.iter().enumerate() {
            for block in &layer.blocks {
                if let State::Rows(shape) = block.mixer.state() {
                    let is_on_gpu = self.is_on_gpu(index, &block.mixer);
                    gpu.push(if is_on_gpu { shape } else { NO_ROWS });
                    cpu.push(if is_on_gpu { NO_ROWS } else { shape });
                }
            }
        }
        [gpu, cpu]
    }

    /// What these layers take there.
    pub(crate) fn fit(self, architecture: &Architecture, weights: &Weights, kv_type: KvType) -> GpuFit {
        let layers = architecture.layers.len();
        let page_bytes = KvMemory::slot_bytes(kv_type, self.kv_shapes(architecture)[0].iter().copied());
        GpuFit {
            layers,
            fitting: layers - self.first,
            weight_bytes: self.weight_bytes(architecture, weights),
            token_bytes: page_bytes / PAGE_ROWS as u64,
        }
    }

    /// The matrices on the GPU.
    pub(crate) fn matrices<'a>(
        self,
        architecture: &'a Architecture,
        weights: &'a Weights,
    ) -> impl Iterator<Item = &'a Matrix> {
        let layers = architecture.layers.iter().zip(&weights.layers).enumerate();
        let blocks = layers.flat_map(move |(index, (layer, weights))| {
            let blocks = layer.blocks.iter().zip(weights);
            blocks.filter(move |(block, _)| self.is_on_gpu(index, &block.mixer))
        });
        let linears = blocks.flat_map(|(_, weights)| weights.mixer.linears(usize::MAX));
        linears.map(|linear| &linear.matrix).chain(weights.shared_matrices())
    }

    /// Their bytes.
    pub(crate) fn weight_bytes(self, architecture: &Architecture, weights: &Weights) -> u64 {
        self.matrices(architecture, weights).map(|matrix| matrix.bytes() as u64).sum()
    }
}

/// What of a model fits a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuFit {
    /// Layers of the model.
    pub layers: usize,
    /// How many of them fit, the last ones, with keys and values of a context of 4,096 tokens, or of the model's if that is shorter.
    pub fitting: usize,
    /// Bytes of the weights of those, and of the output head.
    pub weight_bytes: u64,
    /// Bytes of keys and values of a token in those.
    pub token_bytes: u64,
}

impl GpuFit {
    /// The most layers that fit `memory_bytes`; all if these are not known.
    pub(crate) fn most(
        architecture: &Architecture,
        weights: &Weights,
        kv_type: KvType,
        memory_bytes: Option<u64>,
    ) -> Self {
        let layers = architecture.layers.len();
        let splits = (1..=layers).rev().filter_map(|count| Split::new(architecture, Some(count)).ok());
        let context = architecture.context_length.min(FITTING_CONTEXT).next_multiple_of(PAGE_ROWS);
        let fits = |fit: &Self| {
            let bytes = fit.weight_bytes + fit.token_bytes * context as u64;
            memory_bytes.is_none_or(|memory| bytes <= usable_bytes(memory))
        };
        let nothing = Self { layers, fitting: 0, weight_bytes: 0, token_bytes: 0 };
        splits.map(|split| split.fit(architecture, weights, kv_type)).find(fits).unwrap_or(nothing)
    }
}

/// Tokens for whose keys and values there is room where layers are said to fit.
const FITTING_CONTEXT: usize = 4096;

/// Of the memory of a GPU, the part that is left for the values of passes and for others.
const SPARE_PART: u64 = 16;

/// Bytes of a GPU's memory that weights, keys and values may take.
pub(crate) fn usable_bytes(memory_bytes: u64) -> u64 {
    memory_bytes - memory_bytes / SPARE_PART
}
