//! Linear attention: each sequence's nodes go through the states in its own cache.

use lookahead_kernels::{
    Activations, Kernels, RecurrenceShape, causal_convolution, exp, exp_of_product, gate, rms_norm_in_place,
    sigmoid, softplus, unit_length,
};

use super::history::{Fed, History, NO_TAPS, StateBuffers};
use super::linear::{apply, apply_series};
use crate::architecture::{Decay, Recurrence, UpdateRule};
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::transformer::placements::Placements;
use crate::weights::RecurrenceWeights;

/// Added to squares of queries and keys before they are brought to unit length.
const UNIT_EPSILON: f32 = 1e-6;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct RecurrenceBuffers {
    /// What goes through the convolution, and what decays and rates are made of, as the cache keeps it: `[node][width]`
    fed: Vec<f32>,
    /// Some of it.
    piece: Vec<f32>,
    gates: Vec<f32>,
    /// `[node][head][value_dim]`
    mixed: Vec<f32>,
    /// Between two maps.
    between: Vec<f32>,
    second_input: Activations,
    states: StateBuffers,
}

/// A recurrence block of a pass.
pub(super) struct RecurrenceBlock<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) spec: &'a Recurrence,
    pub(super) weights: &'a RecurrenceWeights,
    /// Of the norm of what is read.
    pub(super) epsilon: f32,
    /// Which of the caches' recurrent layers is its own.
    pub(super) layer: usize,
}

impl RecurrenceBlock<'_> {
    /// `out = output(gate(recurrence(input)))`; `input` is overwritten.
    pub(super) fn run(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        placements: &Placements,
        input: &mut Activations,
        buffers: &mut RecurrenceBuffers,
        out: &mut Vec<f32>,
    ) {
        let Self { kernels, spec, weights, layer, .. } = *self;
        let tokens = placements.positions.len();
        self.feed(tokens, input, buffers);
        let RecurrenceBuffers { gates, fed, mixed, states, .. } = buffers;
        let shape = spec.shape(&weights.skips);
        let (fed_width, out_width) = (spec.state().width, spec.heads * spec.value_dim);
        mixed.resize(tokens * out_width, 0.0);
        let fed = Fed { kernels, placements, layer, values: fed, width: fed_width };
        fed.recur(batch, &shape, states, mixed, |history, row, operands| {
            self.prepare(&shape, history, row, operands);
        });
        let (codes, sources) =
            (weights.output.input_codes(), [(&mut mixed[..], out_width), (&mut gates[..], out_width)]);
        input.compute(
            kernels,
            [tokens, out_width],
            codes,
            sources,
            8 * out_width,
            |_, [mixed, gates], row| {
                self.gate(mixed, gates, row);
            },
        );
        apply(kernels, input, [(&weights.output, out)]);
    }

    /// Computes what nodes feed in, and their gates.
    fn feed(&self, tokens: usize, input: &Activations, buffers: &mut RecurrenceBuffers) {
        let Self { kernels, spec, weights, .. } = *self;
        let RecurrenceBuffers { fed, piece, gates, between, second_input, .. } = buffers;
        apply_series(kernels, input, &weights.gates, second_input, between, gates);
        let width = spec.state().width;
        fed.resize(tokens * width, 0.0);
        let mut start = 0;
        for series in &weights.inputs {
            apply_series(kernels, input, series, second_input, between, piece);
            let len = series.rows();
            let rows = [(&mut fed[..], width), (&mut piece[..], len)];
            kernels.for_each_row(tokens, len, rows, |_, [fed, piece]| {
                fed[start..start + len].copy_from_slice(piece);
            });
            start += len;
        }
    }

    /// Makes the operands of a row of what it and the tokens before it fed in.
    fn prepare(&self, shape: &RecurrenceShape<'_>, history: &History<'_>, row: usize, operands: &mut [f32]) {
        let Self { kernels, spec, weights, .. } = *self;
        let isa = kernels.isa();
        let channels = spec.channels();
        let (convolved, factors) = operands.split_at_mut(channels);
        let mut room = NO_TAPS;
        let taps = history.taps(row, channels, &mut room[..spec.taps]);
        let (convolution, bias) = (&weights.convolution, &weights.convolution_bias);
        causal_convolution(isa, taps, convolution, bias, true, convolved);
        if spec.rule == UpdateRule::Delta {
            let keys = spec.key_heads * spec.key_dim;
            let scale = 1.0 / (spec.key_dim as f32).sqrt();
            for (start, factor) in [(shape.queries, scale), (shape.keys, 1.0)] {
                for head in convolved[start..start + keys].chunks_exact_mut(spec.key_dim) {
                    unit_length(isa, head, UNIT_EPSILON, factor);
                }
            }
        }
        let (decays, rates) = factors.split_at_mut(spec.decay_inputs());
        let (decay_inputs, rate_inputs) = history.row(row)[channels..].split_at(decays.len());
        for ((decay, input), bias) in decays.iter_mut().zip(decay_inputs).zip(&weights.decay_bias) {
            *decay = input + bias;
        }
        match spec.rule {
            UpdateRule::Delta => {
                for (rate, input) in rates.iter_mut().zip(rate_inputs) {
                    *rate = sigmoid(*input);
                }
            }
            UpdateRule::Step => {
                for (rate, step) in rates.iter_mut().zip(&*decays) {
                    *rate = softplus(*step);
                }
            }
        }
        for (decays, &rate) in decays.chunks_exact_mut(spec.decays()).zip(&weights.decay_rates) {
            match spec.decay {
                Decay::OfHeads | Decay::OfKeys => {
                    for decay in decays.iter_mut() {
                        *decay = softplus(*decay);
                    }
                    exp_of_product(isa, decays, -rate);
                }
                Decay::OfKeysWithin(bound) => {
                    for decay in decays.iter_mut() {
                        *decay = exp(bound * sigmoid(rate * *decay));
                    }
                }
            }
        }
    }

    /// Gates and normalises what a node has read.
    fn gate(&self, mixed: &mut [f32], gates: &[f32], row: &mut [f32]) {
        let Self { kernels, spec, weights, epsilon, .. } = *self;
        let isa = kernels.isa();
        let normalise = |values: &mut [f32]| {
            if let Some(groups) = spec.gate.norm_groups {
                let len = values.len() / groups;
                for (group, weights) in values.chunks_exact_mut(len).zip(weights.norm.chunks_exact(len)) {
                    rms_norm_in_place(isa, group, weights, epsilon);
                }
            }
        };
        if !spec.gate.norm_is_behind {
            normalise(mixed);
        }
        gate(isa, spec.gate.activation, gates, mixed, row);
        if spec.gate.norm_is_behind {
            normalise(row);
        }
    }
}
