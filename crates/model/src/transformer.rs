//! The forward pass: token trees of a batch of sequences through the layers of a model.
//!
//! All sequences' nodes are rows of the same matrix products, so that every weight is read once for all of them;
//! attention looks at each sequence's own cache. It reads like the formulas of the architecture, and knows no families.

mod altup;
mod attention;
mod convolution;
mod embedding;
mod experts;
mod feed_forward;
mod history;
mod latent_attention;
mod laurel;
mod linear;
mod logits;
mod norm;
mod per_layer;
mod placements;
mod recurrence;
mod residual;
mod routing;
mod scan;

use lookahead_kernels::{Activations, KeptScratch, Kernels, RopeTable};

use self::attention::{AttentionBlock, AttentionBuffers};
use self::convolution::{ConvolutionBlock, ConvolutionBuffers};
use self::embedding::embed;
use self::experts::{ExpertsBuffers, run_experts};
use self::feed_forward::{HiddenLayer, run_mlp};
use self::latent_attention::{LatentAttentionBlock, LatentBuffers};
use self::laurel::{LaurelBuffers, run_laurel};
use self::logits::OutputHead;
use self::per_layer::PerLayerInputs;
use self::placements::Placements;
use self::recurrence::{RecurrenceBlock, RecurrenceBuffers};
use self::residual::{Residual, ResidualBuffers};
use self::scan::{ScanBlock, ScanBuffers};
use crate::architecture::{Architecture, KeysAndValues, Mixer};
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::logits::Logits;
use crate::weights::{MixerWeights, Weights};

/// Intermediate values of a pass, kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    placements: Placements,
    position_row: Vec<f32>,
    residual: ResidualBuffers,
    /// The input of the next matrix product.
    input: Activations,
    attention: AttentionBuffers,
    latent: LatentBuffers,
    recurrence: RecurrenceBuffers,
    scan: ScanBuffers,
    convolution: ConvolutionBuffers,
    hidden: HiddenLayer,
    experts: ExpertsBuffers,
    per_layer: PerLayerInputs,
    laurel: LaurelBuffers,
    kept: KeptScratch,
}

/// What a pass computes with.
pub(crate) struct Transformer<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) architecture: &'a Architecture,
    pub(crate) weights: &'a Weights,
    /// A table for each of the architecture's ropes.
    pub(crate) ropes: &'a mut [RopeTable],
}

impl Transformer<'_> {
    /// Runs the trees of `batch`, whose caches have room for them, and writes the logits asked for to `logits`.
    pub(crate) fn forward(
        self,
        batch: &mut [SequenceStep<'_, KvCache>],
        buffers: &mut Buffers,
        logits: &mut Logits,
    ) {
        let Self { kernels, architecture, weights, ropes } = self;
        let Buffers {
            placements,
            position_row,
            residual,
            input,
            attention,
            latent,
            recurrence,
            scan,
            convolution,
            hidden,
            experts,
            per_layer,
            laurel,
            kept,
        } = buffers;
        placements.place(batch, ropes);
        let positions = &placements.positions;
        let mut residual = Residual::new(kernels, architecture, weights, residual, positions.len());
        let tokens = || batch.iter().flat_map(|step| step.tree.tokens());
        embed(kernels, architecture, weights, tokens(), positions, position_row, residual.stream_mut());
        if let Some(weights) = &weights.per_layer {
            per_layer.prepare(kernels, architecture, weights, tokens(), residual.stream_mut(), input);
        }
        residual.split(input);
        let (mut kv_layer, mut recurrent_layer) = (0, 0);
        let blocks = architecture.layers.iter().flat_map(|layer| &layer.blocks);
        for (block, weights) in blocks.zip(weights.layers.iter().flatten()) {
            residual.read(block.input, weights.norm.as_ref(), weights.mixer.input_codes(), input);
            let out = residual.result(block.input, weights);
            match (&block.mixer, &weights.mixer) {
                (Mixer::Attention(spec), MixerWeights::Attention(weights)) => {
                    let rope = spec.rope.map(|rope| &ropes[rope]);
                    let norm = architecture.norm;
                    let seen = match spec.keys_and_values {
                        KeysAndValues::Of(earlier) => earlier,
                        KeysAndValues::TwoMatrices | KeysAndValues::OneMatrix => {
                            kv_layer += 1;
                            kv_layer - 1
                        }
                    };
                    let block = AttentionBlock { kernels, spec, weights, norm, rope, kv_layer: seen };
                    block.run(batch, placements, input, attention, out);
                }
                (Mixer::Latent(spec), MixerWeights::Latent(weights)) => {
                    let (rope, norm) = (spec.rope.map(|rope| &ropes[rope]), architecture.norm);
                    let block = LatentAttentionBlock { kernels, spec, weights, norm, rope, kv_layer };
                    block.run(batch, placements, input, latent, out);
                    kv_layer += 1;
                }
                (Mixer::Recurrence(spec), MixerWeights::Recurrence(weights)) => {
                    let epsilon = architecture.norm.epsilon;
                    let block = RecurrenceBlock { kernels, spec, weights, epsilon, layer: recurrent_layer };
                    block.run(batch, placements, input, recurrence, out);
                    recurrent_layer += 1;
                }
                (Mixer::Scan(spec), MixerWeights::Scan(weights)) => {
                    let epsilon = architecture.norm.epsilon;
                    let block = ScanBlock { kernels, spec, weights, epsilon, layer: recurrent_layer };
                    block.run(batch, placements, input, scan, out);
                    recurrent_layer += 1;
                }
                (Mixer::Convolution(spec), MixerWeights::Convolution(weights)) => {
                    let block = ConvolutionBlock { kernels, spec, weights, layer: recurrent_layer };
                    block.run(batch, placements, input, convolution, out);
                    recurrent_layer += 1;
                }
                (Mixer::Dense(spec), MixerWeights::Dense(mlp)) => {
                    run_mlp(kernels, spec, mlp, input, hidden, out);
                }
                (Mixer::Experts(spec), MixerWeights::Experts(weights)) => {
                    run_experts(kernels, spec, weights, input, experts, hidden, out);
                }
                (Mixer::PerLayer(spec), MixerWeights::PerLayer(weights)) => {
                    per_layer.run(kernels, spec, weights, input, out);
                }
                (Mixer::Laurel(_), MixerWeights::Laurel(weights)) => {
                    run_laurel(kernels, architecture.norm, weights, input, laurel, out);
                }
                _ => unreachable!("weights are loaded as the architecture says"),
            }
        }
        for step in batch.iter_mut() {
            step.cache.states().end();
        }
        let head = OutputHead { kernels, architecture, weights };
        head.run(batch, placements, &mut residual, input, kept, logits);
    }
}
