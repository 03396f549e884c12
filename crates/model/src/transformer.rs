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
mod logits;
mod per_layer;
mod placements;
mod residual;
mod routing;

use lookahead_kernels::RopeTable;

use self::attention::{AttentionBuffers, run_attention};
use self::backend::{AttentionBlock, Backend, OtherBlock, Step};
pub(crate) use self::cpu::Cpu;
use self::experts::{ExpertsBuffers, run_experts};
use self::feed_forward::{HiddenLayer, run_mlp};
use self::logits::OutputHead;
use self::per_layer::PerLayerInputs;
use self::placements::Placements;
use self::residual::{Residual, ResidualBuffers};
use crate::architecture::{Architecture, Attention, KeysAndValues, Mixer, State};
use crate::logits::Logits;
use crate::weights::{MixerWeights, Weights};

/// Intermediate values of a pass, kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct Buffers<Rows, Input> {
    placements: Placements,
    residual: ResidualBuffers<Rows>,
    /// The input of the next matrix product.
    input: Input,
    attention: AttentionBuffers<Rows>,
    hidden: HiddenLayer<Rows, Input>,
    experts: ExpertsBuffers<Rows, Input>,
    per_layer: PerLayerInputs<Rows, Input>,
}

/// What a pass computes with.
pub(crate) struct Transformer<'a, B> {
    pub(crate) backend: &'a mut B,
    pub(crate) architecture: &'a Architecture,
    pub(crate) weights: &'a Weights,
    /// A table for each of the architecture's ropes.
    pub(crate) ropes: &'a mut [RopeTable],
}

impl<B: Backend> Transformer<'_, B> {
    /// Runs the trees of `batch`, whose caches have room for them, and writes the logits asked for to `logits`.
    pub(crate) fn forward(
        self,
        batch: &mut [Step<'_, B>],
        buffers: &mut Buffers<B::Rows, B::Input>,
        logits: &mut Logits,
    ) {
        let Self { backend, architecture, weights, ropes } = self;
        let Buffers { placements, residual, input, attention, hidden, experts, per_layer } = buffers;
        placements.place(batch, ropes);
        let mut residual = Residual::new(architecture, weights, residual, placements.positions.len());
        backend.embed(architecture, weights, batch, placements, residual.stream_mut());
        if let Some(weights) = &weights.per_layer {
            per_layer.prepare(backend, architecture, weights, batch, &mut residual, input);
        }
        residual.split(backend, input);
        let mut cache_layers = CacheLayers::default();
        let norm = architecture.norm;
        let blocks = architecture.layers.iter().flat_map(|layer| &layer.blocks);
        for (block, weights) in blocks.zip(weights.layers.iter().flatten()) {
            residual.read(backend, block.input, weights.norm.as_ref(), weights.mixer.input_codes(), input);
            let out = residual.result(block.input, weights);
            let layer = cache_layers.of(&block.mixer);
            match (&block.mixer, &weights.mixer) {
                (Mixer::Attention(spec), MixerWeights::Attention(weights)) => {
                    let rope = spec.rope.map(|rope| &ropes[rope]);
                    let block = AttentionBlock { spec, weights, norm, rope, kv_layer: layer };
                    run_attention(backend, &block, batch, placements, input, attention, out);
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
                    let block = OtherBlock { mixer, weights, norm, ropes, layer };
                    backend.run_other(&block, batch, placements, input, out);
                }
            }
        }
        for step in batch.iter_mut() {
            step.cache.states().end();
        }
        let head = OutputHead { architecture, weights };
        head.run(backend, batch, placements, &mut residual, input, logits);
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
