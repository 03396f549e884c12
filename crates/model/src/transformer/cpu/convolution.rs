//! Gated convolutions: a token is mixed with the last few.

use lookahead_kernels::{Activations, Kernels, causal_convolution};

use super::history::{History, NO_TAPS};
use super::linear::apply;
use crate::architecture::GatedConvolution;
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::pass_cache::PassCache as _;
use crate::transformer::placements::Placements;
use crate::weights::ConvolutionWeights;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct ConvolutionBuffers {
    /// `[node][b, c, x]`
    inputs: Vec<f32>,
    /// `b * x`, `[node][width]`
    fed: Vec<f32>,
    /// `[node][width]`
    mixed: Vec<f32>,
}

/// A gated convolution of a pass.
pub(super) struct ConvolutionBlock<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) spec: &'a GatedConvolution,
    pub(super) weights: &'a ConvolutionWeights,
    /// Which of the caches' recurrent layers is its own.
    pub(super) layer: usize,
}

impl ConvolutionBlock<'_> {
    /// `out = output(c * convolution(b * x))`; `input` is overwritten.
    pub(super) fn run(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        placements: &Placements,
        input: &mut Activations,
        buffers: &mut ConvolutionBuffers,
        out: &mut Vec<f32>,
    ) {
        let Self { kernels, spec, weights, layer } = *self;
        let ConvolutionBuffers { inputs, fed, mixed } = buffers;
        let &GatedConvolution { width, taps } = spec;
        let tokens = placements.positions.len();
        apply(kernels, input, [(&weights.input, inputs)]);
        fed.resize(tokens * width, 0.0);
        kernels.for_each_row(tokens, width, [(inputs, 3 * width), (fed, width)], |_, [row, fed]| {
            for ((fed, b), x) in fed.iter_mut().zip(&row[..width]).zip(&row[2 * width..]) {
                *fed = b * x;
            }
        });
        mixed.resize(tokens * width, 0.0);
        for (step, nodes, plan) in placements.scans(batch) {
            let states = step.cache.states();
            let behind = states.behind();
            let own = nodes.start * width..nodes.end * width;
            let state = states.layer(layer);
            let history = History::new(plan, width, &state, &fed[own.clone()]);
            let rows = [(&mut mixed[own.clone()], width)];
            kernels.for_each_row(nodes.len(), taps * width, rows, |node, [mixed]| {
                let mut room = NO_TAPS;
                let taps = history.taps(behind + node, width, &mut room[..taps]);
                causal_convolution(kernels.isa(), taps, &weights.convolution, &weights.bias, false, mixed);
            });
            states.settle(layer, &fed[own]);
        }
        let sources = [(&mut mixed[..], width), (&mut inputs[..], 3 * width)];
        let codes = weights.output.input_codes();
        input.compute(kernels, [tokens, width], codes, sources, width, |_, [mixed, inputs], row| {
            for ((row, mixed), c) in row.iter_mut().zip(mixed).zip(&inputs[width..]) {
                *row = *mixed * c;
            }
        });
        apply(kernels, input, [(&weights.output, out)]);
    }
}
