//! The forward pass: token trees of a batch of sequences through the layers of a model, on any device.
//!
//! All sequences' nodes are rows of the same matrix products, so that every weight is read once for all of them;
//! attention looks at each sequence's own cache. It reads like the formulas of the architecture, and knows no families. What a device
//! does for it are the operators of a [`Backend`].

mod attention;
mod backend;
mod cpu;
mod experts;
mod feed_forward;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod latent_attention;
mod laurel;
mod logits;
mod per_layer;
mod placements;
mod residual;
mod routing;

use std::ops::Range;

use lookahead_kernels::RopeTable;

use self::attention::{AttentionBuffers, run_attention};
use self::backend::{AttentionBlock, Backend, LatentBlock, OtherBlock, Step};
pub(crate) use self::cpu::Cpu;
use self::experts::{ExpertsBuffers, run_experts};
use self::feed_forward::{HiddenLayer, run_mlp};
use self::latent_attention::{LatentBuffers, run_latent_attention};
use self::laurel::{LaurelBuffers, run_laurel};
use self::logits::OutputHead;
use self::per_layer::PerLayerInputs;
pub(crate) use self::placements::Placements;
use self::residual::{Residual, ResidualBuffers};
use crate::architecture::{Architecture, Attention, KeysAndValues, Mixer, State};
use crate::logits::Logits;
use crate::pass_cache::PassCache as _;
use crate::weights::{MixerWeights, Weights};

/// Intermediate values of a pass, kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct Buffers<Rows, Input> {
    residual: ResidualBuffers<Rows>,
    blocks: BlockBuffers<Rows, Input>,
}

/// Those of blocks.
#[derive(Debug, Default)]
struct BlockBuffers<Rows, Input> {
    /// The input of the next matrix product.
    input: Input,
    attention: AttentionBuffers<Rows>,
    latent: LatentBuffers<Rows, Input>,
    laurel: LaurelBuffers<Rows, Input>,
    hidden: HiddenLayer<Rows, Input>,
    experts: ExpertsBuffers<Rows, Input>,
    per_layer: PerLayerInputs<Rows, Input>,
}

/// A pass over nodes that are placed, on a device.
pub(crate) struct Transformer<'d, 'a, B> {
    pub(crate) backend: &'d mut B,
    pub(crate) architecture: &'a Architecture,
    pub(crate) weights: &'a Weights,
    /// A table for each of the architecture's ropes.
    pub(crate) ropes: &'a [RopeTable],
    /// Where the nodes stand.
    pub(crate) placements: &'a Placements,
}

impl<'a, B: Backend> Transformer<'_, 'a, B> {
    /// Runs the trees of `batch`, whose caches have room for them, through the layers from `first` on, and writes the logits asked for to
    /// `logits`. Another device has run the layers before, whose results are given to this one.
    pub(crate) fn forward(
        mut self,
        first: usize,
        batch: &mut [Step<'_, B>],
        buffers: &mut Buffers<B::Rows, B::Input>,
        logits: &mut Logits,
    ) {
        let Buffers { residual, blocks } = buffers;
        let layers = first..self.architecture.layers.len();
        let mut residual = self.run_layers(layers, batch, residual, blocks);
        for step in batch.iter_mut() {
            step.cache.states().end();
        }
        let Self { backend, architecture, weights, placements, .. } = self;
        let head = OutputHead { architecture, weights };
        head.run(backend, batch, placements, &mut residual, &mut blocks.input, logits);
    }

    /// Runs the first `count` layers only, and returns what enters the next one, `[node][hidden]`.
    #[cfg(feature = "gpu")]
    pub(crate) fn enter<'b>(
        mut self,
        count: usize,
        batch: &mut [Step<'_, B>],
        buffers: &'b mut Buffers<B::Rows, B::Input>,
    ) -> &'b B::Rows
    where
        'a: 'b,
    {
        let Buffers { residual, blocks } = buffers;
        let residual = self.run_layers(0..count, batch, residual, blocks);
        residual.finish(self.backend, &mut blocks.input)
    }

    /// Runs these layers, and returns the stream behind the last one.
    fn run_layers<'b>(
        &mut self,
        layers: Range<usize>,
        batch: &mut [Step<'_, B>],
        stream: &'b mut ResidualBuffers<B::Rows>,
        buffers: &mut BlockBuffers<B::Rows, B::Input>,
    ) -> Residual<'b, B>
    where
        'a: 'b,
    {
        let Self { architecture, weights, ropes, placements, .. } = *self;
        let backend = &mut *self.backend;
        let BlockBuffers { input, attention, latent, laurel, hidden, experts, per_layer } = buffers;
        let nodes = placements.positions.len();
        let mut residual = Residual::new(architecture, weights, stream, nodes);
        backend.embed(architecture, weights, batch, placements, residual.stream_mut());
        if let Some(weights) = &weights.per_layer {
            per_layer.prepare(backend, architecture, weights, batch, &mut residual, input);
        }
        residual.split(backend, input);
        let mut cache_layers = CacheLayers::default();
        let norm = architecture.norm;
        let blocks = architecture.layers.iter().zip(&weights.layers).enumerate();
        let blocks = blocks.flat_map(|(index, (layer, weights))| {
            layer.blocks.iter().zip(weights).map(move |(block, weights)| (index, block, weights))
        });
        for (index, block, weights) in blocks {
            let layer = cache_layers.of(&block.mixer);
            if !layers.contains(&index) {
                continue;
            }
            residual.read(backend, block.input, weights.norm.as_ref(), weights.mixer.input_codes(), input);
            let out = residual.result(block.input, weights);
            match (&block.mixer, &weights.mixer) {
                (Mixer::Attention(spec), MixerWeights::Attention(weights)) => {
                    let rope = spec.rope.map(|rope| &ropes[rope]);
                    let block = AttentionBlock { spec, weights, norm, rope, kv_layer: layer };
                    run_attention(backend, &block, batch, placements, input, attention, out);
                }
                (Mixer::Latent(spec), MixerWeights::Latent(weights)) => {
                    let rope = spec.rope.map(|rope| &ropes[rope]);
                    let block = LatentBlock { spec, weights, norm, rope, kv_layer: layer };
                    run_latent_attention(backend, &block, batch, placements, input, latent, out);
                }
                (Mixer::Laurel(_), MixerWeights::Laurel(weights)) => {
                    run_laurel(backend, norm, weights, nodes, input, laurel, out);
                }
                (Mixer::Dense(spec), MixerWeights::Dense(mlp)) => {
                    run_mlp(backend, spec, mlp, input, hidden, out);
                }
                (Mixer::Experts(spec), MixerWeights::Experts(weights)) => {
                    run_experts(backend, spec, weights, input, experts, out);
                }
                (Mixer::PerLayer(spec), MixerWeights::PerLayer(weights)) => {
                    per_layer.run(backend, spec, weights, input, out);
                }
                (mixer, weights) => {
                    let block = OtherBlock { mixer, weights, norm, layer };
                    backend.run_other(&block, batch, placements, input, out);
                }
            }
        }
        residual
    }
}

/// Counts the caches' layers: those of rows, and those of states.
#[derive(Debug, Default)]
struct CacheLayers {
    rows: usize,
    states: usize,
}

impl CacheLayers {
    /// Which of them the next block sees: its own, or those that another has; 0 if it sees none.
    fn of(&mut self, mixer: &Mixer) -> usize {
        if let Mixer::Attention(Attention { keys_and_values: KeysAndValues::Of(earlier), .. }) = *mixer {
            return earlier;
        }
        let own = match mixer.state() {
            State::Rows(_) => &mut self.rows,
            State::Recurrent(_) => &mut self.states,
            State::Nothing => return 0,
        };
        *own += 1;
        *own - 1
    }
}
